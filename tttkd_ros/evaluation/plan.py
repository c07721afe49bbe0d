"""Which runs a list of methods and of settings makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from tttkd_ros.evaluation.replay import FROZEN, METHODS, OFFLINE_KD, ONLINE, ONLINE_KD, SOURCE_ONLY, Method

ALL = "all"


def plan(
    names: Sequence[str],
    common: Method,
    *,
    strides: Sequence[int],
    learning_rates: Sequence[float],
    bn_momenta: Sequence[float],
    steps: Sequence[int],
    images: Sequence[int] = (),
    source_only: bool = False,
) -> list[Method]:
    """Each run once, in the order of `METHODS`. The first is frozen in any case: what the others are compared with.

    common: what the runs share, whatever its name; a control, where they learn from images. strides: of every online
    method. learning_rates, bn_momenta: of ttt-kd-o and ttt-kd; the others have their own. steps: of ttt-kd; online
    methods take one for each sweep. images: of those that learn from images; () for all there are. source_only: whether
    there is such a student; it is then run as well.
    """
    if not names:
        raise ValueError(f"no method given, expected at least one of {ALL}, {', '.join(METHODS)}")
    wanted = {FROZEN, *names}
    if ALL in wanted:
        wanted |= {name for name in METHODS if name != SOURCE_ONLY}
    if source_only:
        wanted.add(SOURCE_ONLY)
    runs = []
    for name in METHODS:
        if name not in wanted:
            continue
        lists = {
            "stride": strides if name in ONLINE else (),
            "learning_rate": learning_rates if name in (ONLINE_KD, OFFLINE_KD) else (),
            "bn_momentum": bn_momenta if name in (ONLINE_KD, OFFLINE_KD) else (),
            "steps": steps if name == OFFLINE_KD else (1,),
        }
        looks = Method(name).uses_images
        for count, *values in product((looks and images) or (None,), *(given or (None,) for given in lists.values())):
            chosen = {key: value for key, value in zip(lists, values, strict=True) if value is not None}
            runs.append(replace(
                common, name=name, config=replace(common.config, **chosen), images=count,
                control=common.control if looks else None,
            ))
    return list({run.title: run for run in runs}.values())
