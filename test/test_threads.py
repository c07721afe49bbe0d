import threading

from tttkd_ros.threads import join


def test_a_thread_that_ends_is_waited_for(caplog):
    done = []
    thread = threading.Thread(target=lambda: done.append(True))
    thread.start()
    join(thread)
    assert done
    assert not caplog.records


def test_a_thread_that_does_not_end_is_left_behind_with_an_error(caplog):
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="stuck", daemon=True)
    thread.start()
    join(thread, 0.05)
    gate.set()
    assert "the thread 'stuck' did not end within 0.05 s" in caplog.text
