"""`tttkd evaluate`: methods and controls on a bag with truth, lossless and in process, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttkd_ros.adaptation.config import TTTConfig


def evaluate(
    bag: tyro.conf.Positional[Path],
    /,
    *,
    method: tuple[Literal["frozen", "ttt-kd-o", "ttt-kd"], ...] = ("frozen", "ttt-kd-o"),
    control: Literal["other-image", "mean-features"] | None = None,
    stride: int = TTTConfig.stride,
    learning_rate: float = TTTConfig.learning_rate,
    steps: int = TTTConfig.steps,
    kd_points: int = TTTConfig.kd_points,
    guard: bool = TTTConfig.guard,
    seed: int = 0,
    shift_z: float = 0.0,
    limit: int | None = None,
    model: Path | None = None,
    teacher: str | None = None,
    engine: str = "auto",
    device: str = "cpu",
    rig: Path | None = None,
    points_topic: str | None = None,
    truth_topic: str | None = None,
    cameras: tuple[str, ...] | None = None,
    labels: Path | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Replay a bag through the pipeline and print the mIoU of each method.

    Every sweep is answered and every due step is taken, between predictions, so the figures do not depend on the
    machine's speed: the same bag, weights and seed give the same table and the same JSON, byte for byte. All points
    that have a class in the truth count, each once; classes without truth are left out of the mean.

    Args:
        bag: the bag to replay; it needs truth, and images for the methods that adapt: without any, only frozen runs. Of
            a bag that is damaged, what can be read is replayed.
        method: one or more of frozen, ttt-kd-o (online, updates kept) and ttt-kd (offline, each sweep by itself).
        control: learn from another sweep's images, or from one mean feature map; applies to the methods that adapt.
        stride: ttt-kd-o takes its steps on every stride-th sweep.
        learning_rate: of the SGD step.
        steps: gradient steps per adapted sweep.
        kd_points: points per step, at most.
        guard: a step needs the evidence of points held out of it; never in force for a control.
        seed: of the choice of points.
        shift_z: move every cloud this many metres upwards first (a check: it should change nothing).
        limit: only the first sweeps.
        model: student checkpoint; the one that ships if not given.
        teacher: teacher directory or hub name; the one that ships if not given.
        engine: what runs the teacher; auto takes the fastest that agrees with eager.
        device: cpu or cuda.
        rig: extrinsics, where the bag has no /tf_static.
        points_topic: the sweeps, where they are not the only PointCloud2 of the bag.
        truth_topic: labelled clouds, where they are not on /truth/points_labeled or in the field label of the sweeps.
        cameras: names of cameras (what their image topics start with) to use, by default all that can be used.
        labels: folder with SemanticKITTI's .label files as truth; files named <stamp in ns>.label belong to the sweeps
            of these stamps, others to the sweeps in their order.
        json_file: write the figures here as well.
    """
    from rich.console import Console

    from tttkd_ros.evaluation.drives import BagDrive
    from tttkd_ros.evaluation.models import load_models
    from tttkd_ros.evaluation.replay import Method, replay
    from tttkd_ros.evaluation.report import describe, table, write_json
    from tttkd_ros.progress import progress

    if not method:
        raise ValueError("no method given, expected at least one of frozen, ttt-kd-o, ttt-kd")
    config = TTTConfig(stride=stride, learning_rate=learning_rate, steps=steps, kd_points=kd_points, guard=guard)
    methods = [
        Method(name, config, control=control if name != "frozen" else None, shift_z=shift_z, seed=seed)
        for name in method
    ]
    drive = BagDrive(
        bag, limit=limit, rig=rig, points_topic=points_topic, truth_topic=truth_topic, cameras=cameras, labels=labels
    )
    adapts = any(run.adapts for run in methods)
    if adapts and not drive.cameras:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in drive.unusable.items()) or "there is none"
        Console(stderr=True).print(f"{bag} has no camera to adapt by ({reasons}): only frozen is run", markup=False)
        methods, adapts = [Method("frozen", config, shift_z=shift_z, seed=seed)], False
    student, eyes = load_models(model, teacher, engine=engine, device=device, with_teacher=adapts)
    results = []
    with progress() as bar:
        for run in methods:
            task = bar.add_task(run.name, total=len(drive), note="")
            results.append(replay(drive, student, eyes, run, on_sweep=lambda *_, task=task: bar.advance(task)))
            bar.update(task, description=describe(results[-1]))
    Console().print(table(results, title=f"{bag.name}: {len(drive)} sweeps"))
    if json_file is not None:
        write_json(json_file, {"bag": bag.name, "results": [result.summary() for result in results]})
