"""Expanding lists of methods and settings into runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from tttkd_ros.evaluation.replay import RunConfig
from tttkd_ros.methods import FROZEN, METHODS, OFFLINE_KD, ONLINE_KD, SOURCE_ONLY

ALL = "all"


def plan(
    names: Sequence[str],
    common: RunConfig,
    *,
    strides: Sequence[int],
    learning_rates: Sequence[float],
    bn_momenta: Sequence[float],
    steps: Sequence[int],
    images: Sequence[int] = (),
    source_only: bool = False,
) -> list[RunConfig]:
    """List the runs, each once, in the order of `METHODS`. Frozen is always the first, as the baseline.

    Args:
        names: methods, or "all".
        common: settings that all runs share. Its control applies to methods that learn from images.
        strides: of every online method.
        learning_rates, bn_momenta: of ttt-kd-o and ttt-kd; the other methods have their own.
        steps: of ttt-kd; online methods take one per sweep.
        images: of methods that learn from images; empty for no limit.
        source_only: whether to run the student trained without the teacher as well.
    """
    if not names:
        raise ValueError(f"no method given, expected at least one of {ALL}, {', '.join(METHODS)}")
    wanted = {FROZEN, *names}
    if ALL in wanted:
        wanted |= {name for name in METHODS if name != SOURCE_ONLY}
    if source_only:
        wanted.add(SOURCE_ONLY)
    runs = []
    for name, spec in METHODS.items():
        if name not in wanted:
            continue
        kd = name in (ONLINE_KD, OFFLINE_KD)
        choices = {
            "stride": strides if spec.online else (),
            "learning_rate": learning_rates if kd else (),
            "bn_momentum": bn_momenta if kd else (),
            "steps": steps if name == OFFLINE_KD else (1,),
        }
        choices = {key: values for key, values in choices.items() if values}
        for count, *values in product((spec.uses_images and images) or (None,), *choices.values()):
            config = replace(common.config, **dict(zip(choices, values, strict=True)))
            control = common.control if spec.uses_images else None
            runs.append(replace(common, method=name, config=config, images=count, control=control))
    return list({run.title: run for run in runs}.values())
