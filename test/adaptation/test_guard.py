import dataclasses

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.guard import USUAL, WINDOW, Guard, alignment, held_out

CONFIG = TTTConfig(min_alignment=0.02, max_drop=0.2, max_gradient=5.0, patience=3)
GRID = (6, 8)


@pytest.fixture
def world():
    """A smooth map of features over the patches; points that answer with their own patch's feature, and some noise."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 16, 4, 5, generator=random)
    table = torch.nn.functional.interpolate(coarse, GRID, mode="bilinear")[0].flatten(1).T
    patch = torch.randint(0, len(table), (500,), generator=random)
    predicted = table[patch] + 0.5 * torch.randn(500, 16, generator=random)
    return predicted, table, patch


def columns(patch):
    return patch % GRID[1]


def test_the_right_place_agrees_better_than_any_near_it(world):
    assert alignment(*world, GRID) > 0.02


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_place_beside_the_right_one_agrees_less(world, down, right):
    predicted, table, patch = world
    row, column = patch // GRID[1] + down, columns(patch) + right
    inside = (row >= 0) & (row < GRID[0]) & (column >= 0) & (column < GRID[1])
    assert alignment(predicted[inside], table, (row * GRID[1] + column)[inside], GRID) < -0.02


def test_the_features_of_another_image_make_no_difference(world):
    predicted, table, patch = world
    other = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(1))]
    assert alignment(predicted, other, patch, GRID) < 0.02


def test_a_map_without_structure_is_no_evidence(world):
    predicted, table, patch = world
    assert alignment(predicted, table.mean(0).expand_as(table), patch, GRID) == pytest.approx(0, abs=1e-5)


def test_neighbours_of_another_view_are_not_compared_with(world):
    predicted, table, patch = world
    trap = predicted.mean(0).expand(len(table), -1)  # a view in which every place agrees with everything
    both = torch.cat([trap, table, trap])
    assert alignment(predicted, both, patch + len(table), GRID) == pytest.approx(alignment(*world, GRID), abs=1e-5)


def test_a_single_patch_has_no_neighbours_to_compare_with():
    assert np.isnan(alignment(torch.ones(3, 2), torch.ones(1, 2), torch.zeros(3, dtype=torch.long), (1, 1)))


def test_steps_on_good_evidence_are_taken():
    assert Guard().objects(0.05, 0.6, CONFIG) == ""


def test_an_average_below_what_is_asked_for_is_objected_to_with_the_figures():
    reason = Guard().objects(0.01, 0.6, CONFIG)
    assert "0.010" in reason and "0.036" in reason


def test_a_refusal_names_image_extrinsics_and_domain_and_models_from_simulation_for_what_they_are():
    for guard, words in ((Guard(), "train them for it"), (Guard(simulated=True), "trained in simulation and know no")):
        reason = guard.objects(0.01, 0.6, CONFIG)
        assert all(cause in reason for cause in ("the image is not of", "the extrinsics", "do not know this domain"))
        assert words in reason


def test_the_first_sweeps_need_more_evidence_than_many_do():
    guard = Guard()
    assert guard.objects(0.03, 0.6, CONFIG)
    assert [bool(guard.objects(0.03, 0.6, CONFIG)) for _ in range(4)] == [True, False, False, False]


def test_one_doubtful_sweep_is_borne_with_where_the_average_is_good():
    guard = Guard()
    for _ in range(WINDOW):
        guard.objects(0.05, 0.6, CONFIG)
    assert guard.objects(0.0, 0.6, CONFIG) == ""


def test_one_sweep_that_is_clearly_misaligned_is_objected_to_at_once():
    guard = Guard()
    for _ in range(WINDOW):
        guard.objects(0.5, 0.6, CONFIG)
    assert "alignment -0.050" in guard.objects(-0.05, 0.6, CONFIG)


def test_no_evidence_is_objected_to_and_not_averaged():
    guard = Guard()
    assert guard.objects(float("nan"), 0.6, CONFIG)
    assert guard.objects(0.05, 0.6, CONFIG) == ""


def accepted(guard, found=0.09, before=()):
    guard.objects(found, 0.6, CONFIG)
    guard.accept(found, 0.6, 1.0, before)


def test_a_drop_of_the_cosine_is_objected_to_once_it_is_known_what_is_usual():
    guard = Guard()
    for _ in range(USUAL):
        assert guard.objects(0.05, -1.0, CONFIG) == ""
        guard.accept(0.05, 0.6, 1.0, [])
    assert "0.600 is usual" in guard.objects(0.05, 0.3, CONFIG)
    assert guard.objects(0.05, 0.5, CONFIG) == ""


def test_a_gradient_longer_than_usual_is_shortened():
    guard = Guard()
    for _ in range(USUAL):
        accepted(guard)  # a norm of 1 each
    assert [guard.share(norm, CONFIG) for norm in (0.0, 4.0, 10.0)] == [1.0, 1.0, 0.5]


def test_the_first_steps_are_short_whatever_their_gradient():
    guard, shares = Guard(), []
    for _ in range(USUAL + 1):
        shares.append(guard.share(1.0, CONFIG))
        accepted(guard)
    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_steps_on_doubtful_evidence_are_undone_with_all_that_followed():
    guard = Guard()
    for number, found in enumerate((0.09, 0.09, 0.09, 0.09, 0.01, 0.09)):
        accepted(guard, found, before=[number])
    assert guard.objects(-0.5, 0.6, CONFIG)
    assert guard.reject(CONFIG, [6]) == [4]
    assert guard.reject(CONFIG, [4]) is None


def test_of_steps_on_good_evidence_the_mean_stays_when_the_stream_turns_bad():
    guard = Guard()
    for number in range(WINDOW + 2):
        accepted(guard, before=[torch.tensor([float(number), 0.0])])
    assert guard.objects(-0.5, 0.6, CONFIG)
    last = float(WINDOW + 2)
    (mean,) = guard.reject(CONFIG, [torch.tensor([last, 5.0])])
    assert mean.tolist() == [last - (WINDOW - 1) / 2, 5.0 / WINDOW]  # of the weights after each of the last steps


def test_only_the_first_objection_in_a_row_takes_the_mean():
    guard = Guard()
    for number in range(USUAL):
        accepted(guard, before=[torch.tensor(float(number))])
    assert guard.reject(CONFIG, [torch.tensor(9.0)]) is not None
    assert guard.reject(CONFIG, [torch.tensor(9.0)]) is None


def test_the_first_few_steps_are_all_undone_at_an_objection():
    guard = Guard()
    for number in range(USUAL - 1):
        accepted(guard, before=[number])
    assert guard.objects(-0.5, 0.6, CONFIG)
    assert guard.reject(CONFIG, [4]) == [0]


def test_it_pauses_after_objections_in_a_row_and_goes_on_after_a_whole_window_of_good_evidence():
    guard = Guard()
    for _ in range(CONFIG.patience):
        assert guard.paused is False
        guard.objects(-0.1, 0.6, CONFIG)
        guard.reject(CONFIG, [])
    assert guard.paused
    reasons = [guard.objects(0.05, 0.6, CONFIG) for _ in range(WINDOW)]
    assert all(reasons[:-1]) and not reasons[-1]
    guard.accept(0.05, 0.6, 1.0, [])
    assert not guard.paused


def view(make_frame, stamp, shade):
    original = make_frame().views[0]
    return dataclasses.replace(original, stamp=stamp, image=np.full_like(original.image, shade))


def test_an_image_that_does_not_change_though_its_stamp_does_is_frozen(make_frame):
    guard = Guard()
    assert guard.objects_to_images((view(make_frame, 1, 7),)) == ""
    assert "image of front is frozen" in guard.objects_to_images((view(make_frame, 2, 7),))
    assert guard.objects_to_images((view(make_frame, 3, 8),)) == ""


def test_one_image_that_serves_two_sweeps_is_not_frozen(make_frame):
    guard = Guard()
    assert [guard.objects_to_images((view(make_frame, 1, 7),)) for _ in range(2)] == ["", ""]


def test_points_are_either_held_out_or_trained_on():
    held, rest = held_out(1000, torch.Generator().manual_seed(0))
    assert sorted(torch.cat([held, rest]).tolist()) == list(range(1000))
    assert len(held) == 250
    assert len(held_out(100_000, torch.Generator())[0]) == 1024
