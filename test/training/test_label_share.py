"""A share of the labelled frames: which ones they are, and that the number of steps stays."""

import numpy as np
import pytest

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.segmenter.checkpoint import describe
from tttkd_ros.training.batches import Batches
from tttkd_ros.training.label_share import LabelShare
from tttkd_ros.training.loop import Optimisation
from tttkd_ros.training.preparation import PreparedPart, prepare
from tttkd_ros.training.prepared import FrameSettings
from tttkd_ros.training.student_training import train_student


@pytest.fixture
def parts(tmp_path):
    return [PreparedPart(name, tmp_path / name, frames, np.full(256, frames), 1)
            for name, frames in (("a", 300), ("b", 500), ("c", 200))]


def used(share):
    return {(part, number) for part, numbers in enumerate(share.numbers) for number in numbers}


def test_smaller_shares_are_part_of_larger_ones(parts):
    shares = [used(LabelShare(parts, share, 0)) for share in (0.0001, 0.01, 0.05, 0.1, 0.2, 1.0)]
    assert [len(each) for each in shares] == [1, 10, 50, 100, 200, 1000]
    assert all(small < large for small, large in zip(shares, shares[1:], strict=False))


def test_the_seed_draws_the_frames_evenly(parts):
    shares = [used(LabelShare(parts, 0.1, seed)) for seed in range(50)]
    assert shares[0] == used(LabelShare(parts, 0.1, 0)) and shares[0] != shares[1]
    counts = np.zeros(3)
    for part, number in set().union(*shares):
        assert 0 <= number < parts[part].frames
        counts[part] += 1
    assert np.allclose(counts / counts.sum(), (0.3, 0.5, 0.2), atol=0.03)


def test_an_epoch_has_the_steps_of_all_frames(parts):
    paths = LabelShare(parts, 0.01, 0).paths()
    assert len(paths) == 1000 and len(set(paths)) == 10
    assert {paths.count(path) for path in set(paths)} == {100}


def test_all_frames_keep_their_order(parts):
    share = LabelShare(parts, 1.0, 0)
    assert share.paths() == [path for part in parts for path in part.paths()] and str(share) == "all 1000"
    assert (share.label_counts() == 1000).all()


def test_class_weights_know_the_frames_used_alone(toy_part, tmp_path):
    prepared = prepare([toy_part(6)], tmp_path, FrameSettings(3), quiet=True)
    share = LabelShare(prepared, 0.2, 0)
    (number,) = share.numbers[0]
    assert str(share) == f"1 of 6: toy {number}"
    counts = share.label_counts()
    assert counts[number % 3] == counts.sum() > 0


def test_the_training_uses_these_frames_alone(tiny_config, tmp_path, capsys, monkeypatch):
    read, steps = set(), []
    draw, build = Batches.__getitem__, Optimisation.build

    def spy(batches, step):
        read.update(batches.frames)
        return draw(batches, step)

    monkeypatch.setattr(Batches, "__getitem__", spy)
    monkeypatch.setattr(Optimisation, "build", lambda each, module: steps.append(each.steps) or build(each, module))
    train_student(config := tiny_config(tmp_path / "student.safetensors", label_share=0.2, batch=4, epochs=3))
    assert len(read) == 1 and steps == [3]
    (number,) = (int(path.stem) for path in read)
    assert f"labelled frames: 1 of 6: drive {number}\n" in capsys.readouterr().out
    provenance = describe(config.out)[1]
    assert provenance["labelled_frames"] == f"1 of 6: drive {number}" and provenance["label_share"] == "0.2"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(tiny_config, tmp_path, share):
    with pytest.raises(ValueError, match="label_share is .*expected more than 0 and at most 1"):
        tiny_config(tmp_path / "student.safetensors", label_share=share)


def test_frames_without_labels_of_the_classes_are_refused(tiny, tiny_config, tmp_path):
    frames = tiny.frames()
    order = np.random.default_rng((0, 5)).permutation(len(frames))
    frames[order[0]].labels[:] = UNLABELLED
    data = (str(tiny.bag(tmp_path / "drive", frames)),)
    with pytest.raises(ValueError, match="none of these frames has a label of the classes .*choose a larger share"):
        train_student(tiny_config(tmp_path / "student.safetensors", data=data, label_share=0.1))
