"""A2D2: what five LiDARs measured in the front centre camera's view, with the labels of that camera's image.

<recording>/{camera,lidar,label}/cam_front_center/ with <time>_{camera,lidar,label}_frontcenter_<n>.{png,json,npz}, and
cams_lidars.json and class_list.json above them. Clouds are in the frame of the camera's view: x out of the camera, y
left, z up. Each point has its place in the undistorted image. A point's label is that of its pixel, as in xMUDA's
experiments.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tttkd_ros.classes import OUTDOOR, UNLABELLED, ClassSet
from tttkd_ros.datasets import recording
from tttkd_ros.datasets.class_maps import ClassMap
from tttkd_ros.datasets.recording import OPTICAL_FROM_VIEW, RecordedSweep, log
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import inverse, validated

VIEW_NAME = "camera_front"
SECTION = "a2d2"  # of a class set
CAMERA, FOLDER, TAG = "front_center", "cam_front_center", "frontcenter"  # in JSON, as a folder, in file names
MICROSECOND = 1000  # nanoseconds
MAX_IMAGE_SIDE = 2**13  # pixels; A2D2's images are 1920x1208
MAX_REPROJECTION_ERROR = 5.0  # pixels, of half the points; with another vehicle's calibration it is larger


class A2D2Recording:
    """One recording. Without a folder label it has no truth."""

    def __init__(self, folder: Path, class_set: ClassSet | None):
        self._clouds = sorted((folder / "lidar" / FOLDER).glob(f"*_lidar_{TAG}_*.npz"))
        if not self._clouds:
            raise ValueError(f"{folder}/lidar/{FOLDER} holds no sweeps: expected *_lidar_{TAG}_<number>.npz")
        self._folder, self.cameras = folder, (VIEW_NAME,)
        tables = [_description(folder, name) for name in ("cams_lidars.json", "class_list.json")]
        self._lens = _Lens(tables[0])
        labelled = class_set is not None and (folder / "label" / FOLDER).is_dir()
        self._class_map = _read_class_map(tables[1], class_set) if labelled else None
        self.class_set = self._class_map and class_set
        if class_set is not None and not labelled:
            log.warning("%s has no folder label/%s: the bag has no truth", folder, FOLDER)
        self._check_calibration()
        files = [*tables, self._clouds[0], self._path("camera", 0), self._path("label", 0)]
        self.inputs = {"labels": self._class_map is not None, "files": recording.file_digests(folder, files)}

    def __len__(self) -> int:
        return len(self._clouds)

    def __getitem__(self, index: int) -> RecordedSweep:
        points, features, places = _read_cloud(self._clouds[index])
        path = self._path("camera", index)
        info = _read_json(path.with_suffix(".json"))
        try:
            stamp, camera_from_lidar = int(info["cam_tstamp"]) * MICROSECOND, self._lens.camera_from_lidar(info)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path.with_suffix('.json')} does not say when and in which view its image was taken "
                             f"({error!r}): fetch it again") from error
        image = cv2.remap(self._read_image(path), self._lens.columns, self._lens.rows, cv2.INTER_LINEAR)
        view = View(VIEW_NAME, stamp, image, self._lens.camera, camera_from_lidar)
        labels = None
        if self._class_map is not None:
            colours = self._read_image(self._path("label", index))
            labels = np.full(len(points), UNLABELLED, np.uint8)
            if places is not None:
                inside, rows, columns = self._lens.distort(places)
                red, green, blue = colours[rows, columns].astype(np.int64).T
                labels[inside] = self._class_map(red << 16 | green << 8 | blue)
        # No file has the undistorted image yet.
        png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 1))[1]
        return RecordedSweep(Frame(stamp, points, (view,), features, labels), {VIEW_NAME: png.tobytes()})

    def _read_image(self, path: Path) -> np.ndarray:
        """(H, W, 3), of the calibration's size."""
        _, image = recording.read_image(path)
        width, height = self._lens.camera.width, self._lens.camera.height
        if image.shape[:2] != (height, width):
            raise ValueError(f"{path} is {image.shape[1]}x{image.shape[0]}, but cams_lidars.json says "
                             f"{width}x{height}: unpack the original images")
        return image

    def _path(self, kind: str, index: int) -> Path:
        return self._folder / kind / FOLDER / f"{self._clouds[index].stem.replace('_lidar_', f'_{kind}_')}.png"

    def _check_calibration(self) -> None:
        """Compare the pixels that the first cloud states with those that its points project to."""
        points, _, places = _read_cloud(self._clouds[0])
        if places is None or not len(points):
            return
        x, y, z = (points @ OPTICAL_FROM_VIEW[:3, :3].T.astype(np.float32)).T
        camera = self._lens.camera
        with np.errstate(divide="ignore", invalid="ignore"):
            projected = np.column_stack([camera.fy * y / z + camera.cy, camera.fx * x / z + camera.cx])
        error = float(np.nanmedian(np.linalg.norm(projected - places, axis=1)))
        if not error < MAX_REPROJECTION_ERROR:
            raise ValueError(f"the calibration projects the points of {self._clouds[0]} {error:.0f} pixels away from "
                             f"where they are in their image: is cams_lidars.json this vehicle's?")


