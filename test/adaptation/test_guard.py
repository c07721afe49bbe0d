import dataclasses

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.guard import ALIGNMENT_WINDOW, Guard, measure

CONFIG = TTTConfig(min_alignment=0.02, patience=3)
GRID = (6, 8)


@pytest.fixture
def world():
    """Predictions of points, a smooth map of features, and the patch of each point. Predictions are noisy features."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 16, 4, 5, generator=random)
    table = torch.nn.functional.interpolate(coarse, GRID, mode="bilinear")[0].flatten(1).T
    patch = torch.randint(0, len(table), (500,), generator=random)
    predicted = table[patch] + 0.5 * torch.randn(500, 16, generator=random)
    return predicted, table, patch


def columns(patch):
    return patch % GRID[1]


def test_the_right_patch_agrees_better_than_its_neighbours(world):
    assert measure(*world, GRID) > 0.02


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_neighbouring_patch_agrees_less(world, down, right):
    predicted, table, patch = world
    row, column = patch // GRID[1] + down, columns(patch) + right
    inside = (row >= 0) & (row < GRID[0]) & (column >= 0) & (column < GRID[1])
    assert measure(predicted[inside], table, (row * GRID[1] + column)[inside], GRID) < -0.02


def test_features_of_another_image_have_no_alignment(world):
    predicted, table, patch = world
    other = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(1))]
    assert measure(predicted, other, patch, GRID) < 0.02


def test_uniform_features_have_no_alignment(world):
    predicted, table, patch = world
    assert measure(predicted, table.mean(0).expand_as(table), patch, GRID) == pytest.approx(0, abs=1e-5)


def test_patches_of_another_view_are_no_neighbours(world):
    predicted, table, patch = world
    trap = predicted.mean(0).expand(len(table), -1)  # a view in which every place agrees with everything
    both = torch.cat([trap, table, trap])
    alone, beside = measure(*world, GRID), measure(predicted, both, patch + len(table), GRID)
    assert beside == pytest.approx(alone, abs=1e-5)


def test_a_single_patch_has_no_neighbours():
    assert np.isnan(measure(torch.ones(3, 2), torch.ones(1, 2), torch.zeros(3, dtype=torch.long), (1, 1)))


def test_good_evidence_passes():
    assert Guard().check(0.05, CONFIG) == ""


def test_a_low_mean_alignment_is_rejected_with_its_values():
    reason = Guard().check(0.01, CONFIG)
    assert "0.010" in reason and "0.036" in reason


def test_a_rejection_names_the_likely_causes():
    for guard, words in ((Guard(), "train them for it"), (Guard(simulated=True), "trained in simulation only")):
        reason = guard.check(0.01, CONFIG)
        causes = ("the image does not belong", "the extrinsics", "do not know this domain")
        assert all(cause in reason for cause in causes)
        assert words in reason


def test_a_mean_over_few_sweeps_has_to_be_higher():
    guard = Guard()
    assert guard.check(0.03, CONFIG)
    assert [bool(guard.check(0.03, CONFIG)) for _ in range(4)] == [True, False, False, False]


def test_a_doubtful_sweep_is_rejected_however_good_the_mean_is():
    guard = Guard()
    for _ in range(ALIGNMENT_WINDOW):
        guard.check(0.05, CONFIG)
    assert guard.check(0.001, CONFIG) == ""
    assert guard.check(-0.001, CONFIG)
    assert guard.check(0.03, CONFIG) == ""


def test_a_good_sweep_after_many_doubtful_ones_is_rejected():
    guard = Guard()
    for _ in range(ALIGNMENT_WINDOW):
        guard.check(0.0, CONFIG)
    assert guard.check(0.05, CONFIG)


def test_one_clearly_misaligned_sweep_is_rejected():
    guard = Guard()
    for _ in range(ALIGNMENT_WINDOW):
        guard.check(0.5, CONFIG)
    assert "alignment -0.050" in guard.check(-0.05, CONFIG)


def test_an_alignment_that_cannot_be_measured_is_rejected_and_not_averaged():
    guard = Guard()
    assert guard.check(float("nan"), CONFIG)
    assert guard.check(0.05, CONFIG) == ""


def test_the_guard_pauses_after_rejections_in_a_row_until_a_full_window_is_good():
    guard = Guard()
    for _ in range(CONFIG.patience):
        assert guard.paused is False
        guard.check(-0.1, CONFIG)
        guard.reject(CONFIG.patience)
    assert guard.paused
    reasons = [guard.check(0.05, CONFIG) for _ in range(ALIGNMENT_WINDOW)]
    assert all(reasons[:-1]) and not reasons[-1]
    guard.accept()
    assert not guard.paused


def view(make_frame, stamp, shade):
    original = make_frame().views[0]
    return dataclasses.replace(original, stamp=stamp, image=np.full_like(original.image, shade))


def test_an_identical_image_with_a_new_stamp_is_frozen(make_frame):
    guard = Guard()
    assert guard.check_images((view(make_frame, 1, 7),)) == ""
    assert "image of front is frozen" in guard.check_images((view(make_frame, 2, 7),))
    assert guard.check_images((view(make_frame, 3, 8),)) == ""


def test_one_image_for_two_sweeps_is_not_frozen(make_frame):
    guard = Guard()
    assert [guard.check_images((view(make_frame, 1, 7),)) for _ in range(2)] == ["", ""]
