import subprocess
import sys

import pytest

INTERRUPTED = """
import signal, sys
from tttkd_ros.subprocesses import interruptible
number, handler = signal.Signals[sys.argv[1]], signal.Handlers[sys.argv[2]]
signal.signal(number, handler)
try:
    with interruptible():
        signal.raise_signal(number)
        print("goes on")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(number) is handler)
"""


@pytest.mark.parametrize(
    ("number", "handler", "expected"),
    [
        ("SIGTERM", "SIG_DFL", "interrupted True"),
        ("SIGHUP", "SIG_DFL", "interrupted True"),  # its terminal goes away
        ("SIGHUP", "SIG_IGN", "goes on"),  # which does not matter under nohup
    ],
)
def test_signals_interrupt_the_work(number, handler, expected):
    command = [sys.executable, "-c", INTERRUPTED, number, handler]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip() == expected
