"""The demo step by step: simulate, run live, run the controls, run on KITTI, draw, summarise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.kitti import open_kitti
from tttkd_ros.demo import jobs
from tttkd_ros.demo.live import run_live
from tttkd_ros.demo.live_scores import latencies, percentiles, score_live
from tttkd_ros.demo.pictures import curves_picture, kitti_pictures, sweep_pictures
from tttkd_ros.demo.processes import ChildError
from tttkd_ros.demo.summary import ADAPTED, EVERY_SWEEP, FROZEN, DriveFigures, delivery_table, label_table, summarise
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.live_recordings import read_steps
from tttkd_ros.evaluation.replay import RunConfig
from tttkd_ros.evaluation.report import write_json
from tttkd_ros.evaluation.result import count_rejections
from tttkd_ros.simulation.sensors import LIDARS
from tttkd_ros.subprocesses import init_pool_worker

STRIDE = TTTConfig.stride
MODES: dict[str, dict[str, object]] = {  # mode -> the node's parameters
    FROZEN: {"ttt.enabled": False},
    ADAPTED: {},
    EVERY_SWEEP: {"ttt.stride": 1},
}
# Metres by which the target's LiDAR must be lowered to the mounting height of the source's, which trained the student.
MOUNT_DIFFERENCE = round(LIDARS["a2d2"].height - LIDARS[jobs.WORLD].height, 3)
CONTROLS = {
    f"no-image_stride_{STRIDE}": RunConfig(control="no-image"),
    "no-image_stride_1": RunConfig(config=TTTConfig(stride=1), control="no-image"),
    f"other-image_stride_{STRIDE}": RunConfig(control="other-image"),
    f"mean-features_stride_{STRIDE}": RunConfig(control="mean-features"),
    "rigid_shift": RunConfig("frozen", shift_z=MOUNT_DIFFERENCE),
}
TITLES = {
    FROZEN: "frozen",
    ADAPTED: f"adapting, stride {STRIDE}",
    EVERY_SWEEP: "adapting, stride 1",
    f"no-image_stride_{STRIDE}": f"  no image, stride {STRIDE}",
    "no-image_stride_1": "  no image, stride 1",
    f"other-image_stride_{STRIDE}": f"  other image, stride {STRIDE}",
    f"mean-features_stride_{STRIDE}": f"  mean feature, stride {STRIDE}",
    "rigid_shift": f"  frozen, z {MOUNT_DIFFERENCE:+g} m",
}
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
    console.rule("1. Simulating drives through the target world")
    bags = [out / f"drive_{seed}" for seed in seeds]
    _in_processes(
        processes, "simulating", jobs.simulate,
        [(seed, sweeps, bag, point_step) for seed, bag in zip(seeds, bags, strict=True)],
    )

    console.rule("2. The node over DDS, in real time: frozen, adapting, adapting on every sweep")
    drives = [DriveFigures(seed) for seed in seeds]
    with Progress() as bar:
        task = bar.add_task("", total=len(drives) * len(MODES))
        for drive, bag in zip(drives, bags, strict=True):
            for mode, parameters in MODES.items():
                bar.update(task, description=f"drive {drive.seed}, {mode}")
                run = run_live(
                    bag, sweeps, _run_folder(out, drive.seed, mode), rig=jobs.rig_path(bag), cameras=["camera_front"],
                    parameters=LOSSLESS | models | parameters, seconds=sweeps / 10,
                )
                try:
                    drive.live[mode] = score_live(mode, BagDrive(bag), run.recording, run.sent_times(), OUTDOOR)
                except ValueError as error:
                    raise ChildError(f"{error}; the node's log is {run.log}") from error
                if drive is not drives[0]:  # only the first drive's recordings are drawn, and they are large
                    shutil.rmtree(run.recording)
                bar.advance(task)

    console.rule("3. Controls, in process: gains that do not come from the images")
    results = iter(_in_processes(
        processes, "controls", jobs.control, [(bag, model, teacher, run) for bag in bags for run in CONTROLS.values()]
    ))
    for drive in drives:
        drive.controls = {name: next(results) for name in CONTROLS}

    summary = summarise(drives, stride=STRIDE, learning_rate=TTTConfig.learning_rate)
    if kitti.is_dir():
        console.rule("4. The node on recorded KITTI sweeps")
        summary["kitti"] = _run_kitti(out, kitti, LOSSLESS | models)
    else:
        console.print(f"KITTI is skipped: there is no folder {kitti}")

    console.rule("Results")
    first = drives[0]
    frozen, adapted = ((first.result(mode), _run_folder(out, first.seed, mode) / "recording")
                       for mode in (FROZEN, ADAPTED))
    sweep_pictures(out, BagDrive(bags[0]), frozen, adapted, OUTDOOR, TITLES[ADAPTED])
    curves_picture(out, {TITLES[mode]: [drive.result(mode) for drive in drives] for mode in MODES})
    for bag in bags[1:]:
        shutil.rmtree(bag)
    write_json(out / "summary.json", summary)
    console.print(label_table(drives, TITLES), delivery_table(drives, TITLES))
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


def _run_folder(out: Path, seed: int, mode: str) -> Path:
    return out / "runs" / f"{seed}_{mode}"


def _in_processes(processes: int, title: str, function: Callable, calls: list[tuple]) -> list:
    """Call a function with each tuple of arguments and return the results in order.

    If this is left early, by Ctrl-C or an error, the workers are ended.
    """
    with get_context("spawn").Pool(processes, init_pool_worker) as pool, Progress() as bar:
        task = bar.add_task(title, total=len(calls))

        def done(_) -> None:
            bar.advance(task)

        waiting = [pool.apply_async(function, call, callback=done, error_callback=done) for call in calls]
        return [result.get() for result in waiting]


def _run_kitti(out: Path, kitti: Path, parameters: dict[str, object]) -> dict:
    bag = out / "kitti"
    write_bag(open_kitti(kitti), bag, {"dataset": "kitti", "folder": str(kitti.resolve())})
    frames = list(BagDrive(bag))
    jobs.write_rig(bag, frames[0])
    run = run_live(
        bag, len(frames), out / "runs" / "kitti", rig=jobs.rig_path(bag),
        cameras=[view.name for view in frames[0].views],
        parameters=parameters | {"image_transport": "compressed", "deadline": KITTI_DEADLINE_S},
        seconds=(frames[-1].stamp - frames[0].stamp) * 1e-9,
    )
    try:
        latency = latencies(run.recording, [frame.stamp for frame in frames], run.sent_times())
    except ValueError as error:
        raise ChildError(f"{error}; the node's log is {run.log}") from error
    kitti_pictures(out, frames[-1], run.recording, OUTDOOR)
    steps = read_steps(run.recording)
    return {"sweeps_sent": len(frames), "sweeps_received": len(latency), "latency_ms": percentiles(latency),
            "steps_accepted": sum(step.accepted for step in steps), "rejections": count_rejections(steps)}
