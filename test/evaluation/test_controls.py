import pytest
import torch

from tttkd_ros.evaluation.drives import MeanFeatures


def test_every_image_gets_the_mean_map_of_all(teacher, make_frame):
    image = make_frame().views[0].image
    images = [image, image // 2, image * 0]
    mean = MeanFeatures(teacher, images)
    expected = torch.cat([teacher([image]) for image in images]).mean(0)
    features = mean([images[2], images[0]])
    assert features.shape == (2, 4, 8, 6)
    assert (mean.dim, mean.grid) == (teacher.dim, teacher.grid)
    torch.testing.assert_close(features[0], expected)
    torch.testing.assert_close(features[1], expected)


def test_no_images_are_refused(teacher):
    with pytest.raises(ValueError, match="at least one"):
        MeanFeatures(teacher, [])
