"""Waymo Open Dataset, Perception, version 2: segments as parquet files, read through pyarrow without TensorFlow.

<folder>/<component>/<segment>.parquet with the components lidar, lidar_pose, lidar_calibration and vehicle_pose;
optionally lidar_segmentation, camera_image and camera_calibration. The top LiDAR's first return is read: no other LiDAR
has labels. The origin of the clouds is the top LiDAR, their axes are the vehicle's: x forward, y left, z up. Each point
is placed by the vehicle's pose at its own time, so that the sweeps are compensated for the vehicle's motion.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets import recording
from tttkd_ros.datasets.class_maps import WAYMO_IDS, ClassMap
from tttkd_ros.datasets.parquet import ParquetRows, require_pyarrow
from tttkd_ros.datasets.recording import OPTICAL_FROM_VIEW, RecordedSweep, log
from tttkd_ros.digests import edge_digests
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import inverse, validated
from tttkd_ros.messages.stamps import SECOND

SECTION = "waymo"  # of a class set
TOP = 1  # in LaserName
CAMERAS = {1: "camera_front", 2: "camera_front_left", 3: "camera_front_right", 4: "camera_side_left",
           5: "camera_side_right"}  # fmt: skip
MICROSECOND = 1000  # nanoseconds
COMPONENTS = ("lidar", "lidar_pose", "lidar_calibration", "lidar_segmentation", "vehicle_pose", "camera_image",
              "camera_calibration")  # fmt: skip
HALF_SWEEP = SECOND // 20  # a frame's time is the sweep's start, but its pose is of the sweep's middle
INTRINSICS = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")


def scenes(folder: Path) -> list[str]:
    """The segments of the folder ("10023947602400723454_1120_000_1140_000")."""
    return sorted(path.stem for path in (folder / "lidar").glob("*.parquet"))


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> WaymoRecording:
    """Open the segment `scene`, or the only one. Frames without labels have none; without images there is no camera.

    Raises ValueError if there is no such segment, or pyarrow is missing, or a file is something else.
    """
    require_pyarrow()
    segments = {name: name for name in scenes(folder)}
    segment = recording.choose_drive(folder, scene, segments, "segment", "lidar/<segment>.parquet and its components")
    return WaymoRecording(folder, segment, class_set)


class WaymoRecording:
    def __init__(self, folder: Path, segment: str, class_set: ClassSet | None):
        def path(component: str) -> Path:
            return folder / component / f"{segment}.parquet"

        image = ["range_image_return1.values", "range_image_return1.shape"]
        self._lidar = ParquetRows(path("lidar"), "LiDARComponent", image, "laser_name")
        self._pixel_poses = ParquetRows(path("lidar_pose"), "LiDARPoseComponent", image, "laser_name")
        self._poses = ParquetRows(path("vehicle_pose"), "VehiclePoseComponent", ["world_from_vehicle.transform"])
        self._vehicle_from_lidar, self._inclinations = _lidar_calibration(path("lidar_calibration"))
        self._labels = self._images = None
        if class_set is not None and path("lidar_segmentation").is_file():
            component = "LiDARSegmentationLabelComponent"
            self._labels = ParquetRows(path("lidar_segmentation"), component, image, "laser_name")
        elif class_set is not None:
            log.warning("%s is missing: the segment has no truth", path("lidar_segmentation"))
        if path("camera_image").is_file():
            columns = ["image", "pose.transform", "pose_timestamp"]
            self._images = ParquetRows(path("camera_image"), "CameraImageComponent", columns, "camera_name")
            self._cameras = _camera_calibrations(path("camera_calibration"))
        else:
            log.warning("%s is missing: the segment has no camera", path("camera_image"))
        self._class_map = self._labels and ClassMap(WAYMO_IDS, SECTION, class_set)
        self._stamps = [stamp for stamp in self._lidar.stamps if TOP in self._lidar.sensors(stamp)]
        if not self._stamps:
            raise ValueError(f"{path('lidar')} holds no sweep of the top LiDAR: fetch it again")
        self.class_set = None if self._labels is None else class_set
        self.cameras = () if self._images is None else tuple(
            CAMERAS[number] for number in sorted(self._cameras) if number in CAMERAS
        )  # fmt: skip
        files = [path(component) for component in COMPONENTS]
        self.inputs = {"segment": segment,
                       "files": {file.parent.name: edge_digests(file) for file in files if file.is_file()}}

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, index: int) -> RecordedSweep:
        stamp = self._stamps[index]
        pose = self._poses.row(stamp)["world_from_vehicle.transform"]
        world_from_vehicle = _transform(pose, f"{self._poses.path}, frame {stamp}")
        row = self._lidar.row(stamp, TOP)
        image = _matrix(row, self._lidar.path, stamp)
        pixels = image[..., 0] > 0
        points = self._points(image[..., 0], pixels, stamp, world_from_vehicle)
        # The sensor's place with the vehicle's axes.
        place = np.eye(4)
        place[:3, 3] = self._vehicle_from_lidar[:3, 3]
        points -= place[:3, 3]
        middle = stamp * MICROSECOND + HALF_SWEEP
        views, images, poses = [], {}, [(middle, world_from_vehicle @ place)]
        for number, values in self._image_rows(stamp):
            view, pose = self._view(number, values, stamp, place)
            views.append(view)
            images[view.name] = values["image"]
            poses.append((view.stamp, pose @ place))
        features = {"intensity": image[..., 1][pixels].astype(np.float32)}
        frame = Frame(middle, points.astype(np.float32), tuple(views), features, self._truth(stamp, pixels))
        return RecordedSweep(frame, images, sorted(poses, key=lambda each: each[0]))

    def _points(self, ranges: np.ndarray, pixels: np.ndarray, stamp: int, world_from_vehicle: np.ndarray) -> np.ndarray:
        """(N, 3) float64 in the vehicle's frame at `world_from_vehicle`. ranges, pixels: (H, W), metres and whether."""
        height, width = ranges.shape
        rows, columns = np.nonzero(pixels)
        inclinations = _inclinations(self._inclinations, height, self._lidar.path)[rows]
        extrinsic = self._vehicle_from_lidar
        # The image's middle column looks along the vehicle's x axis.
        azimuths = (2 * (width - columns - 0.5) / width - 1) * np.pi - np.arctan2(extrinsic[1, 0], extrinsic[0, 0])
        across = ranges[pixels] * np.cos(inclinations)
        points = np.column_stack([across * np.cos(azimuths), across * np.sin(azimuths),
                                  ranges[pixels] * np.sin(inclinations)])  # fmt: skip
        points = points @ extrinsic[:3, :3].T + extrinsic[:3, 3]
        poses = _matrix(self._pixel_poses.row(stamp, TOP), self._pixel_poses.path, stamp)
        if poses.shape != (height, width, 6):
            raise ValueError(f"{self._pixel_poses.path}, frame {stamp}: poses of shape {poses.shape}, expected "
                             f"{(height, width, 6)}, one for each pixel: fetch it again")
        roll, pitch, yaw, *places = poses[pixels].astype(np.float64).T
        rotations = Rotation.from_euler("ZYX", np.column_stack([yaw, pitch, roll]))
        points = rotations.apply(points) + np.column_stack(places)
        vehicle_from_world = inverse(world_from_vehicle)
        return points @ vehicle_from_world[:3, :3].T + vehicle_from_world[:3, 3]

    def _image_rows(self, stamp: int):
        """(number of a camera, its row), in the order of the cameras."""
        if self._images is None:
            return []
        numbers = [number for number in self._images.sensors(stamp) if number in CAMERAS]
        return sorted(((number, self._images.row(stamp, number)) for number in numbers), key=lambda each: each[0])

    def _view(self, number: int, values: dict, stamp: int, place: np.ndarray) -> tuple[View, np.ndarray]:
        """The view, and the vehicle's pose (4, 4) at the image's time. place: (4, 4) vehicle from cloud."""
        name, path = CAMERAS[number], self._images.path
        if number not in self._cameras:
            raise ValueError(f"{path} has images of {name}, but camera_calibration does not know it: fetch it again")
        camera, vehicle_from_camera = self._cameras[number]
        try:
            image = recording.decode(values["image"], ".jpg")
        except ValueError as error:
            raise ValueError(f"{path}, frame {stamp}: the image of {name} cannot be decoded ({error}): fetch it "
                             "again") from error
        if image.shape[:2] != (camera.height, camera.width):
            raise ValueError(f"{path}, frame {stamp}: the image of {name} is {image.shape[1]}x{image.shape[0]}, but "
                             f"its calibration is for {camera.width}x{camera.height}: fetch both again")
        time = float(values["pose_timestamp"])
        if not 0 < time < 2**31:
            raise ValueError(f"{path}, frame {stamp}: the image of {name} has the time {time}: fetch it again")
        camera_from_cloud = OPTICAL_FROM_VIEW @ inverse(vehicle_from_camera) @ place
        pose = _transform(values["pose.transform"], f"{path}, frame {stamp}")
        return View(name, round(time * 1e6) * MICROSECOND, image, camera, camera_from_cloud), pose

    def _truth(self, stamp: int, pixels: np.ndarray) -> np.ndarray | None:
        if self._labels is None or TOP not in self._labels.sensors(stamp):
            return None
        labels = _matrix(self._labels.row(stamp, TOP), self._labels.path, stamp)
        if labels.shape != (*pixels.shape, 2):
            raise ValueError(f"{self._labels.path}, frame {stamp}: labels of shape {labels.shape}, expected "
                             f"{(*pixels.shape, 2)}, as the range image: fetch it again")
        try:
            return self._class_map(labels[..., 1][pixels])
        except ValueError as error:
            raise ValueError(f"{self._labels.path}, frame {stamp}: {error}; fetch it again") from error


