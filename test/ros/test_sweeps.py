from __future__ import annotations

import threading

from tttkd_ros.ros.sweeps import SweepQueue


def test_items_come_out_in_the_order_in_which_they_came():
    queue = SweepQueue(5)
    assert all(queue.put(number) for number in range(5))
    assert [queue.take() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_full_queue_drops_its_oldest_and_says_so():
    queue = SweepQueue(2)
    assert [queue.put(number) for number in range(4)] == [True, True, False, False]
    assert [queue.take(), queue.take()] == [2, 3]


def test_closing_wakes_the_taker_and_hands_out_nothing_more():
    queue = SweepQueue(2)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    queue.close()
    thread.join(5)
    queue.put(1)
    assert (taken, queue.take()) == ([None], None)


def test_closing_tells_how_many_still_waited():
    queue = SweepQueue(5)
    for number in range(3):
        queue.put(number)
    queue.take()
    assert queue.close() == 2
