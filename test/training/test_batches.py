"""Batches follow from seed and step, keep correspondences, and take no memory for the other frames."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from tttkd_ros.training.augmentation import Augmentation
from tttkd_ros.training.batches import Batches, BatchSettings
from tttkd_ros.training.preparation import FrameTeacher, prepare
from tttkd_ros.training.prepared import FrameSettings, read_frame

SETTINGS = BatchSettings(size=2, seed=0, offset=1.0, voxel_size=0.3, kd_points=100, patches=8)
STILL = replace(SETTINGS, augmentation=Augmentation(0, 0, 0, 0))


@pytest.fixture(params=["cached", "computed"])
def paths(request, tiny, toy_part, tmp_path):
    teacher = FrameTeacher(str(tiny.teacher), "", "cpu") if request.param == "cached" else None
    return prepare([toy_part(6)], tmp_path, FrameSettings(3, (), (2, 4), (28, 56)), teacher, quiet=True)[0].paths()


def equal(one, other):
    return torch.equal(one.xyz, other.xyz) and torch.equal(one.visible, other.visible) and torch.equal(
        one.offsets, other.offsets)


def test_a_batch_follows_from_seed_and_step(paths):
    batches = Batches(paths, SETTINGS)
    assert equal(batches[4], Batches(paths, SETTINGS)[4])
    assert not equal(batches[4], batches[3])
    assert not equal(batches[4], Batches(paths, replace(SETTINGS, seed=1))[4])
    assert not torch.equal(batches[0].xyz, batches[batches.per_epoch].xyz)


def test_workers_draw_the_same_batches(paths):
    batches = Batches(paths, SETTINGS)
    loader = DataLoader(batches, None, sampler=range(3, 7), num_workers=2, collate_fn=lambda batch: batch)
    for step, batch in enumerate(loader, 3):
        assert torch.equal(batch.xyz, batches[step].xyz) and torch.equal(batch.visible, batches[step].visible)


def test_an_epoch_has_each_frame_once(paths):
    batches = Batches(paths, STILL)
    first = {tuple(read_frame(path).points.xyz[0].tolist()) for path in paths}
    drawn = [cloud.xyz[0] for step in range(batches.per_epoch) for cloud in batches[step].clouds()]
    assert {tuple(point.tolist()) for point in drawn} == first and len(drawn) == len(paths)


@pytest.mark.parametrize("mix3d", [0.0, 1.0])
def test_targets_belong_to_their_points(paths, mix3d):
    """With the points not augmented, each is found in its frame again."""
    batch = Batches(paths, replace(STILL, augmentation=replace(STILL.augmentation, drop=0.2, mix3d=mix3d)))[1]
    assert len(batch.counts) == len(batch.offsets) == (1 if mix3d else 2)
    expected = {}
    for frame in map(read_frame, paths):
        for number, point in enumerate(frame.points.xyz.tolist()):
            expected[tuple(point)] = frame, number
    for place, row in enumerate(batch.visible.tolist()):
        frame, number = expected[tuple(batch.xyz[row].tolist())]
        patch = frame.patches[0, number]
        assert batch.labels[row] == frame.labels[number] and patch >= 0
        if frame.maps is not None:
            assert torch.equal(batch.table[batch.patch[place]], frame.maps[0, patch])
        else:
            image, within = divmod(int(batch.patch[place]), 8)
            assert torch.equal(batch.images[image], frame.images[0]) and within == patch
    assert 100 < len(batch.visible) <= 200


def test_processes_share_the_batch_of_one(paths):
    whole = Batches(paths, replace(SETTINGS, size=4))[0]
    shares = [Batches(paths, SETTINGS, rank, 2)[0] for rank in range(2)]
    assert torch.equal(torch.cat([share.xyz for share in shares]), whole.xyz)
    assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)


def test_several_cameras_take_turns(toy_part, tmp_path):
    part = toy_part(2)
    part.frames = [replace(frame, views=frame.views * 2) for frame in part.frames]
    (prepared,) = prepare([part], tmp_path, FrameSettings(3, (), (2, 4), (28, 56)), quiet=True)
    view = Batches(prepared.paths(), replace(SETTINGS, size=1))[0].patch // 8
    assert 20 < view.sum() < 80


def test_frames_without_cameras_or_labels_have_neither(toy_part, tmp_path):
    part = toy_part(2)
    part.frames = [replace(frame, views=(), labels=None) for frame in part.frames]
    (prepared,) = prepare([part], tmp_path, FrameSettings(3, (), (2, 4), (28, 56)), quiet=True)
    batch = Batches(prepared.paths(), SETTINGS)[0]
    assert len(batch.visible) == 0 and (batch.labels == 255).all()


def test_a_box_crops_and_far_points_are_left_out(paths):
    batch = Batches(paths, replace(STILL, box=(0, -9, -9, 9, 9, 9)))[0]
    assert batch.xyz[:, 0].min() >= 0 and batch.xyz[:, 0].max() <= 9
    assert Batches(paths, replace(STILL, voxel_size=1e-3))[0].xyz.abs().max() < 2.1


def test_too_few_frames_are_refused(paths):
    with pytest.raises(ValueError, match="there are 6 frames, but a step takes 7"):
        Batches(paths, replace(SETTINGS, size=7))


def test_memory_does_not_grow_with_the_frames(paths):
    """What a worker is given are paths alone, and a step reads no more files than it has clouds."""
    opened = []

    class Paths(list):
        def __getitem__(self, index):
            opened.append(index)
            return super().__getitem__(index)

    Batches(Paths(paths * 100), SETTINGS)[3]
    assert len(opened) == SETTINGS.size
    assert len(pickle.dumps(Batches(paths * 100, SETTINGS))) < 10_000
