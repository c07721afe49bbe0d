"""Colours of a teacher's features: their three main components (DITR, arXiv 2503.18944, figure 3)."""

from __future__ import annotations

import numpy as np

MIN_FEATURES = 4  # fewer have no three components
PERCENTILES = 2, 98  # of a component, that become its darkest and brightest colour


class FeatureColours:
    """Gives a direction of features the same colour each time. Their length does not count, as in the loss.

    features: (M, dim), of at least `MIN_FEATURES` points, whose three main components become red, green and blue.
    """

    def __init__(self, features: np.ndarray):
        directions = _directions(features)
        self._mean = directions.mean(0)
        self._axes = np.linalg.svd(directions - self._mean, full_matrices=False)[2][:3].T
        low, high = np.percentile(self._components(features), PERCENTILES, axis=0)
        self._low, self._range = low, np.maximum(high - low, 1e-12)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the colours (K, 3) uint8 of features (K, dim)."""
        return (255 * np.clip((self._components(features) - self._low) / self._range, 0, 1)).astype(np.uint8)

    def _components(self, features: np.ndarray) -> np.ndarray:
        return (_directions(features) - self._mean) @ self._axes


def _directions(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
