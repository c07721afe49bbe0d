"""The managed node: a LiDAR topic in, labelled clouds out, adapting while it runs.

Threads: the executor's, whose callbacks only stash what arrives; one that answers sweeps (`Inference`); the adaptation
worker's (`Pipeline`); one that draws overlays when somebody looks at them.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import signal
import sys
import traceback
from collections.abc import Callable

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

from tttkd_ros.adaptation.loading import build_engine
from tttkd_ros.devices import resolve_device
from tttkd_ros.ros import fastdds, outputs, parameters
from tttkd_ros.ros.diagnostics import Diagnostics, Snapshot
from tttkd_ros.ros.files import resolve
from tttkd_ros.ros.logs import err, forward, warn
from tttkd_ros.ros.qos import output_qos, publisher_events
from tttkd_ros.ros.runtime import Runtime
from tttkd_ros.ros.statistics import Statistics
from tttkd_ros.ros.throttled_log import ThrottledLog

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ACTIVE = "active: waiting for sweeps"
UNCONFIGURED = "not configured: there is nothing to act on"


def _reporting(transition: Callable) -> Callable:
    """A transition that fails does not happen, and says why: rclpy swallows what it raises."""

    @functools.wraps(transition)
    def reported(self: SegmenterNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            reason = error if isinstance(error, ValueError | OSError) else f"\n{traceback.format_exc()}"
            if self.context.ok():  # else the node was only interrupted
                self.get_logger().fatal(f"cannot {transition.__name__.removeprefix('on_')}: {reason}")
            return FAILURE

    return reported


class SegmenterNode(LifecycleNode):
    """options: as rclpy's Node takes them. Raises ValueError or rclpy's ParameterException for a refused parameter."""

    def __init__(self, **options):
        super().__init__("segmenter", **options)
        self.settings = parameters.declare(self)
        for told in parameters.unknown(self):
            warn(self.get_logger())(told)
        self._config = parameters.read_config(self)
        self._runtime: Runtime | None = None
        self._statistics = Statistics()
        log = self.get_logger()
        self._diagnostics = Diagnostics(self.get_name(), self._statistics, warn(log), log.info)
        self._complaints = ThrottledLog(warn(log))
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", output_qos(10),
            event_callbacks=publisher_events("/diagnostics", self._complaints.warn),
        )
        # Steady: with use_sim_time the node's own clock stands still while no bag plays.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/pause", self._on_pause)
        self.create_service(Trigger, "~/resume", self._on_resume)
        apart = MutuallyExclusiveCallbackGroup()  # while these wait for a disk, all other callbacks go on
        self.create_service(Trigger, "~/save", self._on_save, callback_group=apart)
        self.create_service(Trigger, "~/load", self._on_load, callback_group=apart)
        self.add_on_set_parameters_callback(self._on_parameters)

    @_reporting
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._runtime = Runtime(self, self.settings, self._config, self._statistics)
        return SUCCESS

    @_reporting
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._runtime.active = True
        self.get_logger().info(ACTIVE)
        return SUCCESS

    @_reporting
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._runtime.active = False
        self._runtime.state.autosave()
        return SUCCESS

    @_reporting
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    @_reporting
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Ends every thread and process that `on_configure` started."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()
            del runtime
            _release_memory()

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        try:
            config = parameters.changed_config(self._config, changed)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._config = config
        if self._runtime is not None:
            self._runtime.pipeline.config = config
        return SetParametersResult(successful=True)

    def _on_reset(self, request, response: Trigger.Response) -> Trigger.Response:
        def reset(runtime: Runtime) -> str:
            runtime.state.reset()
            return "; ".join(filter(None, ("back to the weights of the checkpoint", runtime.pipeline.revive())))

        return self._serve(response, reset)

    def _on_pause(self, request, response: Trigger.Response) -> Trigger.Response:
        def pause(runtime: Runtime) -> str:
            runtime.pipeline.pause()
            return "adaptation paused; sweeps are still answered"

        return self._serve(response, pause)

    def _on_resume(self, request, response: Trigger.Response) -> Trigger.Response:
        return self._serve(response, lambda runtime: runtime.pipeline.resume())

    def _serve(self, response: Trigger.Response, action: Callable[[Runtime], str]) -> Trigger.Response:
        """action: returns what it has done, or raises ValueError with the reason why it cannot."""
        response.success, response.message = False, UNCONFIGURED
        if self._runtime is not None:
            try:
                response.success, response.message = True, action(self._runtime)
            except ValueError as error:
                response.success, response.message = False, str(error)
        return response

    async def _on_save(self, request, response: Trigger.Response) -> Trigger.Response:
        return await self._store(response, lambda runtime: runtime.state.save())

    async def _on_load(self, request, response: Trigger.Response) -> Trigger.Response:
        return await self._store(response, lambda runtime: runtime.state.load())

    async def _store(self, response: Trigger.Response, action: Callable[[Runtime], Future]) -> Trigger.Response:
        response.message = UNCONFIGURED
        if self._runtime is not None:
            response.success, response.message = await action(self._runtime)
        return response

    def _report(self) -> None:
        twins = self.get_node_names_and_namespaces().count((self.get_name(), self.get_namespace())) - 1
        if twins > 0:
            self._complaints.warn(self.get_fully_qualified_name(), f"{twins} more nodes have this name: their answers "
                                   "mix on one topic; end them, or name this one with -r __node:=...")
        now = Snapshot("unconfigured") if self._runtime is None else self._runtime.snapshot()
        message = outputs.diagnostics(self.get_clock().now().to_msg(), self._diagnostics.statuses(now))
        self._diagnostics_publisher.publish(message)


def _release_memory() -> None:
    """What a runtime held, which would else pile up over a node's lives."""
    gc.collect()  # it and its callbacks refer to each other
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library's
    if trim is not None:
        trim(0)  # what threads that have ended freed stays with the process otherwise


