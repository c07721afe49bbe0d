"""Where a path in a parameter is looked for."""

from __future__ import annotations

from pathlib import Path

from tttkd_ros.paths import shipped_path


def resolve(path: str) -> Path:
    """`path` itself; where it is relative and not in the working directory, the shipped file of that name.

    Raises ValueError where neither is there.
    """
    given = Path(path).expanduser()
    if given.exists():
        return given
    if given.is_absolute():
        raise ValueError(f"no such file or directory: {given}")
    try:
        return shipped_path(given)
    except FileNotFoundError as error:
        raise ValueError(f"{path!r} is not in {Path.cwd()}, and {error}") from error
