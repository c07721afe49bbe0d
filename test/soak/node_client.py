"""A client of the node: services, answers and diagnostics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue, SetParametersResult
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from .sender import QOS

NAME = "/segmenter"
ANSWER_TIMEOUT_S = 120.0  # for any response, on a busy machine
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE, "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE, "cleanup": Transition.TRANSITION_CLEANUP,
}  # fmt: skip
VALUES = {  # Python's type -> ROS's, and the field that holds it
    bool: (ParameterType.PARAMETER_BOOL, "bool_value"), int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
    float: (ParameterType.PARAMETER_DOUBLE, "double_value"), str: (ParameterType.PARAMETER_STRING, "string_value"),
}  # fmt: skip


class NodeClient:
    """Calls services, and receives messages whenever it waits.

    Args:
        on_answer: called with each labelled cloud.

    Attributes:
        diagnostics: times of arrival, monotonic seconds.
        sweeps, adaptation: values of the last diagnostics.
        steps: number by outcome.
    """

    def __init__(self, on_answer: Callable[[PointCloud2], None]):
        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        self.node = rclpy.create_node("soak")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.diagnostics: list[float] = []
        self.sweeps: dict[str, str] = {}
        self.adaptation: dict[str, str] = {}
        self.node.create_subscription(PointCloud2, f"{NAME}/points_labeled", on_answer, QOS)
        self.steps: Counter[str] = Counter()
        self.node.create_subscription(DiagnosticArray, f"{NAME}/adaptation", self._on_step, QOS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QOS)
        kinds = {name: Trigger for name in ("reset", "pause", "resume", "save", "load")} | {
            "change_state": ChangeState, "set_parameters_atomically": SetParametersAtomically,
        }
        self._clients = {name: self.node.create_client(kind, f"{NAME}/{name}") for name, kind in kinds.items()}

    def count(self, what: str) -> int:
        """Return a counter of sweeps from the last diagnostics."""
        return int(self.sweeps.get(f"sweeps {what}", 0))

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def until(self, condition: Callable[[], object], what: str, seconds: float = ANSWER_TIMEOUT_S) -> None:
        """Raises TimeoutError that tells `what` did not happen."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            self._executor.spin_once(timeout_sec=0.05)

    def trigger(self, service: str) -> Trigger.Response:
        return self._call(service, Trigger.Request())

    def change(self, transition: str) -> bool:
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return self._call("change_state", request).success

    def set(self, parameters: Mapping[str, bool | int | float | str]) -> SetParametersResult:
        """Set all parameters or none."""
        request = SetParametersAtomically.Request()
        for name, value in parameters.items():
            number, field = VALUES[type(value)]
            value = ParameterValue(type=number, **{field: value})
            request.parameters.append(Parameter(name=name, value=value))
        return self._call("set_parameters_atomically", request).result

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()

    def _call(self, service: str, request):
        client = self._clients[service]
        self.until(client.service_is_ready, f"{service} is not there")
        future = client.call_async(request)
        self.until(future.done, f"{service} gives no answer")
        return future.result()

    def _on_step(self, message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in message.status[0].values}
        self.steps[next((outcome for outcome in ("accepted", "skipped") if values[outcome] == "true"), "rejected")] += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics.append(time.monotonic())
        parts = {status.name.rpartition(": ")[2]: status.values for status in message.status}
        self.sweeps, self.adaptation = (
            {pair.key: pair.value for pair in parts[part]} for part in ("sweeps", "adaptation")
        )
