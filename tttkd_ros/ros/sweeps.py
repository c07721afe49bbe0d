"""The line in which sweeps wait for the student: first in, first out, bounded, the oldest dropped when it is full."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class SweepQueue(Generic[T]):
    """Hands items from the middleware's callback, which never waits, to the one thread that takes them."""

    def __init__(self, bound: int):
        self._items: deque[T] = deque()
        self._bound = bound
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """False where the oldest waiting item had to go to make room."""
        with self._changed:
            full = len(self._items) >= self._bound
            if full:
                self._items.popleft()
            self._items.append(item)
            self._changed.notify()
            return not full

    def __len__(self) -> int:
        """How many wait."""
        return len(self._items)

    def take(self) -> T | None:
        """The oldest item; waits for one. None once the queue is closed: what still waited is not handed out."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            return None if self._closed else self._items.popleft()

    def close(self) -> int:
        """How many still waited."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return len(self._items)