class _Lens:
    """The camera of cams_lidars.json, and the mapping between its raw and its undistorted images."""

    def __init__(self, path: Path):
        config = _read_json(path)
        try:
            config = config["cameras"][CAMERA]
            if config["Lens"] != "Telecam":
                raise ValueError(f"the lens of {CAMERA} is {config['Lens']!r}, expected 'Telecam'")
            matrix = np.array(config["CamMatrix"], np.float64).reshape(3, 3)
            raw_matrix = np.array(config["CamMatrixOriginal"], np.float64).reshape(3, 3)
            distortion = np.array(config["Distortion"], np.float64).reshape(-1)
            width, height = (int(value) for value in config["Resolution"])
            if max(width, height) > MAX_IMAGE_SIDE:
                raise ValueError(f"its images are {width}x{height}, expected at most {MAX_IMAGE_SIDE} pixels a side")
            self._vehicle_from_view = _vehicle_from_view(config["view"])
            self.camera = recording.pinhole(matrix, width, height)
            # Pixel in the raw image for each pixel of the undistorted one, (H, W) each.
            self.columns, self.rows = cv2.initUndistortRectifyMap(
                raw_matrix, distortion, None, matrix, (width, height), cv2.CV_32FC1
            )
        except (KeyError, TypeError, ValueError, OverflowError, cv2.error) as error:
            raise ValueError(f"{path} does not describe the camera {CAMERA} like A2D2's: {error!r}") from error

    def distort(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nearest raw pixels, as labels must not be interpolated: (N,) whether there is one, then rows and columns.

        places: (N, 2) row and column in the undistorted image.
        """
        pixels = np.rint(places).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < self.rows.shape)).all(1)
        rows, columns = pixels[inside].T
        raw = np.rint([self.rows[rows, columns], self.columns[rows, columns]]).astype(np.int64).T
        in_raw = ((raw >= 0) & (raw < self.rows.shape)).all(1)
        inside[inside] = in_raw
        return inside, *raw[in_raw].T

    def camera_from_lidar(self, info: dict) -> np.ndarray:
        """(4, 4). info: an image's JSON, which may state the view that its cloud is in; by default the camera's."""
        vehicle_from_cloud = _vehicle_from_view(info["pcld_view"]) if "pcld_view" in info else self._vehicle_from_view
        return OPTICAL_FROM_VIEW @ inverse(self._vehicle_from_view) @ vehicle_from_cloud


def scenes(folder: Path) -> list[str]:
    """The recordings below the folder; none if it is one itself."""
    return [] if (folder / "lidar").is_dir() else sorted(_recordings(folder))


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> A2D2Recording:
    """Open a recording: the folder itself, or the one called `scene` ("20180807_145028") below it.

    Raises ValueError if there is no recording, its files are something else, or the class set does not cover A2D2.
    """
    if scene is None and (folder / "lidar").is_dir():
        return A2D2Recording(folder, class_set)
    recordings = _recordings(folder)
    expected = f"folders with lidar/{FOLDER}/*.npz"
    return A2D2Recording(recording.choose_drive(folder, scene, recordings, "recording", expected), class_set)


def _recordings(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in folder.glob("*/lidar")}


def _read_class_map(path: Path, class_set: ClassSet) -> ClassMap:
    """From 0xrrggbb to class id, by class_list.json: {"#rrggbb": name}. Other colours are unlabelled."""
    listed = _read_json(path)
    try:
        names = {int(colour.removeprefix("#"), 16): name for colour, name in listed.items()}
        if not all(key in range(2**24) and isinstance(name, str) for key, name in names.items()):
            raise ValueError("an entry is no colour, or no name")
    except ValueError as error:
        raise ValueError(f"{path} is no list of A2D2's colours: expected {{\"#rrggbb\": name}}") from error
    missing = sorted(class_set.groups.get(SECTION, {}).keys() - set(names.values()))
    if missing:
        raise ValueError(f"{path} has no colour for {', '.join(missing)}: is it A2D2's?")
    return ClassMap(names, SECTION, class_set, strict=False)


def _read_cloud(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Points (N, 3) float32, their intensity (N,) float32 by name, and row and column (N, 2), which some files lack."""
    try:
        with np.load(path) as arrays:
            # Newer subsets have longer names for their arrays.
            values = {name.removeprefix("pcloud_").removeprefix("attr."): arrays[name] for name in arrays.files}
            points = np.array(values["points"], np.float32).reshape(-1, 3)
            columns = {name: np.array(values[name], np.float64).reshape(len(points))
                       for name in ("reflectance", "row", "col") if name in values}
    # zipfile, its decompressors and NumPy do not document what a damaged file raises; MemoryError is among it.
    except Exception as error:
        raise ValueError(f"{path} is no cloud of A2D2's, or damaged ({error!r}): fetch it again") from error
    features = {"intensity": columns["reflectance"].astype(np.float32)} if "reflectance" in columns else {}
    places = np.column_stack([columns["row"], columns["col"]]) if {"row", "col"} <= set(columns) else None
    return points, features, places


def _vehicle_from_view(view: dict) -> np.ndarray:
    """(4, 4) of a view's origin and two axes. The second axis is made perpendicular to the first."""
    x, y = (np.array(view[name], np.float64).reshape(3) for name in ("x-axis", "y-axis"))
    with np.errstate(divide="ignore", invalid="ignore"):  # `validated` refuses what is not finite
        x = x / np.linalg.norm(x)
        y = y - x * (x @ y)
        y = y / np.linalg.norm(y)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([x, y, np.cross(x, y), np.array(view["origin"], np.float64)])
    return validated(matrix)


def _description(folder: Path, name: str) -> Path:
    """The file of that name in the recording's folder or the one above."""
    return folder / name if (folder / name).is_file() else folder.parent / name


def _read_json(path: Path) -> dict:
    text = recording.read_text(path, "it comes with the data set")
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, it is a {type(content).__name__}")
        return content
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON of A2D2's ({error}): fetch it again") from error
