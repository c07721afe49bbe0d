"""What can be read of a bag that is not whole: a file cut short or with a hole, a recorder that was killed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import yaml
from rosbags.rosbag2 import Reader

from tttkd_ros.bags.salvaged_database import SalvagedDatabase
from tttkd_ros.bags.salvaged_mcap import SalvagedMcap
from tttkd_ros.bags.storage import Bag, open_bag

SALVAGED = {".mcap": SalvagedMcap, ".db3": SalvagedDatabase}


@contextmanager
def open_readable(path: Path | str) -> Iterator[Bag]:
    """As `open_bag`, but of a bag that is not whole, what is: then `damage` tells what is wrong and how much is left.

    All of the bag is read for that: a hole in its middle shows in no index. Raises ValueError where nothing can be
    read.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            bag = stack.enter_context(open_bag(path))
            _read_through(bag)
        except ValueError as error:
            if not path.exists():
                raise
            metadata = _metadata(path)
            if str(metadata.get("compression_mode")).lower() == "message":  # the files alone do not tell of that
                raise
            parts = _Parts(path, stack)
            left = sum(connection.msgcount for connection in parts.connections)
            if not left:
                raise
            recorded = metadata.get("message_count")
            told = [*parts.told, f"{left} messages are left" + (f" of {recorded}" if recorded else "")]
            bag = Bag(path, parts, f"{error}; {', '.join(told)}", torn=parts.torn)
        yield bag


class _Parts:
    """The files of a bag, each as far as it can be read, as one reader.

    told: what there is to say of each. torn: whether there are messages behind what cannot be read.
    """

    def __init__(self, path: Path, stack: ExitStack):
        files = [path] if path.is_file() else sorted(path.iterdir(), key=_natural)
        self._readers, self.told, self.torn = [], [], False
        lost = ""
        for file in files:
            if file.suffix not in SALVAGED:
                continue
            self.torn |= bool(lost)
            reader, lost = Reader(file), ""
            # rosbags' parsers let out whatever a damaged file makes their unpacking and indexing raise.
            try:
                reader.open()
                stack.callback(reader.close)
                _read_through(Bag(file, reader))
            except Exception:
                reader = SALVAGED[file.suffix](file)
                stack.callback(reader.close)
                lost, self.torn = reader.lost, self.torn or reader.torn
            self._readers.append(reader)
            if any(connection.msgcount for connection in reader.connections):
                self.told.append(f"{file.name} can be read" + (f" but for {lost}" if lost else ""))
            else:
                self.told.append(f"{file.name} cannot be read")
        self.connections = [connection for reader in self._readers for connection in reader.connections]

    def messages(self, connections: Collection) -> Iterator[tuple]:
        for reader in self._readers:
            own = [connection for connection in reader.connections if connection in connections]
            if own:
                yield from reader.messages(own)


def _read_through(bag: Bag) -> None:
    """Raise ValueError where there are not the messages that the bag counts: less, or ever the same ones, where damaged
    pages of SQLite lead back."""
    found: Counter[str] = Counter()
    for record in bag.messages(bag.types):
        found[record.topic] += 1
        if found[record.topic] > bag.counts[record.topic]:
            break
    if differing := [topic for topic in bag.counts if found[topic] != bag.counts[topic]]:
        topic = min(differing, key=lambda topic: (found[topic] <= bag.counts[topic], topic))
        has = "more" if found[topic] > bag.counts[topic] else found[topic]
        raise ValueError(f"bag {bag.path} is damaged: it counts {bag.counts[topic]} messages on {topic}, but has {has}")


def _metadata(path: Path) -> dict:
    """What metadata.yaml tells of the bag; nothing where there is none that tells."""
    with suppress(OSError, yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError):
        told = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        if isinstance(told, dict):
            return told
    return {}


def _natural(path: Path) -> list:
    """rosbag2 numbers the files of a bag without leading zeros."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
