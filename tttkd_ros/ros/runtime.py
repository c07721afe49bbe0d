"""All that the node has from configure to cleanup: pipeline, threads, subscriptions and publishers."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from tttkd_ros.adaptation.adapter import Adapter, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Governor
from tttkd_ros.adaptation.loading import load_ttt_kd
from tttkd_ros.adaptation.process import AdapterProcess, Cancellation
from tttkd_ros.adaptation.state_file import Origin
from tttkd_ros.devices import resolve_device
from tttkd_ros.geometry.mounting import Mounting
from tttkd_ros.geometry.rig import load_base_from_lidar, load_rig
from tttkd_ros.geometry.trajectory import Compensation
from tttkd_ros.messages.camera_buffer import CameraBuffer
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.throttled_log import ThrottledLog, warn_with
from tttkd_ros.names import is_rectified
from tttkd_ros.paths import resolve_path, resolve_teacher
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros import outputs
from tttkd_ros.ros.camera_setup import choose_extrinsics, resolve_camera_topics, with_cameras
from tttkd_ros.ros.diagnostics import Snapshot
from tttkd_ros.ros.image_injector import ImageInjector
from tttkd_ros.ros.inference import Inference
from tttkd_ros.ros.overlay import Overlays
from tttkd_ros.ros.published_types import PublishedTypes
from tttkd_ros.ros.qos import LATCHED, output_qos, publisher_events
from tttkd_ros.ros.sensor_topic import SensorTopic
from tttkd_ros.ros.settings import Settings
from tttkd_ros.ros.state_services import AdaptedState
from tttkd_ros.ros.tf_lookup import TfTransforms, listen_to_tf, tf_poses
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.teacher.foundation_model import check_teacher, explain_other_name, load_teacher


class Runtime:
    """Builds everything, or nothing: raises ValueError or OSError if a file or the rig is missing or does not fit.

    settings: the fixed parameters. config: the settings of adaptation at start. While `active` is false, sweeps are
    counted and not segmented.
    """

    def __init__(self, node: Node, settings: Settings, config: TTTConfig, statistics: Statistics):
        self.active = False
        self._node = node
        self._statistics = statistics
        self._inputs: list[SensorTopic] = []
        self._close: list[Callable[[], object]] = []  # called from the last to the first
        try:
            self._make(node, settings, config)
        except BaseException:
            self.close()
            raise

    def _make(self, node: Node, settings: Settings, config: TTTConfig) -> None:
        log = node.get_logger()
        warnings = self._warnings = ThrottledLog(warn_with(log))
        failures = ThrottledLog(self._error)
        raw = settings.image_transport == "raw"
        image_type = f"sensor_msgs/msg/{'Image' if raw else 'CompressedImage'}"
        rig = load_rig(resolve_path(settings.rig)) if settings.rig else None
        base_from_lidar = load_base_from_lidar(resolve_path(settings.rig)) if settings.rig else None
        if base_from_lidar is not None:
            rig = rig or None  # a rig file may give the mounting of the LiDAR alone
        settings = with_cameras(settings, rig)
        sources = resolve_camera_topics(node, settings, rig)
        places_cameras = settings.cameras and (settings.fixed_frame or not rig)
        tf = listen_to_tf(node) if places_cameras or (settings.base_frame and base_from_lidar is None) else None
        if tf:
            self._close.append(tf.close)
        transforms = choose_extrinsics({name: topics.image for name, topics in sources.items()}, rig, tf and tf.buffer)
        poses = tf_poses(tf and tf.buffer, settings.fixed_frame, log.info) if settings.cameras else None
        compensation = Compensation(poses and poses.trajectory, partial(warnings.warn, "motion"), log.info)
        mounting = Mounting(base_from_lidar, settings.base_frame, tf and TfTransforms(tf.buffer).lookup, log.info)
        self.cameras = CameraBuffer(
            settings.cameras, transforms, image_type, warnings.warn,
            tolerance_ns=round(settings.tolerance * 1e9), depth=settings.history, wait_s=settings.wait,
            max_bytes=settings.history_bytes, max_pixels=settings.image_pixels,
            channel_order=settings.channel_order, compensation=compensation,
            offsets_ns=tuple(round(offset * 1e9) for offset in settings.offsets),
            rectified=[name for name, topics in sources.items() if is_rectified(topics.image)],
        )
        self.adapts = bool(settings.cameras and settings.teacher)

        self._steps = self._publisher(DiagnosticArray, "~/adaptation", output_qos(settings.depth))
        labelled = self._publisher(PointCloud2, "~/points_labeled", output_qos(settings.depth))
        overlays = {name: self._publisher(Image, f"~/overlay/{name}", output_qos(1)) for name in settings.cameras}

        self.pipeline, student = self._pipeline(settings, config)
        self._close.append(self.pipeline.close)
        self._injector = self._make_injector(settings, student.config)
        classes = student.config.class_set
        of_features = {name: self._publisher(Image, f"~/overlay/{name}/features", output_qos(1)) for name in overlays
                       if student.config.teacher_dim}
        self._publisher(String, "~/label_info", LATCHED).publish(String(data=classes.label_info))
        self.state = AdaptedState(node, self.pipeline, Origin.of(student), settings)
        self._close.append(self.state.close)
        if settings.load_at_start:
            self.state.restore()
        self._overlays = Overlays(self.cameras, classes.palette, overlays, of_features,
                                  student.predict_teacher_features, failures)
        self._close.append(self._overlays.close)
        self._inference = Inference(
            self.pipeline, classes.palette, self.cameras if settings.cameras else None, labelled.publish,
            self._overlays.submit, self._statistics, warnings, failures, queue_size=settings.queue,
            max_bytes=settings.cloud_bytes, governor=Governor(settings.deadline), time_unit=settings.time_unit,
            level=mounting.level, features=student.config.inputs, injector=self._injector,
        )
        self._close.append(self._inference.close)

        # Clouds and images arrive serialised. Too large ones are refused unread, and most images are never used. Making
        # a Python message of one blocks every other thread.
        subscribe = partial(self._subscribe, settings)
        types = PublishedTypes(node, warnings.warn)
        self._close.append(types.close)
        types.watch_sweeps(
            "points", lambda kind, callback: subscribe(kind, "points", callback, raw=True), self._on_points
        )
        for name, topics in sources.items():
            types.watch_images(topics.image, image_type)
            subscribe(
                Image if raw else CompressedImage, topics.image, partial(self.cameras.add_image, name), raw=True
            )
            subscribe(CameraInfo, topics.info, partial(self.cameras.add_info, name), once=True)
        watch = node.create_timer(1.0, self._check_inputs, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._close.append(partial(node.destroy_timer, watch))

    def close(self) -> None:
        """End every thread and process, and remove every topic. It takes seconds at most, unless a disk delays the
        last autosave."""
        self.active = False
        while self._close:
            try:
                self._close.pop()()
            except Exception:  # the rest has to be closed all the same
                self._node.get_logger().error(f"while cleaning up:\n{traceback.format_exc()}")

    def snapshot(self) -> Snapshot:
        """Return what /diagnostics reports."""
        return Snapshot(
            "active" if self.active else "inactive", self.pipeline.status, self._inference.version,
            self.cameras.received, self._inference.problem, self._inference.trouble, self._inference.slow,
            tuple(topic.health for topic in self._inputs), self._injector and self._injector.last,
        )

    def _pipeline(self, settings: Settings, config: TTTConfig) -> tuple[Pipeline, Student]:
        device = resolve_device(settings.device)
        # Inference and training share the cores. With more threads each, they would only wait for each other.
        torch.set_num_threads(settings.threads)
        model = resolve_path(settings.model)
        student = load_student(model, device)
        cancel = Cancellation()
        injects_only = bool(student.config.injection) and not student.config.teacher_dim
        build = self._adapter(settings, student, device, cancel) if self.adapts and not injects_only else None
        place = "a thread" if torch.device(device).type == "cuda" else "a process of its own"
        mode = f"adapts in {place}" if build else "segments without adapting"
        self._node.get_logger().info(f"student {model} on {device}; {mode}")
        other = explain_other_name(resolve_teacher(settings.teacher), student.config.teacher_name)
        if self.adapts and other:
            self._node.get_logger().warning(other)
        pipeline = Pipeline(student, build, config, background=True, on_report=self._on_report, cancel=cancel)
        return pipeline, student

    def _make_injector(self, settings: Settings, student: StudentConfig) -> ImageInjector | None:
        """Load the teacher of a student that takes image features. Without cameras or teacher it predicts without."""
        if not student.injection:
            return None
        if not self.adapts:
            self._node.get_logger().warning("the student takes image features, but there is no camera or no teacher: "
                                            "it labels the clouds without, and less well")
            return None
        teacher = resolve_teacher(settings.teacher)
        check_teacher(teacher, dim=student.image_dim, input_size=student.teacher_input)
        loaded = load_teacher(teacher, input_size=student.teacher_input, engine=settings.engine,
                              device=resolve_device(settings.device), threads=settings.threads, background=True)
        self._node.get_logger().info(f"injects the features of {loaded.name} ({loaded.engine.name})")
        return ImageInjector(loaded, len(settings.cameras), settings.injection_wait, settings.seed)

    def _adapter(
        self, settings: Settings, student: Student, device: str, cancel: Cancellation
    ) -> Callable[[], Adapter]:
        """Return what builds the adapter while the first sweeps are segmented. A wrong teacher is an error now."""
        teacher = resolve_teacher(settings.teacher)
        check_teacher(teacher, dim=student.config.teacher_dim, input_size=student.config.teacher_input)
        build = partial(
            load_ttt_kd, student, teacher,
            engine=settings.engine, device=device, threads=settings.threads, seed=settings.seed,
        )
        if torch.device(device).type == "cuda":
            return build
        weights = Weights.copied(0, student.backbone)
        return partial(AdapterProcess, build, weights, timeout_s=settings.worker_patience, cancel=cancel)

    def _on_points(self, cdr: bytes, read: Callable[[bytes], object]) -> None:
        if self.active:
            self._inference.submit(cdr, read)
        else:
            self._statistics.count("sweeps let pass")

    def _on_report(self, report: StepReport) -> None:
        self._statistics.add_step(report)
        message = outputs.adaptation(report, self._node.get_name())
        try:
            self._steps.publish(message)
        except Exception:
            if self._node.context.ok():  # else the node was interrupted during the step
                raise

    def _error(self, text: str) -> None:
        """Log an error of a thread that publishes."""
        if self._node.context.ok():  # else the node was interrupted, and nothing is wrong
            self._node.get_logger().error(text)

    def _publisher(self, kind: type, topic: str, qos):
        events = publisher_events(self._node.resolve_topic_name(topic), self._warnings.warn)
        publisher = self._node.create_publisher(kind, topic, qos, event_callbacks=events)
        self._close.append(partial(self._node.destroy_publisher, publisher))
        return publisher

    def _subscribe(self, settings: Settings, kind: type, topic: str, callback, **options) -> Callable[[], object]:
        """Subscribe, and return what ends the subscription before `close` does."""
        subscription = SensorTopic(
            self._node, kind, topic, callback, reliability=settings.reliability, depth=settings.depth,
            warn=self._warnings.warn, **options,
        )
        self._inputs.append(subscription)
        self._close.append(subscription.close)

        def end() -> None:
            subscription.close()
            self._inputs.remove(subscription)

        return end

    def _check_inputs(self) -> None:
        for topic in self._inputs:
            topic.check()
