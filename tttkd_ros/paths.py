"""Where the files that ship with the code are: models, configuration, launch files."""

from __future__ import annotations

from pathlib import Path

STUDENT = "models/student/student.safetensors"
TEACHER = "models/teacher"


def shipped_path(relative: str | Path) -> Path:
    """Absolute path of a shipped file or folder, e.g. shipped_path("config/rigs/demo.yaml"), or FileNotFoundError.

    The source tree of the code comes first, so that code and files have the same version even if an editable install
    has left copies in its prefix. Otherwise it is the nearest folder above the code with share/tttkd_ros.
    """
    module = Path(__file__).resolve()  # a symlinked install leads back to its source tree
    source, *above = module.parents[1:]
    roots = [source, *(folder / "share" / "tttkd_ros" for folder in (source, *above))]
    root = next((root for root in roots if (root / "package.xml").is_file()), None)
    if root is None:
        raise FileNotFoundError(
            f"the files that ship with tttkd_ros are not beside {module}: install it with `pip install .` or "
            "`colcon build`, or run it from its source tree"
        )
    path = root / relative
    if not path.exists():
        raise FileNotFoundError(f"{relative} is not in {root}, the folder of the files that ship with tttkd_ros")
    return path


def resolve_path(path: str) -> Path:
    """The file of a parameter: the path itself, or the shipped file of that relative path. Raises ValueError."""
    given = Path(path).expanduser()
    if given.exists():
        return given
    if given.is_absolute():
        raise ValueError(f"no such file or directory: {given}")
    try:
        return shipped_path(given)
    except FileNotFoundError as error:
        raise ValueError(f"{path!r} is not in {Path.cwd()}, and {error}") from error


def resolve_teacher(teacher: str) -> str:
    """The folder of a parameter as `resolve_path` finds it, or the value itself, which may name a downloaded model."""
    try:
        return str(resolve_path(teacher))
    except ValueError:
        return teacher