def _spin(node: SegmenterNode, executor: Executor) -> None:
    """Until the context is shut down. rclpy would end with the first callback that raises; this says so and goes on."""
    warnings_log = ThrottledLog(err(node.get_logger()))
    executor.add_node(node)
    while node.context.ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception as error:
            if node.context.ok():  # else the shutdown came in the middle of a call
                warnings_log.failed("a callback", error)


def _build(node: SegmenterNode) -> int:
    settings = node.settings
    try:
        told = build_engine(
            resolve(settings.model), resolve(settings.teacher), engine=settings.engine,
            device=resolve_device(settings.device), threads=settings.threads,
        )
    except (ValueError, OSError) as error:
        node.get_logger().fatal(f"cannot build: {error}")
        return 1
    node.get_logger().info(told)
    return 0


def _activate(node: SegmenterNode) -> bool:
    return node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS


def main(args: list[str] | None = None) -> int:
    """Runs until interrupted; the process is deaf to further interrupts then. Returns 1 where a parameter is refused or
    where the node cannot activate itself or build.

    A node that a lifecycle manager drives (autostart false) outlives a failure to configure: it stays unconfigured.
    """
    fastdds.use_profile()
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # a parameter file or a topic's name that is not well-formed
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    # Kept to the end: until the shutdown is over, rclpy's signal thread may wake it, and does not look if it is there.
    executor = SingleThreadedExecutor()
    node = None
    try:
        try:
            node = SegmenterNode()
        except (ValueError, ParameterException) as error:
            rclpy.logging.get_logger("segmenter").fatal(f"cannot start: {error}")
            return 1
        forward(node.get_logger())
        if node.settings.build_only:
            return _build(node)
        if node.settings.autostart and not _activate(node):
            return int(rclpy.ok())  # 0 where it was only interrupted
        _spin(node, executor)
    except KeyboardInterrupt:
        pass  # the ordinary end
    finally:
        # A second one must not cut short what the first has begun: the last autosave, the end of a child.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once more: rclpy has put back what it had found
    return 0


if __name__ == "__main__":
    sys.exit(main())
