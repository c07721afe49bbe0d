"""A2D2: what five LiDARs measured in the front centre camera's view, with the labels of that camera's image.

<recording>/{camera,lidar,label}/cam_front_center/ with <time>_{camera,lidar,label}_frontcenter_<n>.{png,json,npz}, and
cams_lidars.json and class_list.json above them. A cloud is in the coordinates of the camera's view, whose x axis looks
out of the camera, y left and z up; each of its points has its place in the undistorted image. The labels of points are
those of their pixels, as in xMUDA's experiments.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.datasets.class_maps import A2D2, ClassMap
from tttkd_ros.datasets.recording import Recorded, drive_folder, file_digests, log, read_image, read_text
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import inverse, validated

CAMERA = "camera_front"
NAME, FOLDER, TAG = "front_center", "cam_front_center", "frontcenter"  # of that camera: in JSON, of folders, in files
MICROSECOND = 1000  # nanoseconds
OPTICAL_FROM_VIEW = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
LARGEST = 2**13  # pixels of an image's side; A2D2's are 1920x1208
FITS = 5.0  # pixels: half the points may be that far from where the calibration has them, more and it is another car's


class A2D2Recording:
    """One recording. Without a folder label it has no truth."""

    def __init__(self, folder: Path):
        self._clouds = sorted((folder / "lidar" / FOLDER).glob(f"*_lidar_{TAG}_*.npz"))
        if not self._clouds:
            raise ValueError(f"{folder}/lidar/{FOLDER} holds no sweeps: expected *_lidar_{TAG}_<number>.npz")
        self._folder = folder
        self._lens = _Lens(_beside(folder, "cams_lidars.json"))
        self._colours = None
        if (folder / "label" / FOLDER).is_dir():
            self._colours = _Colours(_beside(folder, "class_list.json"))
        else:
            log.warning("%s has no folder label/%s: the bag has no truth", folder, FOLDER)
        self._check_fit()

    @property
    def inputs(self) -> dict[str, object]:
        tables = [_beside(self._folder, name) for name in ("cams_lidars.json", "class_list.json")]
        firsts = [self._clouds[0], *(self._beside(kind, 0) for kind in ("camera", "label"))]
        return {
            "labels": self._colours is not None, "files": file_digests(self._folder, [*tables, *firsts]),
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self._clouds)

    def __getitem__(self, index: int) -> Recorded:
        points, intensity, places = _cloud(self._clouds[index])
        picture = self._beside("camera", index)
        info = _json(picture.with_suffix(".json"))
        try:
            stamp, camera_from_lidar = int(info["cam_tstamp"]) * MICROSECOND, self._lens.camera_from_lidar(info)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{picture.with_suffix('.json')} does not tell when and in which view its image was taken "
                             f"({error!r}): fetch it again") from error
        image = self._lens.undistorted(self._image(picture))
        view = View(CAMERA, stamp, image, self._lens.camera, camera_from_lidar)
        labels = None
        if self._colours is not None:
            colours = self._image(self._beside("label", index))
            labels = np.full(len(points), UNLABELLED, np.uint8)
            if places is not None:
                inside, rows, columns = self._lens.sources(places)
                labels[inside] = self._colours.classes(colours[rows, columns])
        # The undistorted image is nobody's file yet.
        png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 1))[1]
        return Recorded(Frame(stamp, points, (view,), intensity, labels), {CAMERA: png.tobytes()})

    def _image(self, path: Path) -> np.ndarray:
        """(H, W, 3), of the size that the calibration is for."""
        _, image = read_image(path)
        width, height = self._lens.camera.width, self._lens.camera.height
        if image.shape[:2] != (height, width):
            raise ValueError(f"{path} is {image.shape[1]}x{image.shape[0]}, but cams_lidars.json says {width}x{height}")
        return image

    def _beside(self, kind: str, index: int) -> Path:
        name = self._clouds[index].with_suffix(".png").name.replace("_lidar_", f"_{kind}_")
        return self._folder / kind / FOLDER / name

    def _check_fit(self) -> None:
        """Look whether the first cloud's own pixels are where the calibration projects its points."""
        points, _, places = _cloud(self._clouds[0])
        if places is None or not len(points):
            return
        x, y, z = (points @ OPTICAL_FROM_VIEW[:3, :3].T.astype(np.float32)).T
        camera = self._lens.camera
        with np.errstate(divide="ignore", invalid="ignore"):
            projected = np.column_stack([camera.fy * y / z + camera.cy, camera.fx * x / z + camera.cx])
        error = float(np.nanmedian(np.linalg.norm(projected - places, axis=1)))
        if not error < FITS:
            raise ValueError(f"the calibration projects the points of {self._clouds[0]} {error:.0f} pixels away from "
                             f"where they are in their image: is cams_lidars.json this vehicle's?")


