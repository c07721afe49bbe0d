"""The topics of a bag: the names that `BagWriter` uses, and the search by type in any other bag."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from tttkd_ros.messages.livox import is_livox
from tttkd_ros.messages.transports import cloud_remedy, image_remedy, without_transport
from tttkd_ros.names import base_topic, camera_name

CLOUD = "sensor_msgs/msg/PointCloud2"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
TEXT = "std_msgs/msg/String"

POINTS_TOPIC = "/lidar/points"
TRUTH_TOPIC = "/truth/points_labeled"
STATIC_TOPIC = "/tf_static"
MOVING_TOPIC = "/tf"
LABELLED = "points_labeled"  # the end of the node's output topic and of the truth topic
# Unrectified first: rectification cuts off the edges.
IMAGE_NAMES = (
    "image", "image_raw", "image_color", "color", "rgb", "image_rect", "image_rect_color", "image_rect_raw",
    "image_mono",
)  # fmt: skip
# Other images that a camera may publish.
NO_COLOUR = re.compile(r"depth|disparity|segmentation|mask|confidence|infra")


def points_topic(types: Mapping[str, str], counts: Mapping[str, int]) -> str:
    """Choose the topic of the sweeps; one without messages only if no other has any. types, counts: by topic.

    Raises ValueError if no topic or several could be it.
    """
    if not types:
        raise ValueError("the bag has no topics: nothing was recorded")
    clouds = [topic for topic, kind in types.items() if kind == CLOUD and not topic.endswith(LABELLED)]
    filled = [topic for topic in clouds if counts[topic]]
    filled = filled or [topic for topic, kind in types.items() if is_livox(kind) and counts[topic]]
    if not filled:
        _refuse_undecoded({topic: kind for topic, kind in types.items() if counts[topic]})
    found = filled or clouds
    return POINTS_TOPIC if POINTS_TOPIC in found else _only(found, "sweeps", types)


def require_sweeps(types: Mapping[str, str], topic: str) -> None:
    """Raise ValueError unless the bag has the topic, with a type that holds sweeps."""
    if not is_livox(types.get(topic, "")):
        _refuse_undecoded({topic: types[topic]} if topic in types else {})
        require(types, topic, CLOUD)


def _refuse_undecoded(types: Mapping[str, str]) -> None:
    """Raise ValueError with the remedy if one of these topics has packets or compressed clouds."""
    found = {topic: kind for topic, kind in types.items() if cloud_remedy(kind, topic)}
    if found:
        remedy = cloud_remedy(found[min(found)], min(found))
        raise ValueError(f"the bag holds no {CLOUD}, only packets or compressed clouds: {described(found)}; {remedy}, "
                         "and record these")


def labelled_topic(types: Mapping[str, str]) -> str:
    """Choose the topic of recorded predictions. Raises ValueError if no topic or several could be it."""
    clouds = [topic for topic, kind in types.items() if kind == CLOUD and topic.endswith(LABELLED)]
    return _only([topic for topic in clouds if topic != TRUTH_TOPIC], "predictions", types)


def label_info_topic(topic: str) -> str:
    """The topic that says which class set the labels on `topic` have: label_info in its namespace."""
    return f"{topic.rpartition('/')[0]}/label_info"


def camera_topics(
    types: Mapping[str, str], counts: Mapping[str, int], preferred: Collection[str] = ()
) -> dict[str, str]:
    """Choose an image topic for each camera: `camera_name` -> topic.

    Of several in one namespace, one with messages comes first, then a preferred one (given without `/compressed`), then
    an unrectified one, then an uncompressed one.
    """
    found: dict[str, list[tuple]] = {}
    for topic, kind in types.items():
        if kind not in (IMAGE, COMPRESSED) or image_remedy(kind, topic):
            continue
        base = base_topic(topic)
        namespace, _, last = base.rpartition("/")
        rank = IMAGE_NAMES.index(last) if last in IMAGE_NAMES else len(IMAGE_NAMES)
        order = not counts[topic], base not in preferred, NO_COLOUR.search(last) is not None, rank, kind == COMPRESSED
        found.setdefault(namespace, []).append((*order, topic))
    chosen = [min(topics)[-1] for topics in found.values()]
    return {camera_name(topic): topic for topic in sorted(chosen)}


def undecoded_cameras(types: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, str]:
    """The cameras whose images this package cannot decode: name -> what to do."""
    decoded = camera_topics(types, counts)
    reasons = {}
    for topic, kind in sorted(types.items()):
        remedy = image_remedy(kind, topic)
        name = camera_name(without_transport(topic))
        if remedy and counts[topic] and name not in decoded:
            reasons[name] = f"its images are on {topic} only, as {kind}: {remedy}, and record these"
    return reasons


def transform_topics(types: Mapping[str, str], name: str, beside: str) -> list[str]:
    """The topics called `name` ("tf" or "tf_static") in any namespace, in their order of precedence.

    The nearest namespace of the topic `beside` comes first, then its parents and the root, then all others.
    """
    found = [topic for topic, kind in types.items() if kind == TRANSFORMS and topic.rpartition("/")[2] == name]
    above = {topic: topic.removesuffix(name) for topic in found}
    own = [topic for topic in found if beside.startswith(above[topic])]
    return sorted(own, key=len, reverse=True) + sorted(set(found) - set(own))


def require(types: Mapping[str, str], topic: str, kind: str) -> str:
    """Return the topic. Raises ValueError unless the bag has it with that type."""
    if types.get(topic) != kind:
        raise ValueError(f"the bag has no {kind} topic {topic!r}; it has {described(types)}")
    return topic


def described(types: Mapping[str, str]) -> str:
    """List the topics with their types, for an error message."""
    return ", ".join(f"{topic} ({kind})" for topic, kind in sorted(types.items())) or "no topics"


def _only(clouds: list[str], what: str, types: Mapping[str, str]) -> str:
    if len(clouds) != 1:
        found = ", ".join(sorted(clouds)) or "no topic"
        raise ValueError(f"{found} could be the {what}: name the topic, a {CLOUD}; the bag has {described(types)}")
    return clouds[0]
