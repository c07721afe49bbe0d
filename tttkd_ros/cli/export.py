"""`tttkd export`: write sweeps as files that labelling tools read."""

from __future__ import annotations

from pathlib import Path


def export(source: str, out: Path, /, *, every: int = 1, class_set: str = "outdoor10") -> None:
    """Write sweeps as .bin files, with their images, for a labelling tool.

    OUT/DRIVE has velodyne/STAMP.bin and a folder of images for each camera. OUT/classes.yaml has the id of each class.
    Save the tool's labels as OUT/DRIVE/labels/STAMP.label, a uint32 for each point. If the source has labels, they are
    written there.

    Copy labels and classes.yaml into the bag's folder: training and evaluation then take them as its truth.

    Example: `tttkd export drive to_label --every 10 --class-set my_classes.yaml`.

    Args:
        source: a bag, or another source, as for `tttkd evaluate`.
        out: folder to write.
        every: write only every n-th sweep.
        class_set: classes of the labels: outdoor10, semantickitti19, nuscenes16, waymo22, or your own YAML file.
    """
    from rich.progress import track

    from tttkd_ros.classes import load_class_set
    from tttkd_ros.datasets.export import write_names, write_part
    from tttkd_ros.datasets.source import open_source

    if every < 1:
        raise ValueError(f"every is {every}, expected at least 1")
    classes = load_class_set(class_set)
    parts = open_source(source, classes, purpose="examples")
    for part in parts:
        if (out / part.name).exists():
            raise ValueError(f"{out / part.name} exists: choose another folder, or remove it")
    write_names(classes, out)
    for part in parts:
        for _ in track(write_part(part, out / part.name, every), part.name, -(-len(part) // every)):
            pass