def _lidar_calibration(path: Path) -> tuple[np.ndarray, dict]:
    """vehicle_from_lidar (4, 4) of the top LiDAR, and what describes its inclinations."""
    columns = ["extrinsic.transform", *(f"beam_inclination.{name}" for name in ("min", "max", "values"))]
    rows = ParquetRows(path, "LiDARCalibrationComponent", columns, "laser_name", stamped=False)
    row = rows.row(None, TOP)
    return _transform(row["extrinsic.transform"], str(path)), row


def _inclinations(row: dict, height: int, path: Path) -> np.ndarray:
    """(height,) radians, of the range image's rows from the top one on."""
    values = row["beam_inclination.values"]
    if values is None or not len(values):
        low, high = float(row["beam_inclination.min"]), float(row["beam_inclination.max"])
        values = low + (np.arange(height) + 0.5) / height * (high - low)
    if len(values) != height:
        raise ValueError(f"{path} has range images of {height} rows, but lidar_calibration has {len(values)} "
                         "inclinations: fetch both again")
    return np.asarray(values, np.float64)[::-1]


def _camera_calibrations(path: Path) -> dict[int, tuple[CameraModel, np.ndarray]]:
    """Number of a camera -> its model, and vehicle_from_camera (4, 4); x looks out of the camera, z up."""
    columns = [*(f"intrinsic.{name}" for name in INTRINSICS), "extrinsic.transform", "width", "height"]
    rows, found = ParquetRows(path, "CameraCalibrationComponent", columns, "camera_name", stamped=False), {}
    for number in rows.sensors(None):
        row = rows.row(None, number)
        f_u, f_v, c_u, c_v, *distortion = (float(row[f"intrinsic.{name}"]) for name in INTRINSICS)
        size = int(row["width"]), int(row["height"])
        try:
            model = CameraModel(*size, f_u, f_v, c_u, c_v, distortion=tuple(distortion))
        except ValueError as error:
            raise ValueError(f"{path}, camera {number}: {error}; fetch it again") from error
        found[number] = model, _transform(row["extrinsic.transform"], f"{path}, camera {number}")
    return found


def _matrix(row: dict, path: Path, stamp: int) -> np.ndarray:
    """(H, W, C) of a row with a range image."""
    values, shape = row["range_image_return1.values"], row["range_image_return1.shape"]
    if values is None or shape is None or len(shape) != 3 or np.prod(np.maximum(shape, 0), dtype=float) != len(values):
        raise ValueError(f"{path}, frame {stamp} has no range image whose values fit its shape: fetch it again")
    return np.asarray(values).reshape(shape)


def _transform(values: np.ndarray | None, place: str) -> np.ndarray:
    try:
        return validated(np.array(values, np.float64).reshape(4, 4))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: a transform is not rigid ({' '.join(str(error).split())}): fetch it "
                         "again") from error
