"""The demo step by step: simulate, run live, run the controls, run on KITTI, draw, summarise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import ClassSet
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.kitti import open_recording as open_kitti
from tttkd_ros.demo import scores
from tttkd_ros.demo.live import run_live
from tttkd_ros.demo.pictures import kitti_pictures, sweep_pictures
from tttkd_ros.demo.processes import ChildError
from tttkd_ros.demo.scores import ADAPTED, EVERY_SWEEP, FROZEN, DriveFigures
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.live_recordings import read_steps
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.evaluation.plots import curve_figure
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.report import write_json
from tttkd_ros.evaluation.result import WINDOW, Result, step_counts
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.rig import RigCamera, save_rig
from tttkd_ros.segmenter.checkpoint import describe
from tttkd_ros.simulation.drive import frames
from tttkd_ros.simulation.sensors import LIDARS
from tttkd_ros.subprocesses import init_pool_worker

WORLD = "kitti"
STRIDE = TTTConfig.stride
MODES: dict[str, tuple[str, dict[str, object]]] = {  # mode -> its title and the node's parameters
    FROZEN: ("frozen", {"ttt.enabled": False}),
    ADAPTED: (f"adapting, stride {STRIDE}", {}),
    EVERY_SWEEP: ("adapting, stride 1", {"ttt.stride": 1}),
}
# Metres by which the target's LiDAR must be lowered to the mounting height of the source's, which trained the student.
MOUNT_DIFFERENCE = round(LIDARS["a2d2"].height - LIDARS[WORLD].height, 3)
CONTROLS = {  # name -> its title and the run
    f"other-image_stride_{STRIDE}": (f"  other image, stride {STRIDE}", RunConfig(control="other-image")),
    f"mean-features_stride_{STRIDE}": (f"  mean feature, stride {STRIDE}", RunConfig(control="mean-features")),
    "rigid_shift": (f"  frozen, z {MOUNT_DIFFERENCE:+g} m", RunConfig("frozen", shift_z=MOUNT_DIFFERENCE)),
}
TITLES = {name: title for name, (title, _) in (MODES | CONTROLS).items()}
# Every sweep must get a prediction, and steps their own images, so 5 s of messages are kept in case the machine stalls.
LOSSLESS = {"qos.depth": 50, "queue": 50, "matching.depth": 50}
KITTI_DEADLINE_S = 2.0  # a sweep of 114,000 points may take longer than its period; late predictions are still wanted


def run_demo(
    out: Path, seeds: tuple[int, ...], sweeps: int, kitti: Path, *, model: Path, teacher: Path, processes: int,
    point_step: int = 0,
) -> None:
    """Run the whole demo; arguments as for `tttkd demo`. Raises ChildError if one of its processes fails."""
    console = Console()
    models = {"model": str(model.resolve()), "teacher": str(teacher.resolve())}
    _make_folder(out)
    classes = describe(model)[0].class_set
    console.rule("1. Simulating drives through the target world")
    bags = [out / f"drive_{seed}" for seed in seeds]
    calls = [(seed, sweeps, bag, point_step) for seed, bag in zip(seeds, bags, strict=True)]
    _in_processes(processes, "simulating", _simulate, calls)

    console.rule("2. The node over DDS, in real time: frozen, adapting, adapting on every sweep")
    drives = [DriveFigures(seed) for seed in seeds]
    with Progress() as bar:
        task = bar.add_task("", total=len(drives) * len(MODES))
        for drive, bag in zip(drives, bags, strict=True):
            for mode, (_, parameters) in MODES.items():
                bar.update(task, description=f"drive {drive.seed}, {mode}")
                run = run_live(
                    bag, sweeps, _run_folder(out, drive.seed, mode), rig=_rig_path(bag), cameras=["camera_front"],
                    parameters=LOSSLESS | models | parameters, seconds=sweeps / 10,
                )
                try:
                    drive.live[mode] = scores.score_live(
                        mode, BagDrive(bag, class_set=classes), run.recording, run.sent_times(), classes
                    )
                except ValueError as error:
                    raise ChildError(f"{error}; the node's log is {run.log}") from error
                if drive is not drives[0]:  # only the first drive's recordings are drawn, and they are large
                    shutil.rmtree(run.recording)
                bar.advance(task)

    console.rule("3. Controls, in process: gains that do not come from the images")
    calls = [(bag, model, teacher, run) for bag in bags for _, run in CONTROLS.values()]
    results = iter(_in_processes(processes, "controls", _control, calls))
    for drive in drives:
        drive.controls = {name: next(results) for name in CONTROLS}

    summary = scores.summarise(drives, stride=STRIDE, learning_rate=TTTConfig.learning_rate)
    if kitti.is_dir():
        console.rule("4. The node on recorded KITTI sweeps")
        summary["kitti"] = _run_kitti(out, kitti, LOSSLESS | models, classes)
    else:
        console.print(f"KITTI is skipped: there is no folder {kitti}")

    console.rule("Results")
    first = drives[0]
    frozen, adapted = ((first.result(mode), _run_folder(out, first.seed, mode) / "recording")
                       for mode in (FROZEN, ADAPTED))
    sweep_pictures(out, BagDrive(bags[0], class_set=classes), frozen, adapted, classes, TITLES[ADAPTED])
    curves = {TITLES[mode]: [drive.result(mode).curve(WINDOW) for drive in drives] for mode in MODES}
    curve_figure(out / "miou_over_time.png", curves, period=0.1, window=WINDOW)
    for bag in bags[1:]:
        shutil.rmtree(bag)
    write_json(out / "summary.json", summary)
    console.print(scores.label_table(drives, TITLES), scores.delivery_table(drives, TITLES))
    if "kitti" in summary:
        text = ("KITTI at its own rate: {sweeps_received} of {sweeps_sent} sweeps labelled, half of them within "
                "{latency_ms[p50]:.0f} ms, {steps_accepted} steps accepted")
        console.print(text.format(**summary["kitti"]))
    console.print(f"Figures and pictures are in {out}/: summary.json, "
                  + ", ".join(sorted(path.name for path in out.glob("*.png"))))


def _make_folder(out: Path) -> None:
    """Make an empty folder, in place of an earlier demo's. Raises ValueError if it has other content."""
    if out.exists():
        if not (out / ".tttkd_demo").exists() and any(out.iterdir()):
            raise ValueError(f"{out} is not empty and not an earlier demo's output: choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / ".tttkd_demo").touch()


def _simulate(seed: int, sweeps: int, bag: Path, point_step: int) -> None:
    with BagWriter(bag, point_step=point_step) as writer:
        for frame in frames(WORLD, seed, sweeps):
            writer.write_frame(frame)
    _write_rig(bag, frame)


def _control(bag: Path, model: Path, teacher: Path, run: RunConfig) -> Result:
    student, loaded = load_models(model, str(teacher), with_teacher=run.adapts)
    return replay(BagDrive(bag, class_set=student.config.class_set), student, loaded, run)


def _rig_path(bag: Path) -> Path:
    return bag.with_name(bag.name + "_rig.yaml")


def _write_rig(bag: Path, frame: Frame) -> None:
    save_rig(_rig_path(bag), {view.name: RigCamera(view.camera_from_lidar, view.camera) for view in frame.views})


def _run_folder(out: Path, seed: int, mode: str) -> Path:
    return out / "runs" / f"{seed}_{mode}"


def _in_processes(processes: int, title: str, function: Callable, calls: list[tuple]) -> list:
    """Call a function with each tuple of arguments. Return the results in order. Left early, it ends the workers."""
    with get_context("spawn").Pool(processes, init_pool_worker) as pool, Progress() as bar:
        task = bar.add_task(title, total=len(calls))

        def done(_) -> None:
            bar.advance(task)

        waiting = [pool.apply_async(function, call, callback=done, error_callback=done) for call in calls]
        return [result.get() for result in waiting]


def _run_kitti(out: Path, kitti: Path, parameters: dict[str, object], classes: ClassSet) -> dict:
    bag = out / "kitti"
    write_bag(open_kitti(kitti), bag, {"dataset": "kitti", "folder": str(kitti.resolve())})
    drive = list(BagDrive(bag))
    _write_rig(bag, drive[0])
    run = run_live(
        bag, len(drive), out / "runs" / "kitti", rig=_rig_path(bag), cameras=[view.name for view in drive[0].views],
        parameters=parameters | {"image_transport": "compressed", "deadline": KITTI_DEADLINE_S},
        seconds=(drive[-1].stamp - drive[0].stamp) * 1e-9,
    )
    try:
        latency = scores.latencies(run.recording, [frame.stamp for frame in drive], run.sent_times())
    except ValueError as error:
        raise ChildError(f"{error}; the node's log is {run.log}") from error
    kitti_pictures(out, drive[-1], run.recording, classes)
    counts = step_counts(read_steps(run.recording))
    return {"sweeps_sent": len(drive), "sweeps_received": len(latency), "latency_ms": scores.percentiles(latency),
            "steps_accepted": counts["steps_accepted"], "rejections": counts["rejections"]}
