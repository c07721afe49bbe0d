"""What can be read of a bag that is not whole: a file cut short or with a hole, a recorder that was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tttkd_ros.bags.bag_files import find_files, open_file, read_metadata
from tttkd_ros.bags.errors import Damaged
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
        except Damaged as error:
            metadata = read_metadata(path)
            parts = _Parts(find_files(path, metadata, whole=False), stack)
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

    def __init__(self, files: list[Path], stack: ExitStack):
        self._readers, self.told, self.torn = [], [], False
        lost = ""
        for file in files:
            self.torn |= bool(lost)
            lost = ""
            try:
                reader = stack.enter_context(open_file(file))
                _read_through(Bag(file, reader))
            except ValueError:
                if file.suffix not in SALVAGED:
                    self.told.append(f"{file.name} cannot be read")
                    continue
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
        raise Damaged(f"bag {bag.path} is damaged: it counts {bag.counts[topic]} messages on {topic}, but has {has}")
