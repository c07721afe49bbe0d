"""What all files of a bag have in common: typed topics, messages in the order of time, and errors with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from heapq import merge
from pathlib import Path
from shlex import quote
from typing import Protocol, TypeVar

CDR = "cdr"  # how ROS 2 serialises messages
REMEDIES = {
    ".mcap": "`mcap recover {0} -o recovered.mcap` saves what can be read",
    ".db3": "`sqlite3 {0} .recover | sqlite3 recovered.db3` saves what can be read",
    **dict.fromkeys((".zstd", ".zst"), "copy it again, or unpack it with `zstd -d {0}`"),
}

Timed = TypeVar("Timed", bound=tuple)  # its second item is a time in nanoseconds


class BagError(ValueError):
    """Names the bag or its file, what is wrong, and what to do."""


@dataclass(eq=False)
class Connection:
    """A topic of one file. msgtype: empty if the file does not name it."""

    topic: str
    msgtype: str
    msgcount: int = 0
    encoding: str = CDR


class Source(Protocol):
    """Messages of a file. start: first recording time, ns. damage: where it was cut short; None if it is complete."""

    connections: list[Connection]
    start: int
    damage: str | None

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, recording time (ns) and content of each message, in the order of time."""


def in_time_order(sources: Iterable[tuple[int, Callable[[], Iterable[Timed]]]]) -> Iterator[Timed]:
    """Merge sources, given by first time and opener, in the order of time; of equal times, the earlier source is first.

    A source is opened only when its first time is due, so that few of them are in memory.
    """

    def opened_when_due(place: int, start: int, read: Callable[[], Iterable[Timed]]):
        yield start, place, None
        for item in read():
            yield item[1], place, item

    streams = [opened_when_due(place, *source) for place, source in enumerate(sources)]
    for _, _, item in merge(*streams, key=lambda entry: entry[:2]):
        if item is not None:
            yield item


def ros2_type(name: str) -> str:
    """Spell "sensor_msgs/PointCloud2" and "sensor_msgs::msg::PointCloud2" as "sensor_msgs/msg/PointCloud2"."""
    parts = name.replace("::", "/").split("/")
    return "/".join([parts[0], "msg", parts[1]] if len(parts) == 2 else parts)


@contextmanager
def damage_named(path: Path, where: str = "") -> Iterator[None]:
    """Raise BagError for whatever goes wrong inside, because parsers of a damaged file do not raise their errors alone.

    where: the part of the file, for the message.
    """
    try:
        yield
    except BagError:
        raise
    except OSError as error:
        remedy = ": set TMPDIR to a folder on a larger disk" if error.errno == ENOSPC else ""
        raise BagError(f"bag {path}{where} cannot be read: {error.strerror or error}{remedy}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        what = f"bag {path}{where} is damaged or cut short, or of an unknown kind ({reason})"
        raise BagError(what if where else with_remedy(what, path)) from error


def with_remedy(problem: str, path: Path) -> str:
    """Add to a problem the command that repairs a file of this kind."""
    return f"{problem}: {REMEDIES[path.suffix].format(quote(str(path)))}" if path.suffix in REMEDIES else problem
