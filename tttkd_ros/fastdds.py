"""Large messages over DDS: a Fast DDS profile whose shared memory holds clouds and images (the default is 0.5 MB)."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from tttkd_ros.paths import shipped_path

VARIABLE, OLD_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
OLD_DISTROS = ("humble", "iron", "jazzy")  # their Fast DDS reads the old name; newer ones warn of it
CHOICES = (VARIABLE, OLD_VARIABLE, "FASTDDS_BUILTIN_TRANSPORTS")
FILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")  # read from the working directory


def setting(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The variable that names a profile to this distribution's Fast DDS, and the path of the shipped profile.

    Raises:
        FileNotFoundError: if the profile is not installed.
    """
    old = environment.get("ROS_DISTRO") in OLD_DISTROS
    return OLD_VARIABLE if old else VARIABLE, str(shipped_path("config/dds/fastdds.xml"))


def use_profile(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variable, unless the user has chosen a profile, transports or another middleware.

    Fast DDS reads it when a process makes its first participant: call this before rclpy.init.

    Raises:
        FileNotFoundError: if the profile is not installed.
    """
    other = "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "fastrtps")
    if other or any(name in environment for name in CHOICES) or any(Path(name).exists() for name in FILES):
        return
    name, value = setting(environment)
    environment[name] = value


def loss_remedy(middleware: str) -> str:
    """What to do about the loss of large messages; middleware: the name of its rmw implementation."""
    if "fastrtps" in middleware:
        return (f"start its process with {'='.join(setting())}; between hosts raise net.core.rmem_max "
                "(docs/networking.md)")
    if "cyclonedds" in middleware:
        return "raise net.core.rmem_max and Cyclone DDS's SocketReceiveBufferSize (docs/networking.md)"
    return "make the publisher reliable, or see docs/networking.md"
