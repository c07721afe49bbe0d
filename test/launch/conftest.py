"""`ros2 launch`, for the tests that run it as a user does."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session")
def ros2_launch() -> None:
    """Skips where there is no `ros2 launch`, or where this package is in no prefix that it looks into."""
    if shutil.which("ros2") is None or find_spec("ros2launch") is None:
        pytest.skip("`ros2 launch` comes with a ROS distribution")
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        get_package_share_directory("tttkd_ros")
    except (PackageNotFoundError, LookupError):
        pytest.skip("tttkd_ros is in no prefix on AMENT_PREFIX_PATH")
