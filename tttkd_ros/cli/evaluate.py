"""`tttkd evaluate`: methods and controls side by side on bags, lossless and in process, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.geometry.mounting import BASE_FRAME
from tttkd_ros.messages.matching import TOLERANCE_S

MethodName = Literal[
    "all", "frozen", "tent", "dua", "adacontrast", "xmuda", "mm-tta", "ttt-kd-o", "ttt-kd"
]  # fmt: skip


def evaluate(
    bag: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    method: tuple[MethodName, ...] = ("frozen", "ttt-kd-o"),
    control: Literal["other-image", "mean-features", "no-image"] | None = None,
    stride: tuple[int, ...] = (TTTConfig.stride,),
    learning_rate: tuple[float, ...] = (TTTConfig.learning_rate,),
    bn_momentum: tuple[float, ...] = (TTTConfig.bn_momentum,),
    steps: tuple[int, ...] = (25,),
    images: tuple[int, ...] = (),
    kd_points: int = TTTConfig.kd_points,
    guard: bool = TTTConfig.guard,
    rotations: int = 1,
    seed: int = 0,
    shift_z: float = 0.0,
    limit: int | None = None,
    model: Path | None = None,
    source_only: Path | None = None,
    teacher: str | None = None,
    engine: str = "auto",
    device: str = "cpu",
    rig: Path | None = None,
    points_topic: str | None = None,
    truth_topic: str | None = None,
    truth: bool = True,
    cameras: tuple[str, ...] | None = None,
    offset: tuple[float, ...] = (),
    tolerance: float = TOLERANCE_S,
    fixed_frame: str = "odom",
    base_frame: str = BASE_FRAME,
    channel_order: Literal["refuse", "bgr", "rgb"] = "refuse",
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto",
    labels: Path | None = None,
    recording: tuple[Path, ...] = (),
    out: Path | None = None,
    compare: tuple[Path, ...] = (),
    rerun: Path | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Replay bags through the pipeline and print what each method makes of them.

    Every sweep is answered and every due step is taken, between predictions, so the figures do not depend on the
    machine's speed: the same bags, weights and seed give the same tables and the same files, byte for byte; what was
    timed is apart. All points that have a class in the truth count, each once; classes without truth are left out of
    the mean. A bag that cannot be read and a run that cannot be are left out with their reasons.

    Args:
        bag: the bags to replay, each anew from the shipped weights. Methods that learn from images need some; IoU and
            calibration need truth. A bag that was cut short is replayed up to the cut.
        method: one or more of ttt-kd-o (online, updates kept), ttt-kd (offline, each sweep by itself), tent, dua,
            adacontrast, xmuda, mm-tta (online), and all. Frozen, the student as it is, is run in any case.
        control: learn from another sweep's images, from one mean feature map, or without images (BatchNorm's
            statistics alone); applies to the methods that learn from images.
        stride: online methods take a step on every stride-th sweep; of several, a run for each.
        learning_rate: of ttt-kd-o's and ttt-kd's SGD, the other methods have their own; of several, a run for each.
        bn_momentum: least share by which BatchNorm's running statistics go towards each sweep's in ttt-kd-o and ttt-kd;
            0, as in the paper, freezes them; of several, a run for each.
        steps: gradient steps of ttt-kd on each sweep; of several, a run for each.
        images: of a sweep that are learnt from, at most; of several, a run for each; all if not given.
        kd_points: points per step, at most.
        guard: a step needs the evidence of points held out of it; never in force for ttt-kd, or for a control.
        rotations: about the vertical, over which logits are accumulated (the paper: 4 outdoor, 8 indoor).
        seed: of the choice of points.
        shift_z: move every cloud this many metres upwards first (a check: it should change nothing).
        limit: only the first sweeps of each bag.
        model: student checkpoint; the one that ships if not given.
        source_only: checkpoint of a student that was trained without the teacher, to be run as it is beside the others.
        teacher: teacher directory or hub name; the one that ships if not given.
        engine: what runs the teacher; auto takes the fastest that agrees with eager.
        device: cpu or cuda.
        rig: extrinsics, where a bag has no /tf_static.
        points_topic: the sweeps, where they are not the only PointCloud2 of a bag.
        truth_topic: labelled clouds, where they are not on /truth/points_labeled. The sweeps' own field label is the
            truth if their topic is named here, or if this project has written them.
        truth: read labels; --no-truth ignores them all.
        cameras: names of cameras (what their image topics start with) to use, by default all that can be used.
        offset: seconds from a sweep's stamp to that of its image (the node's matching.offsets), one for all cameras or
            one for each of them; one of a second or more is a difference of clocks.
        tolerance: seconds between a sweep's stamp and its image's, at most (matching.tolerance).
        fixed_frame: odometry's frame in /tf (motion.fixed_frame); '' to project as if the vehicle stood.
        base_frame: frame in TF whose z axis points up, by which clouds of a tilted sensor are levelled unless the rig
            has base_from_lidar; '' never.
        channel_order: of images whose encoding does not tell it (8UC3, 8UC4, 16UC3, 16UC4); by default these are
            refused.
        time_unit: of the field with each point's time; auto takes the one in which the times make a sweep.
        labels: folder with SemanticKITTI's .label files as truth; files named <stamp in ns>.label belong to the sweeps
            of these stamps, others to the sweeps in their order. With several bags, of folders named as the bags are.
        recording: of what a live node answered to the bag (tttkd_ros.tools.recorder, or ros2 bag record, of its topics
            points_labeled and adaptation), to be scored beside the replayed runs, as "live". Sweeps that it did not
            answer count as unlabelled, and are told.
        out: folder for report.html, results.json, results.csv, timing.json and every finished run. Called again with
            the same inputs, only what is missing there is run.
        compare: folders of other evaluations of the same bags, with other teachers or students, whose mIoU the page
            shows beside this one's where the files are the same; each is called as its folder.
        rerun: file (.rrd) for the Rerun viewer: clouds, images and labels, of the truth, the frozen student and the
            best run that adapts, which is replayed once more for it.
        json_file: write the content of results.json here as well.
    """
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from tttkd_ros.digests import digest
    from tttkd_ros.evaluation.drives import BagDrive
    from tttkd_ros.evaluation.inputs import bag_names, evaluation_inputs
    from tttkd_ros.evaluation.live_recordings import live_names, with_recordings
    from tttkd_ros.evaluation.models import Models
    from tttkd_ros.evaluation.page import read_evaluations, write_page
    from tttkd_ros.evaluation.plan import plan
    from tttkd_ros.evaluation.replay import Method
    from tttkd_ros.evaluation.report import content, notes, tables, write_json, write_reports
    from tttkd_ros.evaluation.runs import BagResults, run_bag
    from tttkd_ros.evaluation.store import Store
    from tttkd_ros.evaluation.viewer import record, require_rerun
    from tttkd_ros.files import require_writable
    from tttkd_ros.progress import progress

    config = TTTConfig(kd_points=kd_points, guard=guard)
    methods = plan(
        method, Method("ttt-kd-o", config, control, shift_z, seed, rotations), strides=stride,
        learning_rates=learning_rate, bn_momenta=bn_momentum, steps=steps, images=images,
        source_only=source_only is not None,
    )  # fmt: skip
    models = Models(model, teacher, source_only=source_only, engine=engine, device=device)
    for target in (json_file, rerun):
        if target is not None:
            require_writable(target)
    names = bag_names(bag)
    if recording and len(names) > 1:
        raise ValueError(f"{len(names)} bags and recordings are given: expected one bag, the one that was played")
    recordings = live_names(recording)
    truths = {name: labels / name if labels and len(names) > 1 else labels for name in names}
    drives, finished = {}, []
    for name, path in names.items():
        try:
            drives[name] = BagDrive(path, limit=limit, rig=rig, points_topic=points_topic, truth_topic=truth_topic,
                                    cameras=cameras, labels=truths[name], offsets=offset, tolerance=tolerance,
                                    fixed_frame=fixed_frame, base_frame=base_frame, truth=truth,
                                    channel_order=channel_order, time_unit=time_unit)
        except ValueError as error:
            if len(names) == 1:
                raise
            finished.append(BagResults(name, 0, (), damage=str(error)))
    # What is wrong with them is told before anything is written, and before hours of other runs.
    _ = models.student, source_only and models.source_only
    others = read_evaluations(compare, out)
    if rerun is not None:
        require_rerun()
    settings = {
        "kd_points": kd_points, "guard": guard, "rotations": rotations, "seed": seed, "shift_z": shift_z,
        "limit": limit, "points_topic": points_topic, "truth_topic": truth_topic, "cameras": cameras,
        "channel_order": channel_order, "time_unit": time_unit,
        "rig": None if rig is None else digest(rig), "offset": offset, "tolerance": tolerance,
        "fixed_frame": fixed_frame, "base_frame": base_frame, "truth": truth,
    }  # fmt: skip
    errors = Console(stderr=True)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(TemporaryDirectory())) / "out"
        inputs = evaluation_inputs(names, truths, models, methods, settings)
        store = Store(folder, inputs)
        bar = stack.enter_context(progress())
        try:
            for name, drive in drives.items():
                replayed = run_bag(name, drive, methods, models, store, bar)
                classes = models.student.config.classes
                finished.append(with_recordings(replayed, drive, recordings, classes, store.labels(name)))
        except KeyboardInterrupt:
            if out is not None:
                errors.print(f"finished runs are in {out}: the same command goes on from there", markup=False)
            raise
    remarks = [remark for each in finished for remark in notes(each)]
    if not any(each.results for each in finished):
        raise ValueError("; ".join(remarks))
    for remark in remarks:
        errors.print(remark, markup=False, soft_wrap=True)
    for table in tables(finished):
        Console().print(table, "")
    if out is not None:
        write_reports(out, finished)
    if json_file is not None:
        write_json(json_file, content(finished))
    if out is not None:
        write_page(out, finished, drives, models, inputs, others)
    if rerun is not None:
        record(rerun, finished, drives, methods, models)
