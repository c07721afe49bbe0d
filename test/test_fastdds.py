"""When the shipped profile is named to Fast DDS, and that it is what Fast DDS can read."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tttkd_ros.fastdds import loss_remedy, setting, use_profile

PROFILE = setting()[1]
NEW, OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize(
    ("environment", "name"),
    [({}, NEW), ({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, NEW), ({"ROS_DISTRO": "kilted"}, NEW),
     ({"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp", "ROS_DISTRO": "jazzy"}, OLD), ({"ROS_DISTRO": "humble"}, OLD)],
)
def test_the_profile_is_named_by_the_variable_that_the_distribution_reads(environment, name):
    before = dict(environment)
    use_profile(environment)
    assert environment == before | {name: PROFILE}


@pytest.mark.parametrize(
    "environment",
    [{NEW: "/my.xml"}, {OLD: "/my.xml"}, {NEW: ""}, {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"},
     {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}],
)
def test_what_the_user_has_chosen_stays(environment):
    before = dict(environment)
    use_profile(environment)
    assert environment == before


@pytest.mark.parametrize("name", ["DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml"])
def test_a_profile_in_the_working_directory_stays_in_force(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("<dds/>")
    environment = {}
    use_profile(environment)
    assert environment == {}


def test_the_profile_has_32_mib_of_shared_memory_and_udp():
    space = {"dds": ElementTree.parse(PROFILE).getroot().tag.partition("}")[0][1:]}
    transports = ElementTree.parse(PROFILE).getroot().iterfind(".//dds:transport_descriptor", space)
    found = {transport.find("dds:type", space).text: transport for transport in transports}
    assert found.keys() == {"SHM", "UDPv4"}
    assert int(found["SHM"].find("dds:segment_size", space).text) == 32 * 2**20


@pytest.mark.parametrize(
    ("middleware", "words"),
    [("rmw_fastrtps_cpp", PROFILE), ("rmw_cyclonedds_cpp", "SocketReceiveBufferSize"),
     ("rmw_zenoh_cpp", "docs/networking.md")],
)
def test_the_remedy_for_lost_messages_depends_on_the_middleware(middleware, words):
    assert words in loss_remedy(middleware)
