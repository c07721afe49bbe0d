from __future__ import annotations

import pytest

rclpy = pytest.importorskip("rclpy")

from tttkd_ros.ros.complaints import KINDS, Complaints  # noqa: E402
from tttkd_ros.ros.logs import err, warn  # noqa: E402


@pytest.fixture
def said():
    return []


@pytest.fixture
def time():
    return [0.0]


@pytest.fixture
def complaints(said, time):
    return Complaints(said.append, every_s=10.0, clock=lambda: time[0])


def test_a_kind_is_said_once_and_its_repetitions_are_counted(complaints, said, time):
    for second in range(10):
        time[0] = second
        complaints.about("points", f"{second} bytes short")
    assert said == ["points: 0 bytes short"]
    time[0] = 10.0
    complaints.about("points", "3 bytes short")
    assert said[1:] == ["points: 3 bytes short (9 more like it since it was last said)"]


def test_another_kind_and_another_source_are_said_at_once(complaints, said):
    complaints.about("points", "too short")
    complaints.about("points", "no x")
    complaints.about("camera", "too short")
    assert said == ["points: too short", "points: no x", "camera: too short"]


def test_ever_new_kinds_do_not_fill_the_memory(complaints):
    for number in range(3 * KINDS):
        complaints.about("points", f"field {chr(0x4E00 + number)}")
    assert len(complaints._seen) <= KINDS


def test_warnings_and_errors_may_be_of_one_logger_though_rclpy_refuses_a_call_site_of_two_severities(capfd):
    logger = rclpy.logging.get_logger("complaints")
    for log in (warn, err, warn):
        Complaints(log(logger)).about("points", "too short")
    told = capfd.readouterr().err
    assert (told.count("[WARN]"), told.count("[ERROR]")) == (2, 1)
