"""Features as colours: the same direction has the same colour."""

import numpy as np

from tttkd_ros.teacher.feature_colours import FeatureColours


def test_the_same_direction_has_the_same_colour_whatever_its_length():
    features = np.random.default_rng(0).normal(size=(200, 8))
    colours = FeatureColours(features)
    first, second = colours(features), colours(features[:5] * 7)
    np.testing.assert_allclose(first[:5].astype(int), second.astype(int), atol=1)
    assert first.dtype == np.uint8 and first.std(0).min() > 20


def test_unlike_features_have_unlike_colours():
    groups = np.repeat(np.eye(3), 50, 0) + np.random.default_rng(0).normal(0, 0.01, (150, 3))
    means = FeatureColours(groups)(groups).reshape(3, 50, 3).mean(1)
    assert min(np.abs(means[a] - means[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 100


def test_equal_features_have_one_colour():
    assert len(np.unique(FeatureColours(np.ones((6, 8)))(np.ones((3, 8))), axis=0)) == 1
