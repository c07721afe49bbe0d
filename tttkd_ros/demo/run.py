"""The demo's course: simulate, run live, run the controls, run on KITTI, draw, sum up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.demo import jobs
from tttkd_ros.demo.demo_bags import latencies, percentiles, score_live
from tttkd_ros.demo.live import run_live
from tttkd_ros.demo.processes import ChildError
from tttkd_ros.demo.summary import ADAPTED, EVERY_SWEEP, FROZEN, DriveFigures, delivery_table, label_table, summarise
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.report import write_json
from tttkd_ros.evaluation.result import count_rejections
from tttkd_ros.subprocesses import init_pool_worker

STRIDE = TTTConfig.stride
MODES: dict[str, dict[str, object]] = {
    FROZEN: {"ttt.enabled": False},
    ADAPTED: {},
    EVERY_SWEEP: {"ttt.stride": 1},
}
# The demo's sweeps must all be answered, and with their own images at hand, so nothing may be dropped in transport or
# while the machine hiccups, for 5 s.
LOSSLESS = {"qos.depth": 50, "queue": 50, "matching.depth": 50}
KITTI_DEADLINE_S = 2.0  # where a sweep of 114,000 points takes longer than its period, all twelve are answered late


def run_demo(
    out: Path, seeds: tuple[int, ...], sweeps: int, kitti: Path, *, model: Path, teacher: Path, processes: int,
    point_step: int = 0,
) -> None:
    """As `demo`. Raises ChildError with the end of its log where one of the processes fails."""
    console = Console()
    models = {"model": str(model.resolve()), "teacher": str(teacher.resolve())}
    _make_room(out)
    console.rule("1. Simulating drives through the target world")
    bags = [out / f"drive_{seed}" for seed in seeds]
    _in_processes(
        processes, "simulating",
        [(jobs.simulate, (seed, sweeps, bag, point_step)) for seed, bag in zip(seeds, bags, strict=True)],
    )

    console.rule("2. The node over DDS, in real time: frozen, adapting, adapting on every sweep")
    drives = [DriveFigures(seed) for seed in seeds]
    with Progress() as bar:
        task = bar.add_task("drives x modes", total=len(drives) * len(MODES))
        for drive, bag in zip(drives, bags, strict=True):
            for mode, parameters in MODES.items():
                bar.update(task, description=f"drive {drive.seed}, {mode}")
                folder = _run_folder(out, drive.seed, mode)
                run = run_live(
                    bag, sweeps, folder, rig=jobs.rig_path(bag), cameras=["camera_front"],
                    parameters=LOSSLESS | models | parameters, seconds=sweeps / 10,
                )
                try:
                    drive.live[mode] = score_live(mode, BagDrive(bag), run.recording, run.sent_times(), OUTDOOR)
                except ValueError as error:
                    raise ChildError(f"{error}; the node's log is {run.log}") from error
                if drive is not drives[0]:  # the pictures need the first drive's only, and a recording is large
                    shutil.rmtree(run.recording)
                bar.advance(task)

    console.rule("3. Controls, in process: what must not explain the gain")
    controls = _controls()
    calls = [(jobs.control, (bag, model, teacher, *arguments)) for bag in bags for arguments in controls.values()]
    results = iter(_in_processes(processes, "drives x controls", calls))
    for drive in drives:
        drive.controls = {name: next(results) for name in controls}

    summary = summarise(drives, stride=STRIDE, learning_rate=TTTConfig.learning_rate)
    if kitti.is_dir():
        console.rule("4. The node on recorded KITTI sweeps")
        summary["kitti"] = _run_kitti(out, kitti, LOSSLESS | models)
    else:
        console.print(f"KITTI is left out: no folder {kitti}")

    console.rule("Results")
    _draw(out, drives, bags[0])
    for bag in bags[1:]:
        shutil.rmtree(bag)
    write_json(out / "summary.json", summary)
    console.print(label_table(drives, _titles()), delivery_table(drives, _titles()))
    if "kitti" in summary:
        answered = ("KITTI at its own rate: {sweeps_received} of {sweeps_sent} sweeps answered, half of them within "
                    "{latency_ms[p50]:.0f} ms, {steps_accepted} steps accepted")
        console.print(answered.format(**summary["kitti"]))
    console.print(f"Figures and pictures are in {out}/: summary.json, "
                  + ", ".join(sorted(path.name for path in out.glob("*.png"))))


def _make_room(out: Path) -> None:
    """An empty folder `out`, in place of an earlier demo's. ValueError where what is there is something else."""
    if out.exists():
        if not (out / ".tttkd_demo").exists() and any(out.iterdir()):
            raise ValueError(f"{out} is not empty and not an earlier demo's output: choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / ".tttkd_demo").touch()


def _run_folder(out: Path, seed: int, mode: str) -> Path:
    return out / "runs" / f"{seed}_{mode}"


def _controls() -> dict[str, tuple[str, int, str | None, float]]:
    """Name -> method, stride, control and shift in z: the last arguments of `jobs.control`."""
    return {
        f"no-image_stride_{STRIDE}": ("ttt-kd-o", STRIDE, "no-image", 0.0),
        "no-image_stride_1": ("ttt-kd-o", 1, "no-image", 0.0),
        f"other-image_stride_{STRIDE}": ("ttt-kd-o", STRIDE, "other-image", 0.0),
        f"mean-features_stride_{STRIDE}": ("ttt-kd-o", STRIDE, "mean-features", 0.0),
        "rigid_shift": ("frozen", STRIDE, None, jobs.mount_difference()),
    }


def _titles() -> dict[str, str]:
    return {
        FROZEN: "frozen",
        ADAPTED: f"adapting, stride {STRIDE}",
        EVERY_SWEEP: "adapting, stride 1",
        f"no-image_stride_{STRIDE}": f"  no image, stride {STRIDE}",
        "no-image_stride_1": "  no image, stride 1",
        f"other-image_stride_{STRIDE}": f"  other image, stride {STRIDE}",
        f"mean-features_stride_{STRIDE}": f"  mean feature, stride {STRIDE}",
        "rigid_shift": f"  frozen, z {jobs.mount_difference():+g} m",
    }


def _in_processes(processes: int, title: str, calls: list[tuple[Callable, tuple]]) -> list:
    """The calls' results, in order. Leaving early, by Ctrl-C or an error, ends the workers."""
    with get_context("spawn").Pool(processes, init_pool_worker) as pool, Progress() as bar:
        task = bar.add_task(title, total=len(calls))

        def done(_) -> None:
            bar.advance(task)

        waiting = [pool.apply_async(call, arguments, callback=done, error_callback=done) for call, arguments in calls]
        return [result.get() for result in waiting]


def _run_kitti(out: Path, kitti: Path, parameters: dict[str, object]) -> dict:
    from tttkd_ros.datasets.conversion import write_bag
    from tttkd_ros.datasets.kitti import open_kitti
    from tttkd_ros.demo.pictures import kitti_pictures
    from tttkd_ros.evaluation.live_recordings import read_steps
    from tttkd_ros.geometry.rig import RigCamera, save_rig

    bag, folder = out / "kitti", out / "runs" / "kitti"
    write_bag(open_kitti(kitti), bag, {"dataset": "kitti", "folder": str(kitti.resolve())})
    frames = list(BagDrive(bag))
    views = frames[0].views
    save_rig(jobs.rig_path(bag), {view.name: RigCamera(view.camera_from_lidar, view.camera) for view in views})
    seconds = (frames[-1].stamp - frames[0].stamp) * 1e-9
    run = run_live(
        bag, len(frames), folder, rig=jobs.rig_path(bag), cameras=[view.name for view in views],
        parameters=parameters | {"image_transport": "compressed", "deadline": KITTI_DEADLINE_S}, seconds=seconds,
    )
    try:
        took = latencies(run.recording, [frame.stamp for frame in frames], run.sent_times())
    except ValueError as error:
        raise ChildError(f"{error}; the node's log is {run.log}") from error
    kitti_pictures(out, frames, run.recording, OUTDOOR)
    taken = read_steps(run.recording)
    return {"sweeps_sent": len(frames), "sweeps_received": len(took), "latency_ms": percentiles(took),
            "steps_accepted": sum(step.accepted for step in taken),
            "rejections": count_rejections(taken)}


def _draw(out: Path, drives: list[DriveFigures], bag: Path) -> None:
    from tttkd_ros.demo.pictures import curves_picture, sweep_pictures

    first, titles = drives[0], _titles()
    frozen, adapted = (
        (first.live[mode].result, _run_folder(out, first.seed, mode) / "recording") for mode in (FROZEN, ADAPTED)
    )
    sweep_pictures(out, BagDrive(bag), frozen, adapted, OUTDOOR, titles[ADAPTED])
    curves_picture(out, {titles[mode]: [drive.live[mode].result for drive in drives] for mode in MODES})
