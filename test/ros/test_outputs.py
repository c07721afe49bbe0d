from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402

from tttkd_ros.adaptation.adapter import StepReport  # noqa: E402
from tttkd_ros.ros import outputs  # noqa: E402


@pytest.mark.parametrize(
    ("outcome", "level", "message"),
    [
        ({"accepted": True}, DiagnosticStatus.OK, "accepted"),
        ({"accepted": False, "reason": "too few points"}, DiagnosticStatus.WARN, "too few points"),
        ({"accepted": False, "reason": "enough learnt", "rested": True}, DiagnosticStatus.OK, "enough learnt"),
    ],
)
def test_a_step_that_was_refused_is_a_warning_and_one_that_was_not_needed_is_none(outcome, level, message):
    (status,) = outputs.adaptation(StepReport(stamp=0, version=0, **outcome), "segmenter").status
    assert (status.level, status.message) == (level, message)
    told = {pair.key: pair.value for pair in status.values}
    assert told["rested"] == ("true" if "rested" in outcome else "false")
