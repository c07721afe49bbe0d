"""Running `tttkd evaluate` with the tiny models."""

from functools import partial

import pytest

import tttkd_ros.torchvision_import  # noqa: F401 (before a test imports torchmetrics)
from tttkd_ros.cli.evaluate import evaluate


@pytest.fixture
def run(tiny):
    """`run(bag, ..., **options)`: evaluate without the guard, which rightly rejects random models' steps."""
    models = {"model": tiny.model, "teacher": str(tiny.teacher), "engine": "eager", "guard": False}
    return lambda *bags, **options: partial(evaluate, bags, **(models | options))()
