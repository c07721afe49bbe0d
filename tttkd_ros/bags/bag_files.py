"""The files of a bag: which they are, and of what kind.

metadata.yaml repeats what the files hold, and people edit, copy and lose it. Only its names of files are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from os.path import isfile  # pathlib's raises OSError for a name that is too long
from pathlib import Path, PureWindowsPath
from shlex import quote

import yaml

from tttkd_ros.bags.compression import ZSTD, unpacked_file
from tttkd_ros.bags.connections import BagError, Source, damage_named
from tttkd_ros.bags.mcap_file import MCAP, McapFile
from tttkd_ros.bags.sqlite_file import SQLITE, SqliteFile

STORED = (".mcap", ".db3")
PACKED = (".zstd", ".zst")
READERS = {MCAP: McapFile, SQLITE: SqliteFile}

UNPACK = "is an archive: unpack it first, with `{}`, and give the bag in it"
# Start of files that are mistaken for bags -> what to do with them.
OTHERS = {
    b"#ROSBAG V": "is a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst {stem}`, and give {stem}",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    b"PK\x03\x04": UNPACK.format("unzip {path}"),
    b"\x1f\x8b": UNPACK.format("tar xzf {path}` or `gunzip {path}"),
    b"BZh": UNPACK.format("tar xjf {path}` or `bunzip2 {path}"),
    b"\xfd7zXZ\0": UNPACK.format("tar xJf {path}` or `unxz {path}"),
    b"7z\xbc\xaf\x27\x1c": UNPACK.format("7z x {path}"),
    b"<!DOCTYPE": "is a web page, not a bag: the download went wrong",
    b"<html": "is a web page, not a bag: the download went wrong",
}
TAR_MAGIC_OFFSET = 257  # of b"ustar" in a tar archive


@contextmanager
def open_files(path: Path) -> Iterator[tuple[dict[Path, Source], list[str]]]:
    """Open the bag's files, and find out how metadata.yaml contradicts them. Raises BagError if that fails."""
    with ExitStack() as stack:
        metadata, sources = _read_metadata(path), {}
        for file in _find_files(path, metadata):
            with damage_named(file):
                sources[file] = _open_file(file, stack)
        yield sources, list(_contradictions(path, metadata, sources))


def holds_bag(folder: Path) -> bool:
    """Tell if a folder is a bag, sound or not: it has a metadata.yaml or a storage file."""
    return isfile(folder / "metadata.yaml") or any(_is_stored(file) for file in folder.iterdir() if file.is_file())


def _open_file(path: Path, stack: ExitStack) -> Source:
    if (kind := _file_kind(path)) == ZSTD:
        path = stack.enter_context(unpacked_file(path))
        if (kind := _file_kind(path)) == ZSTD:
            raise ValueError("it is compressed twice")
    return stack.enter_context(closing(READERS[kind](path)))


def _file_kind(path: Path) -> bytes:
    """MCAP, SQLITE or ZSTD. Raises BagError with the remedy if it is no bag, ValueError if its kind is unknown."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise BagError(f"bag {path} is damaged or cut short: it is empty. Record or copy it again")
    for kind in (MCAP, SQLITE, ZSTD):
        if start.startswith(kind):
            return kind
    for kind, problem in OTHERS.items():
        if start.startswith(kind):
            problem = problem.format(path=quote(str(path)), stem=quote(str(path.with_suffix(""))))
            raise BagError(f"{path} {problem}")
    if start[TAR_MAGIC_OFFSET:].startswith(b"ustar"):
        raise BagError(f"{path} {UNPACK.format(f'tar xf {quote(str(path))}')}")
    raise ValueError(f"it starts with {start[:8]!r}, expected an MCAP or SQLite file")


def _find_files(path: Path, metadata: Mapping) -> list[Path]:
    """The storage files of the bag at `path`. Raises BagError if one that metadata.yaml names is missing."""
    if not path.exists():
        raise BagError(f"no bag at {path}")
    if path.is_file():
        return [path]
    present = [file for file in sorted(path.iterdir(), key=_natural) if file.is_file() and _is_stored(file)]
    named = _files_named(path, metadata)
    if named and None not in named.values():
        return list(dict.fromkeys(named.values()))
    files = [file for file in present if file.suffix not in PACKED or file.with_suffix("") not in present]
    if not files:
        raise BagError(_nothing_in(path))
    if len(files) < len(named):
        missing = ", ".join(name for name, file in named.items() if file is None)
        raise BagError(f"{path} is incomplete: metadata.yaml names {missing}, which is not there: copy it there, or "
                       f"`ros2 bag reindex {quote(str(path))}` to do without")
    kinds = {_bare(file).suffix for file in files}
    if len(kinds) > 1:
        raise BagError(f"{path} has {' and '.join(sorted(kinds))} files, and no metadata.yaml that names those of the "
                       "bag: give one file, or move the others away")
    return files


def _read_metadata(path: Path) -> dict:
    """The content of metadata.yaml; empty if there is none."""
    with suppress(OSError, yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError):
        information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        if isinstance(information, dict):
            return information
    return {}


def _files_named(path: Path, metadata: Mapping) -> dict[str, Path | None]:
    """The files that metadata.yaml names, as they are called now; None for one that is not there."""
    names = metadata.get("relative_file_paths")
    found: dict[str, Path | None] = {}
    for name in names if isinstance(names, list) else ():
        if not isinstance(name, str) or not _is_stored(Path(name)):
            continue
        last = PureWindowsPath(name).name  # it knows both separators
        inside = [last] if ".." in Path(name).parts or Path(name).is_absolute() else [name, last]
        # Old recorders name a compressed file as if it were not compressed, and users unpack files.
        bare = [_bare(Path(each)).as_posix() for each in inside]
        candidates = [*inside, *bare, *(each + packed for each in bare for packed in PACKED)]
        found[name] = next((path / each for each in candidates if isfile(path / each)), None)
    return found


def _contradictions(path: Path, metadata: Mapping, sources: Mapping[Path, Source]) -> Iterator[str]:
    read = {_bare(file) for file in sources}
    others = sorted(file.name for file in path.glob("*") if _is_stored(file) and _bare(file) not in read)
    if others:
        command = f"ros2 bag reindex {quote(str(path))}"
        yield f"metadata.yaml does not name {', '.join(others)}: not read (`{command}` adds what is missing)"
    counted = metadata.get("message_count")
    found = sum(connection.msgcount for source in sources.values() for connection in source.connections)
    if isinstance(counted, int) and counted != found:
        yield f"metadata.yaml counts {counted} messages, but the files hold {found}: all of these are read"


def _nothing_in(path: Path) -> str:
    for file in sorted(path.iterdir(), key=_natural):
        if file.is_file() and file.suffix in (".bag", ".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z"):
            try:
                _file_kind(file)
            except BagError as error:
                return str(error)
            except (ValueError, OSError):
                continue
    inner = sorted(bag.parent.name for bag in path.glob("*/metadata.yaml"))
    hint = f"give one of the bags in it ({', '.join(inner)})" if inner else "is it the right folder?"
    return f"{path} is no bag: it has no .mcap and no .db3 file: {hint}"


def _is_stored(file: Path) -> bool:
    return _bare(file).suffix in STORED


def _bare(file: Path) -> Path:
    """The path without the suffix of compression."""
    return file.with_suffix("") if file.suffix in PACKED else file


def _natural(path: Path) -> list:
    """Sorting key: rosbag2 numbers the files of a bag without leading zeros."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