class _Lens:
    """The camera as cams_lidars.json has it: its images are undistorted before all else."""

    def __init__(self, path: Path):
        config = _json(path)
        try:
            told = config["cameras"][NAME]
            if told["Lens"] != "Telecam":
                raise ValueError(f"the lens of {NAME} is {told['Lens']!r}, expected 'Telecam'")
            new, old = (np.array(told[name], np.float64).reshape(3, 3) for name in ("CamMatrix", "CamMatrixOriginal"))
            distortion = np.array(told["Distortion"], np.float64).reshape(-1)
            width, height = (int(value) for value in told["Resolution"])
            if max(width, height) > LARGEST:
                raise ValueError(f"its images are {width}x{height}, expected at most {LARGEST} pixels a side")
            self._view = _global_from_view(told["view"])
            self.camera = CameraModel(width, height, *(float(new[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))))
            # Where in the image as taken the undistorted one has its pixels from, (H, W) each.
            self._columns, self._rows = cv2.initUndistortRectifyMap(
                old, distortion, None, new, (width, height), cv2.CV_32FC1
            )
        except (KeyError, TypeError, ValueError, OverflowError, cv2.error) as error:
            raise ValueError(f"{path} does not describe the camera {NAME} as A2D2's does: {error!r}") from error

    def undistorted(self, image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, self._columns, self._rows, cv2.INTER_LINEAR)

    def sources(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """places (N, 2): row and column in the undistorted image. (N,) bool, whether the image as taken has such a
        pixel, then row and column there of those. Nearest pixels: between two colours of labels lies a third."""
        height, width = self._rows.shape
        rows, columns = np.rint(places).astype(np.int64).T
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        at = rows[inside], columns[inside]
        rows, columns = (np.rint(values[at]).astype(np.int64) for values in (self._rows, self._columns))
        there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        inside[inside] = there
        return inside, rows[there], columns[there]

    def camera_from_lidar(self, info: dict) -> np.ndarray:
        """info: of the image, which tells the view that its cloud is in; by default the camera's own."""
        cloud = _global_from_view(info["pcld_view"]) if "pcld_view" in info else self._view
        return OPTICAL_FROM_VIEW @ inverse(self._view) @ cloud


class _Colours:
    """What the colours of label images stand for, by class_list.json: {"#rrggbb": name}."""

    def __init__(self, path: Path):
        listed = _json(path)
        try:
            names = {int(colour.removeprefix("#"), 16): name for colour, name in listed.items()}
            if not all(key in range(2**24) and isinstance(name, str) for key, name in names.items()):
                raise ValueError("one is no colour, or no name")
        except ValueError as error:
            raise ValueError(f"{path} is no list of A2D2's colours: expected {{\"#rrggbb\": name}}") from error
        missing = sorted({name for group in A2D2.values() for name in group} - set(names.values()))
        if missing:
            raise ValueError(f"{path} has no colour for {', '.join(missing)}: is it A2D2's?")
        self._known = np.array(sorted(names))
        self._map = ClassMap(names, A2D2)

    def classes(self, colours: np.ndarray) -> np.ndarray:
        """(N, 3) uint8 RGB -> (N,) uint8; a colour that is not in the list is no class."""
        red, green, blue = colours.astype(np.int64).T
        packed = red << 16 | green << 8 | blue
        classes = np.full(len(packed), UNLABELLED, np.uint8)
        known = np.isin(packed, self._known)
        classes[known] = self._map(packed[known])
        return classes


def open_a2d2(folder: Path, scene: str | None = None) -> A2D2Recording:
    """folder: a recording's, or the one above it, of whose recordings `scene` names one ("20180807_145028")."""
    if scene is None and (folder / "lidar").is_dir():
        return A2D2Recording(folder)
    recordings = {path.parent.name: path.parent for path in folder.glob("*/lidar")}
    return A2D2Recording(drive_folder(folder, scene, recordings, "recording", f"lidar/{FOLDER}/*.npz"))


def _cloud(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Points (N, 3) float32, intensity (N,) float32, and row and column (N, 2), which some files lack.

    The newer of A2D2's subsets call their arrays by longer names.
    """
    try:
        with np.load(path) as arrays:
            values = {name.removeprefix("pcloud_").removeprefix("attr."): arrays[name] for name in arrays.files}
            points = np.array(values["points"], np.float32).reshape(-1, 3)
            columns = {name: np.array(values[name], np.float64).reshape(len(points))
                       for name in ("reflectance", "row", "col") if name in values}
    # zipfile, its decompressors and NumPy's parser do not say what a damaged file makes them raise: MemoryError, too.
    except Exception as error:
        raise ValueError(f"{path} is no cloud of A2D2's, or damaged ({error!r}): fetch it again") from error
    intensity = columns["reflectance"].astype(np.float32) if "reflectance" in columns else None
    places = np.column_stack([columns["row"], columns["col"]]) if {"row", "col"} <= set(columns) else None
    return points, intensity, places


def _global_from_view(view: dict) -> np.ndarray:
    """(4, 4): from a view, told by its origin and two axes, to the vehicle. The second is made square to the first."""
    x, y = (np.array(view[name], np.float64).reshape(3) for name in ("x-axis", "y-axis"))
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused below
        x = x / np.linalg.norm(x)
        y = y - x * (x @ y)
        y = y / np.linalg.norm(y)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([x, y, np.cross(x, y), np.array(view["origin"], np.float64)])
    return validated(matrix)


def _beside(folder: Path, name: str) -> Path:
    """That file, which lies in the recording's folder or in the one above."""
    return next((path for path in (folder / name, folder.parent / name) if path.is_file()), folder.parent / name)


def _json(path: Path) -> dict:
    text = read_text(path, "it comes with the data set")
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, it is a {type(content).__name__}")
        return content
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON of A2D2's ({error}): fetch it again") from error
