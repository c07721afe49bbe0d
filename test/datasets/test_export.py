"""What is exported for a labelling tool comes back as it was."""

import cv2
import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.cli.export import export
from tttkd_ros.datasets.source import open_source


@pytest.fixture
def bag(tiny, tmp_path):
    return tiny.bag(tmp_path / "drive", tiny.frames(1))


def test_every_second_sweep_comes_back_with_its_labels(bag, tmp_path):
    export(str(bag), tmp_path / "out", every=2)
    written = list(open_source(str(bag), OUTDOOR)[0])[::2]
    (part,) = open_source(f"labels:{tmp_path / 'out'}", OUTDOOR)
    assert len(part) == len(written) > 1
    for found, frame in zip(part, written, strict=True):
        assert np.array_equal(found.points, frame.points)
        assert np.array_equal(found.labels, frame.labels)
        for view in frame.views:
            image = cv2.imread(str(tmp_path / "out" / "drive" / view.name / f"{frame.stamp}.png"))
            assert np.array_equal(image[..., ::-1], view.image)


def test_labels_that_are_copied_into_the_bags_folder_are_its_truth(bag, tmp_path):
    export(str(bag), tmp_path / "out", every=2)
    for path in (labels := tmp_path / "out" / "drive" / "labels").iterdir():
        np.full(path.stat().st_size // 4, 2, "<u4").tofile(path)
    labels.rename(bag / "labels")
    (tmp_path / "out" / "classes.yaml").rename(bag / "classes.yaml")
    (part,) = open_source(str(bag), OUTDOOR)
    found = [frame.labels for frame in part]
    assert all(labels is None for labels in found[1::2])
    assert all((labels == 1).all() for labels in found[::2])
    assert part.labelled == len(found[::2])


def test_a_folder_that_exists_and_a_bad_number_are_refused(bag, tmp_path):
    with pytest.raises(ValueError, match="every is 0, expected at least 1"):
        export(str(bag), tmp_path / "out", every=0)
    export(str(bag), tmp_path / "out")
    with pytest.raises(ValueError, match="drive exists: choose another folder"):
        export(str(bag), tmp_path / "out")
