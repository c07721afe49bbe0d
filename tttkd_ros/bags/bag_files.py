"""The files of a bag: which they are, of what kind, and all of them as one source of messages.

metadata.yaml repeats what the files hold, and people edit, copy and lose it. Only the names of the files are used. If
it contradicts the files, the files decide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from os.path import isfile  # pathlib's raises OSError for a name that is too long
from pathlib import Path, PureWindowsPath
from shlex import quote

import yaml

from tttkd_ros.bags.compression import unpacked_file
from tttkd_ros.bags.connections import Connection, Source, in_time_order
from tttkd_ros.bags.errors import BagError, damage_named, with_remedy
from tttkd_ros.bags.file_kinds import MCAP, SQLITE, ZSTD, file_kind
from tttkd_ros.bags.mcap_file import McapFile
from tttkd_ros.bags.sqlite_file import SqliteFile

STORED = (".mcap", ".db3")
PACKED = (".zstd", ".zst")
READERS = {MCAP: McapFile, SQLITE: SqliteFile}


class Files:
    """Several files as one `Source`.

    Args:
        sources: The files, in their order.
        notes: What the user should know of metadata.yaml.

    Raises:
        BagError: A file before the last one is cut short.
    """

    def __init__(self, sources: Collection[Source], notes: Collection[str]):
        *others, last = sources
        for source in others:
            if source.damage is not None:  # messages in the midst of the bag are missing
                raise BagError(f"{source.damage}; only the last file of a bag is read as far as it goes")
        self._sources = sources
        self.damage = last.damage
        self.notes = (*notes, *([] if last.damage is None else [f"{last.damage}; it is read up to there"]))
        self.connections = [connection for source in sources for connection in source.connections]
        self.start = min(source.start for source in sources)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """See `Source`."""
        return in_time_order(
            (source.start, partial(source.messages, own))
            for source in self._sources
            if (own := [connection for connection in source.connections if connection in connections])
        )


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open the bag at `path`. Raises BagError if there is none, or it is damaged."""
    with ExitStack() as stack:
        metadata = _read_metadata(path)
        files = _find_files(path, metadata)
        sources = [stack.enter_context(_open_file(file)) for file in files]
        yield Files(sources, tuple(_contradictions(path, metadata, files, sources)))


@contextmanager
def _open_file(path: Path) -> Iterator[Source]:
    with ExitStack() as stack:
        with damage_named(path):
            kind = file_kind(path)
            if kind == ZSTD:
                unpacked = stack.enter_context(unpacked_file(path))
                kind = file_kind(unpacked)
                if kind == ZSTD:
                    raise ValueError("it is compressed twice")
                source = READERS[kind](unpacked)
            else:
                source = READERS[kind](path)
            stack.enter_context(closing(source))
        yield _NamedSource(path, source)


class _NamedSource:
    """A source whose errors and damage name the file; some damage shows only when the messages are read."""

    def __init__(self, path: Path, source: Source):
        self._path, self._source = path, source
        self.connections, self.start = source.connections, source.start
        self.damage = source.damage and with_remedy(f"{path} is cut short ({source.damage})", path)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        with damage_named(self._path):
            messages = iter(self._source.messages(connections))
        while True:
            with damage_named(self._path):
                message = next(messages, None)
            if message is None:
                return
            yield message


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


def _contradictions(
    path: Path, metadata: Mapping, files: Collection[Path], sources: Collection[Source]
) -> Iterator[str]:
    read = {_bare(file) for file in files}
    others = sorted(file.name for file in path.glob("*") if _is_stored(file) and _bare(file) not in read)
    if others:
        command = f"ros2 bag reindex {quote(str(path))}"
        yield f"metadata.yaml does not name {', '.join(others)}: not read (`{command}` adds what is missing)"
    counted, found = metadata.get("message_count"), sum(c.msgcount for source in sources for c in source.connections)
    if isinstance(counted, int) and counted != found:
        yield f"metadata.yaml counts {counted} messages, but the files hold {found}: all of these are read"


def _nothing_in(path: Path) -> str:
    for file in sorted(path.iterdir(), key=_natural):
        if file.is_file() and file.suffix in (".bag", ".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z"):
            with suppress(ValueError, OSError):
                try:
                    file_kind(file)
                except BagError as error:
                    return str(error)
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
