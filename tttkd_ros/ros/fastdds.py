"""Fast DDS with shared memory that holds clouds and images, in place of its default of 0.5 MB."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from tttkd_ros.paths import shipped_path

VARIABLE, OLDER = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
OLDER_DISTROS = ("humble", "iron", "jazzy")  # whose Fast DDS reads the older name; newer ones warn of it
CHOICES = (VARIABLE, OLDER, "FASTDDS_BUILTIN_TRANSPORTS")
FILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")  # read from the working directory


def profile() -> Path:
    """The shipped profile. Raises FileNotFoundError if it is not installed."""
    return shipped_path("config/dds/fastdds.xml")


def setting(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The variable that names the profile to this distribution's Fast DDS, and its value."""
    return OLDER if environment.get("ROS_DISTRO") in OLDER_DISTROS else VARIABLE, str(profile())


def use_profile(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name the shipped profile to Fast DDS, unless the user has chosen a profile, transports or another middleware.

    Fast DDS reads the variable when a process makes its first participant: call this before rclpy.init.
    Raises FileNotFoundError as `profile`.
    """
    other = "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "fastrtps")
    if other or any(name in environment for name in CHOICES) or any(Path(name).exists() for name in FILES):
        return
    name, value = setting(environment)
    environment[name] = value
