"""The managed node: it labels a LiDAR topic's clouds and adapts while it runs.

Threads: the executor's, whose callbacks only store what arrives; one that answers sweeps (`Inference`); the adaptation
worker's (`Pipeline`); one that draws overlays that have a subscriber.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import Trigger

from tttkd_ros import fastdds
from tttkd_ros.adaptation.loading import build_teacher_engine
from tttkd_ros.devices import resolve_device
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.throttled_log import ThrottledLog, error_with, forward_to_ros, warn_with
from tttkd_ros.paths import resolve_path, resolve_teacher
from tttkd_ros.ros import outputs, parameters
from tttkd_ros.ros.diagnostics import Diagnostics, Snapshot
from tttkd_ros.ros.qos import output_qos, publisher_events
from tttkd_ros.ros.runtime import Runtime

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ACTIVE = "active: waiting for sweeps"


def _logs_failure(transition: Callable) -> Callable:
    """A transition that raises fails and logs the reason: rclpy swallows exceptions."""

    @functools.wraps(transition)
    def wrapped(self: SegmenterNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            transition(self)
            return SUCCESS
        except Exception as error:
            reason = error if isinstance(error, ValueError | OSError) else f"\n{traceback.format_exc()}"
            if self.context.ok():  # else the node was only interrupted
                self.get_logger().fatal(f"cannot {transition.__name__.removeprefix('on_')}: {reason}")
            return FAILURE

    return wrapped


def _reset(runtime: Runtime) -> str:
    return "; ".join(filter(None, ("the weights are the checkpoint's again", runtime.state.reset())))


def _pause(runtime: Runtime) -> str:
    runtime.pipeline.pause()
    return "adaptation is paused; sweeps are still labelled"


# Each returns what it has done, or a future of success and message. ValueError: the reason why it cannot.
SERVICES: dict[str, Callable[[Runtime], str | Future]] = {
    "reset": _reset,
    "pause": _pause,
    "resume": lambda runtime: runtime.pipeline.resume(),
    "save": lambda runtime: runtime.state.save(),
    "load": lambda runtime: runtime.state.load(),
}


class SegmenterNode(LifecycleNode):
    """The node, unconfigured.

    Args:
        options: as rclpy's Node takes them.

    Raises:
        ValueError, ParameterException: if a parameter is refused.
    """

    def __init__(self, **options):
        super().__init__("segmenter", **options)
        log = self.get_logger()
        self.settings = parameters.declare(self)
        for warning in parameters.unknown_parameters(self):
            log.warning(warning)
        self._config = parameters.read_config(self, self.settings)
        self._runtime: Runtime | None = None
        self._statistics = Statistics()
        self._warnings = ThrottledLog(warn_with(log))
        self._diagnostics = Diagnostics(self.get_name(), self._statistics, warn_with(log), log.info)
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", output_qos(10),
            event_callbacks=publisher_events("/diagnostics", self._warnings.warn),
        )
        # With use_sim_time the node's own clock stands still while no bag plays.
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        disk = MutuallyExclusiveCallbackGroup()  # while its callbacks wait for a disk, all others go on
        for name, action in SERVICES.items():
            group = disk if name in ("save", "load") else None
            self.create_service(Trigger, f"~/{name}", partial(self._serve, action), callback_group=group)
        self.add_on_set_parameters_callback(self._on_parameters)

    @_logs_failure
    def on_configure(self) -> None:
        self._runtime = Runtime(self, self.settings, self._config, self._statistics)

    @_logs_failure
    def on_activate(self) -> None:
        self._runtime.active = True
        self.get_logger().info(ACTIVE)

    @_logs_failure
    def on_deactivate(self) -> None:
        self._runtime.active = False
        self._runtime.state.autosave()

    @_logs_failure
    def on_cleanup(self) -> None:
        self.close()

    @_logs_failure
    def on_shutdown(self) -> None:
        self.close()

    def close(self) -> None:
        """End every thread and process that `on_configure` started."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()
            del runtime
            _release_memory()

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        try:
            self._config = parameters.changed_config(self._config, self.settings, changed)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._runtime is not None:
            self._runtime.pipeline.config = self._config
        return SetParametersResult(successful=True)

    async def _serve(
        self, action: Callable[[Runtime], str | Future], request, response: Trigger.Response
    ) -> Trigger.Response:
        response.success, response.message = False, "not configured: configure the node first"
        if self._runtime is not None:
            try:
                result = action(self._runtime)
                response.success, response.message = await result if isinstance(result, Future) else (True, result)
            except ValueError as error:
                response.message = str(error)
        return response

    def _publish_diagnostics(self) -> None:
        twins = self.get_node_names_and_namespaces().count((self.get_name(), self.get_namespace())) - 1
        if twins > 0:
            self._warnings.warn(self.get_fully_qualified_name(), f"{twins} more nodes have this name, and all publish "
                                "on the same topics: end them, or rename this node with -r __node:=...")
        snapshot = Snapshot("unconfigured") if self._runtime is None else self._runtime.snapshot()
        statuses = self._diagnostics.statuses(snapshot)
        self._diagnostics_publisher.publish(outputs.diagnostics(self.get_clock().now().to_msg(), statuses))


def _release_memory() -> None:
    """Free what a runtime held, which would otherwise pile up if the node is configured again and again."""
    gc.collect()  # the runtime and its callbacks refer to each other
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library's
    if trim is not None:
        trim(0)  # otherwise the process keeps what threads that have ended freed


def _spin(node: SegmenterNode, executor: Executor) -> None:
    """Run callbacks until the context is shut down. rclpy would end with the first one that raises; this logs it."""
    errors = ThrottledLog(error_with(node.get_logger()))
    executor.add_node(node)
    while node.context.ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception as error:
            if node.context.ok():  # else the shutdown came in the middle of a call
                errors.failed("a callback", error)


def _build(node: SegmenterNode) -> int:
    """Build the teacher's engine; returns the exit code."""
    settings = node.settings
    try:
        result = build_teacher_engine(
            resolve_path(settings.model), resolve_teacher(settings.teacher), engine=settings.engine,
            device=resolve_device(settings.device), threads=settings.threads,
        )
    except (ValueError, OSError) as error:
        node.get_logger().fatal(f"cannot build: {error}")
        return 1
    node.get_logger().info(result)
    return 0


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; further interrupts are ignored then.

    A node that a lifecycle manager drives (autostart false) survives a failure to configure: it stays unconfigured.

    Returns:
        The exit code: 1 if a parameter is refused, or if the node cannot activate itself or build.
    """
    fastdds.use_profile()
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # a malformed parameter file or topic name
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    # It lives to the end: until the shutdown is over, rclpy's signal thread may wake it without asking if it exists.
    executor = SingleThreadedExecutor()
    node = None
    try:
        try:
            node = SegmenterNode()
        except (ValueError, ParameterException) as error:
            rclpy.logging.get_logger("segmenter").fatal(f"cannot start: {error}")
            return 1
        forward_to_ros(node.get_logger())
        if node.settings.build_only:
            return _build(node)
        if node.settings.autostart and not (
            node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
        ):
            return int(rclpy.ok())  # 0 if it was only interrupted
        _spin(node, executor)
    except KeyboardInterrupt:
        pass  # the ordinary end
    finally:
        # A second interrupt must not cut short the last autosave or the end of a child.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # again: rclpy has restored the handler that it had found
    return 0


if __name__ == "__main__":
    sys.exit(main())
