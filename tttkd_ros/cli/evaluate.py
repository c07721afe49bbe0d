"""`tttkd evaluate`: compare methods and controls on bags, lossless and in process, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttkd_ros.adaptation.config import TTTConfig, paper_config
from tttkd_ros.geometry.mounting import BASE_FRAME
from tttkd_ros.messages.matching import TOLERANCE_S
from tttkd_ros.methods import METHODS, OWN_STUDENT, own_students

MethodName = Literal[("all", *(name for name in METHODS if name not in OWN_STUDENT))]
ControlName = Literal["other-image", "mean-features", "no-image"]


def evaluate(
    source: tyro.conf.Positional[tuple[str, ...]], /, *, method: tuple[MethodName, ...] = ("frozen", "ttt-kd-o"),
    control: tuple[ControlName, ...] = (),
    stride: tuple[int, ...] = (TTTConfig.stride,), learning_rate: tuple[float, ...] = (TTTConfig.learning_rate,),
    baseline_learning_rate: tuple[float, ...] = (), bn_momentum: tuple[float, ...] = (TTTConfig.bn_momentum,),
    steps: tuple[int, ...] = (TTTConfig.steps,),
    train_rotations: tuple[int, ...] = (TTTConfig.rotations,), offline_steps: tuple[int, ...] = (25,),
    images: tuple[int, ...] = (), kd_points: int = TTTConfig.kd_points,
    guard: bool = TTTConfig.guard, paper: bool = False,
    rotations: int = 1, seed: int = 0, shift_z: float = 0.0, limit: int | None = None,
    model: Path | None = None, source_only: Path | None = None, distilled: Path | None = None,
    oracle: Path | None = None, teacher: str | None = None, engine: str = "auto", device: str = "cpu",
    rig: Path | None = None, points_topic: str | None = None, truth_topic: str | None = None, truth: bool = True,
    cameras: tuple[str, ...] | None = None, offset: tuple[float, ...] = (), tolerance: float = TOLERANCE_S,
    fixed_frame: str = "odom", base_frame: str = BASE_FRAME, channel_order: Literal["refuse", "bgr", "rgb"] = "refuse",
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto", labels: Path | None = None,
    recording: tuple[Path, ...] = (), out: Path | None = None, compare: tuple[Path, ...] = (),
    rerun: Path | None = None, json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Replay bags, or drives of data sets and of the simulator, and print how well each method segments them.

    Every sweep is predicted and every due step is taken, between predictions, so the figures do not depend on the
    machine's speed. The same drives, weights and seed give the same tables and the same files, byte for byte; measured
    times are in files of their own. All points whose truth has a class count, each once. Classes without truth are left
    out of the mean. A drive that cannot be read, or a run that is impossible, is left out with the reason.

    Example: `tttkd evaluate drive --method frozen tent ttt-kd-o --stride 1 5 --out results` makes five runs, and
    results/report.html shows them side by side.

    Args:
        source: what to replay, each drive from the shipped weights: paths of bags or of folders with bags;
            KIND:FOLDER or KIND:FOLDER:SCENES, a data set's folder (KIND as for `tttkd convert`) with SCENES such as
            00-06,08, or @FILE with one scene a line; sim:WORLD:DRIVESxSWEEPS, a world or shift of the simulator.
            Methods that learn from images need images; IoU and calibration need truth. A bag that was cut short is
            replayed up to the cut.
        method: methods to compare. ttt-kd-o adapts online and keeps its updates. ttt-kd adapts to each sweep alone,
            offline. tent, dua, prototypes, adacontrast, xmuda and mm-tta are online baselines. all runs every method.
            Frozen, the student without adaptation, always runs as the baseline.
        control: also run ttt-kd-o and ttt-kd on another sweep's images, on one mean feature map, or without images
            (BatchNorm statistics only). A gain that remains does not come from the images. No-image is left out if the
            statistics are frozen too: nothing would adapt.
        stride: online methods take a step on every stride-th sweep. Several values give a run each.
        learning_rate: of the SGD of ttt-kd-o and ttt-kd. Several values give a run each.
        baseline_learning_rate: of each baseline that has one (tent, adacontrast, xmuda and mm-tta), instead of its own
            default. Several values give a run each.
        bn_momentum: minimum momentum of the BatchNorm statistics in ttt-kd-o and ttt-kd. 0 freezes them, as in the
            paper. Several values give a run each.
        steps: gradient steps of ttt-kd-o on each training sweep. Several values give a run each.
        train_rotations: of the cloud, on which ttt-kd-o and ttt-kd take their steps in turn. Several values give a run
            each.
        offline_steps: gradient steps of ttt-kd on each sweep. Several values give a run each.
        images: maximum number of images per sweep to learn from and to inject, all by default. Several values give a
            run each.
        kd_points: maximum number of points per step.
        guard: take a step only if the alignment of image and sweep is good. Never in force for ttt-kd or a control.
        paper: run TTT-KD as in the paper, without the guard and with frozen BatchNorm statistics, whatever --guard and
            --bn-momentum say.
        rotations: about the vertical axis, over which logits are averaged (the paper: 4 outdoor, 8 indoor).
        seed: of the choice of points.
        shift_z: first move every cloud up by this many metres. As a check: the results should not change.
        limit: use only the first sweeps of each bag.
        model: student checkpoint, the shipped one by default.
        source_only: checkpoint of a student trained without the teacher, to run without adaptation beside the others.
        distilled: likewise, of a student distilled on unlabelled sweeps of source and target (`tttkd train student
            --distil-first sim:a2d2 sim:kitti`).
        oracle: likewise, of a student trained on the target's labels (`tttkd train student --data sim:kitti`).
        teacher: teacher folder or hub name, the shipped one by default.
        engine: what runs the teacher. auto takes the fastest engine that agrees with eager.
        device: cpu or cuda.
        rig: file with the extrinsics, for bags without /tf_static, by default rig.yaml in the bag's folder. This and
            the options down to --labels are for bags, but for --no-truth, --cameras and --tolerance.
        points_topic: the sweeps, if a bag has several PointCloud2 topics.
        truth_topic: labelled clouds, if they are not on /truth/points_labeled. The sweeps' own field label is the truth
            if this names their topic, or if this project wrote the bag. Labels of another class set, which a topic
            label_info beside them tells, are mapped to the student's if its set lists theirs under `from`.
        truth: read labels. --no-truth ignores them all.
        cameras: names of the cameras to use (the start of their image topics), by default all that can be used.
        offset: seconds from a sweep's stamp to its image's (the node's matching.offsets), one for all cameras or one
            each. An offset of a second or more is a difference between clocks.
        tolerance: maximum seconds between a sweep's stamp and its image's (the node's matching.tolerance).
        fixed_frame: odometry frame in /tf (the node's motion.fixed_frame). '' projects as if the vehicle stood still.
        base_frame: TF frame whose z axis points up, used to level the clouds of a tilted sensor unless the rig has
            base_from_lidar. '' turns levelling off.
        channel_order: of images whose encoding does not say it (8UC3, 8UC4, 16UC3, 16UC4). They are refused by default.
        time_unit: of the field with each point's time. auto takes the unit in which the times span a sweep.
        labels: folder with .label files to use as truth, by default the folder labels of the bag. Files named <stamp in
            ns>.label belong to the sweep with that stamp; others are assigned in order. The file classes.yaml beside
            the folder names the classes by id; without it they are SemanticKITTI's. For several bags, the folder has
            one named as each bag.
        recording: bags with a live node's predictions for the evaluated bag (topics points_labeled and adaptation, from
            tttkd_ros.tools.recorder or ros2 bag record). They are scored as the run "live". Sweeps without a prediction
            count as unlabelled and are reported.
        out: folder for report.html, results.json, results.csv, timing.json and every finished run. The same command
            continues an interrupted evaluation. Runs of another version, commit or uncommitted code are run again.
        compare: folders of other evaluations of the same bags, e.g. with other teachers or students. The page shows
            their mIoU beside this one's.
        rerun: .rrd file to write for the Rerun viewer: clouds, images, and labels of the truth, the frozen student and
            the best adapting run, which is replayed once more.
        json_file: also write the content of results.json to this file.
    """
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from rich.console import Console
    from rich.progress import Progress

    from tttkd_ros.digests import digest
    from tttkd_ros.evaluation.inputs import evaluation_inputs
    from tttkd_ros.evaluation.live_recordings import live_names, with_recordings
    from tttkd_ros.evaluation.models import Models
    from tttkd_ros.evaluation.page import read_evaluations, write_page
    from tttkd_ros.evaluation.part_drives import open_drive, open_parts
    from tttkd_ros.evaluation.replay import RunConfig
    from tttkd_ros.evaluation.report import content, notes, tables, write_json, write_reports
    from tttkd_ros.evaluation.runs import BagResults, plan, run_bag
    from tttkd_ros.evaluation.store import Store
    from tttkd_ros.evaluation.viewer import require_rerun, write_recording
    from tttkd_ros.files import require_writable

    config = TTTConfig(kd_points=kd_points, guard=guard)
    if paper:
        config = paper_config(config)
        guard, bn_momentum = config.guard, (config.bn_momentum,)
    checkpoints = own_students(source_only=source_only, distilled=distilled, oracle=oracle)
    models = Models(model, teacher, own_students=checkpoints, engine=engine, device=device)
    common = RunConfig("ttt-kd-o", config, None, shift_z, seed, rotations,
                       injects=bool(models.student.config.injection))
    runs = plan(
        method, common, strides=stride, learning_rates=learning_rate, baseline_learning_rates=baseline_learning_rate,
        bn_momenta=bn_momentum, steps=steps, rotations=train_rotations, offline_steps=offline_steps, images=images,
        controls=control, own_students=checkpoints,
    )  # fmt: skip
    for target in (json_file, rerun):
        if target is not None:
            require_writable(target)
    classes = models.student.config.class_set
    parts, failed = open_parts([str(text) for text in source], classes if truth else None)
    count = len(parts) + len(failed)
    if recording and count > 1:
        raise ValueError(f"{count} drives and recordings are given: expected one bag, the one played to the node")
    recordings = live_names(recording)
    truths = {name: labels / name if labels and len(parts) > 1 else labels for name in parts}
    options = {
        "limit": limit, "points_topic": points_topic, "truth_topic": truth_topic, "cameras": cameras,
        "tolerance": tolerance, "fixed_frame": fixed_frame, "base_frame": base_frame, "truth": truth,
        "channel_order": channel_order, "time_unit": time_unit,
    }  # fmt: skip
    drives, finished = {}, [BagResults(name, 0, (), damage=problem) for name, problem in failed.items()]
    for name, part in parts.items():
        try:
            drives[name] = open_drive(part, classes, labels=truths[name], rig=rig, offset=offset, **options)
        except ValueError as error:
            if count == 1:
                raise
            finished.append(BagResults(name, 0, (), damage=str(error)))
    # Report unreadable models before anything is written, and before hours of other runs.
    _ = [models.student_of(name) for name in checkpoints]
    others = read_evaluations(compare, out)
    if rerun is not None:
        require_rerun()
    settings = options | {
        "kd_points": kd_points, "guard": guard, "rotations": rotations, "seed": seed, "shift_z": shift_z,
        "rig": None if rig is None else digest(rig), "offset": offset,
    }  # fmt: skip
    errors = Console(stderr=True)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(TemporaryDirectory())) / "out"
        inputs = evaluation_inputs(parts, truths, models, runs, settings)
        store = Store(folder, inputs)
        bar = stack.enter_context(Progress())
        try:
            for name, drive in drives.items():
                replayed = run_bag(name, drive, runs, models, store, bar)
                finished.append(with_recordings(replayed, drive, recordings, classes, store.labels(name)))
        except KeyboardInterrupt:
            if out is not None:
                errors.print(f"finished runs are in {out}: the same command continues from there", markup=False)
            raise
    remarks = [remark for each in finished for remark in notes(each)]
    if not any(each.results for each in finished):
        raise ValueError("; ".join(remarks))
    for remark in remarks:
        errors.print(remark, markup=False, soft_wrap=True)
    for table in tables(finished):
        Console().print(table, "")
    if json_file is not None:
        write_json(json_file, content(finished))
    if out is not None:
        write_reports(out, finished)
        write_page(out, finished, drives, models, inputs, others)
    if rerun is not None:
        write_recording(rerun, finished, drives, runs, models)
