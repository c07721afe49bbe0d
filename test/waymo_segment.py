"""A small segment of the Waymo Open Dataset, version 2."""

import cv2
import numpy as np
import pytest

SEGMENT = "10023947602400723454_1120_000_1140_000"
WAYMO_START = 1_552_440_195_362_591  # microseconds
WAYMO_SPEED = 10.0  # m/s, along the vehicle's x axis
LIDAR_PLACE, LIDAR_YAW = (1.4, 0.0, 2.2), np.radians(30)
INCLINATIONS = np.radians([-20.0, -10.0, 0.0, 5.0])  # of the rows from the lowest one on
WAYMO_LABELS = np.array([[1, 18], [14, 0], [22, 7], [15, 2]])


def rotation(yaw):
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    return matrix


def moved(x, y=0.0, z=0.0, matrix=None):
    matrix = np.eye(4) if matrix is None else matrix.copy()
    matrix[:3, 3] += x, y, z
    return matrix


def write_segment(folder, frames):
    """Write a folder with one segment of version 2's parquet files, two row groups each.

    The vehicle drives along the world's x axis and sees a wall at world x = 50 m ahead, over columns 3 and 4 of 8. The
    LiDAR turns once in 0.1 s: column 3 is measured when the vehicle is 0.5 m before its place of the frame. The front
    camera takes its image 20 ms after the middle of the sweep. The last frame has no labels.
    """
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    height, width = 4, 8
    extrinsic = moved(*LIDAR_PLACE, rotation(LIDAR_YAW))

    def write(folder, component, rows, types):
        path = folder / component / f"{SEGMENT}.parquet"
        path.parent.mkdir(parents=True)
        arrays = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
        pyarrow.parquet.write_table(pa.table(arrays), path, row_group_size=3)

    def image_types(component, values):
        return {"key.segment_context_name": pa.string(), "key.frame_timestamp_micros": pa.int64(),
                "key.laser_name": pa.int8(), f"[{component}].range_image_return1.values": pa.list_(values),
                f"[{component}].range_image_return1.shape": pa.list_(pa.int32(), 3)}

    rows = {name: [] for name in ("lidar", "lidar_pose", "lidar_segmentation", "vehicle_pose", "camera_image")}
    for index in range(frames):
        stamp = WAYMO_START + 100_000 * index
        key = {"key.segment_context_name": SEGMENT, "key.frame_timestamp_micros": stamp}
        place = WAYMO_SPEED * 0.1 * index
        ranges = np.zeros((height, width, 4), np.float32)
        poses = np.zeros((height, width, 6), np.float32)
        for column, late in ((3, -0.5), (4, 0.0)):
            azimuth = (2 * (width - column - 0.5) / width - 1) * np.pi  # in the vehicle's frame
            for row, inclination in enumerate(INCLINATIONS[::-1]):
                sensor = place + late + LIDAR_PLACE[0]
                ranges[row, column, :2] = (50 - sensor) / (np.cos(azimuth) * np.cos(inclination)), 0.25 * row
                poses[row, column] = 0, 0, 0, place + late, 0, 0
        labels = np.zeros((height, width, 2), np.int32)
        labels[:, 3:5, 1], labels[:, :, 0] = WAYMO_LABELS, 9
        for laser in (2, 1):  # another LiDAR comes first
            sizes = {"lidar": ranges, "lidar_pose": poses, "lidar_segmentation": labels}
            names = {"lidar": "LiDARComponent", "lidar_pose": "LiDARPoseComponent",
                     "lidar_segmentation": "LiDARSegmentationLabelComponent"}
            for component, values in sizes.items():
                if component == "lidar" or laser == 1 and not (component == "lidar_segmentation"
                                                                and index == frames - 1):
                    column = f"[{names[component]}].range_image_return1"
                    rows[component].append({**key, "key.laser_name": laser, f"{column}.shape": values.shape,
                                            f"{column}.values": values.reshape(-1).tolist()})
        rows["vehicle_pose"].append(
            {**key, "[VehiclePoseComponent].world_from_vehicle.transform": moved(place).reshape(-1).tolist()}
        )
        for camera, colour in ((2, 100), (1, 200)):
            jpeg = cv2.imencode(".jpg", np.full((6, 8, 3), colour, np.uint8))[1].tobytes()
            seconds = 1e-6 * (stamp + 50_000 + 20_000)
            rows["camera_image"].append({
                **key, "key.camera_name": camera, "[CameraImageComponent].image": jpeg,
                "[CameraImageComponent].pose.transform": moved(place + WAYMO_SPEED * 0.02).reshape(-1).tolist(),
                "[CameraImageComponent].pose_timestamp": seconds,
            })
    base = {"key.segment_context_name": pa.string(), "key.frame_timestamp_micros": pa.int64()}
    transform = pa.list_(pa.float64(), 16)
    write(folder, "lidar", rows["lidar"], image_types("LiDARComponent", pa.float32()))
    write(folder, "lidar_pose", rows["lidar_pose"], image_types("LiDARPoseComponent", pa.float32()))
    write(folder, "lidar_segmentation", rows["lidar_segmentation"],
          image_types("LiDARSegmentationLabelComponent", pa.int32()))
    write(folder, "vehicle_pose", rows["vehicle_pose"],
          {**base, "[VehiclePoseComponent].world_from_vehicle.transform": transform})
    write(folder, "camera_image", rows["camera_image"], {
        **base, "key.camera_name": pa.int8(), "[CameraImageComponent].image": pa.binary(),
        "[CameraImageComponent].pose.transform": transform, "[CameraImageComponent].pose_timestamp": pa.float64(),
    })
    beams = "[LiDARCalibrationComponent].beam_inclination"
    write(folder, "lidar_calibration", [
        {"key.segment_context_name": SEGMENT, "key.laser_name": laser, f"{beams}.min": -0.3, f"{beams}.max": 0.1,
         f"{beams}.values": INCLINATIONS.tolist() if laser == 1 else None,
         "[LiDARCalibrationComponent].extrinsic.transform": extrinsic.reshape(-1).tolist()} for laser in (1, 2)
    ], {"key.segment_context_name": pa.string(), "key.laser_name": pa.int8(), f"{beams}.min": pa.float64(),
        f"{beams}.max": pa.float64(), f"{beams}.values": pa.list_(pa.float64()),
        "[LiDARCalibrationComponent].extrinsic.transform": transform})
    camera = "[CameraCalibrationComponent]"
    intrinsics = {"f_u": 10.0, "f_v": 10.0, "c_u": 4.0, "c_v": 3.0, "k1": 0.05, "k2": 0.0, "p1": 0.0, "p2": 0.0,
                  "k3": 0.0}
    write(folder, "camera_calibration", [
        {"key.segment_context_name": SEGMENT, "key.camera_name": number, f"{camera}.width": 8,
         f"{camera}.height": 6,
         f"{camera}.extrinsic.transform": moved(1.5, 0.1, 2.0, rotation(yaw)).reshape(-1).tolist(),
         **{f"{camera}.intrinsic.{name}": value for name, value in intrinsics.items()}}
        for number, yaw in ((1, 0.0), (2, np.pi / 4))
    ], {"key.segment_context_name": pa.string(), "key.camera_name": pa.int8(), f"{camera}.width": pa.int32(),
        f"{camera}.height": pa.int32(), f"{camera}.extrinsic.transform": transform,
        **{f"{camera}.intrinsic.{name}": pa.float64() for name in intrinsics}})
