import dataclasses

import numpy as np
import torch

from tttkd_ros.adaptation.targets import teacher_targets, with_features, with_features_of


def targets(frame, teacher, seed=0):
    found = teacher_targets(frame, teacher, torch.Generator().manual_seed(seed))
    return found.index, found.features


def test_points_in_view_get_their_patch_feature(make_frame, teacher):
    frame = make_frame()
    index, target = targets(frame, teacher)
    assert len(index) > 100
    assert target.shape == (len(index), teacher.dim)
    points = frame.points[index]
    assert (points[:, 0] > 0).all()  # none from behind the camera
    top, bottom = teacher([frame.views[0].image])[0, [0, 3], 0]
    above = torch.tensor(points[:, 2] > 0)
    torch.testing.assert_close(target[above], top.expand(int(above.sum()), -1))
    torch.testing.assert_close(target[~above], bottom.expand(int((~above).sum()), -1))


def test_points_that_are_not_finite_are_left_out(make_frame, teacher):
    frame = make_frame()
    before, _ = targets(frame, teacher)
    frame.points[before[:7]] = np.nan
    after, target = targets(frame, teacher)
    assert not set(after.tolist()) & set(before[:7].tolist())
    assert target.isfinite().all()


def test_one_of_several_cameras_is_drawn(make_frame, teacher):
    frame = make_frame()
    view = frame.views[0]
    other = dataclasses.replace(view, image=np.zeros_like(view.image))
    index, target = targets(dataclasses.replace(frame, views=(view, other)), teacher)
    dark = (target == 0).all(1).float().mean()
    assert 0.3 < dark < 0.7
    assert torch.equal(index, targets(frame, teacher)[0])


def test_the_same_seed_draws_the_same(make_frame, teacher):
    frame = make_frame()
    frame = dataclasses.replace(frame, views=frame.views * 2)
    assert all(torch.equal(a, b) for a, b in zip(targets(frame, teacher), targets(frame, teacher), strict=True))


def test_the_teacher_runs_on_the_images_that_have_no_features_yet(make_frame, teacher):
    first = make_frame().views[0]
    second = dataclasses.replace(first, name="second", stamp=first.stamp + 1, image=255 - first.image)
    early, late = make_frame(views=(second,)), make_frame(views=(first, second))
    expected = with_features(late, teacher)
    seen = with_features(early, teacher)
    calls = []

    class Counting:
        dim, grid = teacher.dim, teacher.grid

        def __call__(self, images):
            calls.append(len(images))
            return teacher(images)

    found = with_features(with_features_of(late, seen), Counting())
    assert calls == [1]
    for view, other in zip(found.views, expected.views, strict=True):
        np.testing.assert_array_equal(view.features, other.features)
    stamped = dataclasses.replace(second, stamp=second.stamp + 1)
    assert with_features_of(make_frame(views=(stamped,)), seen).views[0].features is None


def test_the_teacher_is_not_called_if_no_point_is_visible(make_frame, teacher):
    frame = make_frame()
    index, target = targets(dataclasses.replace(frame, points=-np.abs(frame.points)), teacher)
    assert (len(index), target.shape, teacher.calls) == (0, (0, teacher.dim), 0)


def test_a_frame_without_views_has_no_targets(make_frame, teacher):
    assert len(targets(make_frame(views=()), teacher)[0]) == 0
