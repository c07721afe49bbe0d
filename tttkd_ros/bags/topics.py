"""The topics of a bag: what `BagWriter` calls them, and how those of any other bag are found by type."""

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

POINTS_TOPIC = "/lidar/points"
TRUTH_TOPIC = "/truth/points_labeled"
STATIC_TOPIC = "/tf_static"
MOVING_TOPIC = "/tf"
LABELLED = "points_labeled"  # how the node's output topic ends, and the truth's
# Unrectified first: it is what the camera took, and nothing is cut off it.
IMAGE_NAMES = (
    "image", "image_raw", "image_color", "color", "rgb", "image_rect", "image_rect_color", "image_rect_raw",
    "image_mono",
)  # fmt: skip
# What a camera may send beside its images.
NO_PICTURES = re.compile(r"depth|disparity|segmentation|mask|confidence|infra")


def points_topic(types: Mapping[str, str], counts: Mapping[str, int]) -> str:
    """The topic of the sweeps, of a bag whose topics have these types and numbers of messages.

    One without messages is taken only where no other has any. Raises ValueError where it is not plain.
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
    """Raise ValueError unless the bag has the topic with a type that sweeps are read from."""
    if not is_livox(types.get(topic, "")):
        _refuse_undecoded({topic: types[topic]} if topic in types else {})
        require(types, topic, CLOUD)


def _refuse_undecoded(types: Mapping[str, str]) -> None:
    """Raise ValueError with the remedy if one of these topics carries packets or clouds that are decoded elsewhere."""
    remedies = {topic: cloud_remedy(kind, topic) for topic, kind in types.items()}
    found = {topic: types[topic] for topic, remedy in remedies.items() if remedy}
    if found:
        raise ValueError(f"the bag holds no {CLOUD}, only what clouds are made of elsewhere: {described(found)}; "
                         f"{remedies[min(found)]}, and record these")


def labelled_topic(types: Mapping[str, str]) -> str:
    """The topic of recorded predictions. Raises ValueError where it is not plain."""
    clouds = [topic for topic, kind in types.items() if kind == CLOUD and topic.endswith(LABELLED)]
    return _only([topic for topic in clouds if topic != TRUTH_TOPIC], "predictions", types)


def camera_topics(
    types: Mapping[str, str], counts: Mapping[str, int], preferred: Collection[str] = ()
) -> dict[str, str]:
    """Camera name, as `camera_name` gives it -> image topic.

    Of several image topics in one namespace one with messages counts, a preferred one (named without `/compressed`)
    before the one as the camera took it, uncompressed before compressed.
    """
    found: dict[str, list[tuple[bool, bool, bool, int, bool, str]]] = {}
    for topic, kind in types.items():
        if kind not in (IMAGE, COMPRESSED) or image_remedy(kind, topic):
            continue
        base = base_topic(topic)
        namespace, _, last = base.rpartition("/")
        rank = IMAGE_NAMES.index(last) if last in IMAGE_NAMES else len(IMAGE_NAMES)
        found.setdefault(namespace, []).append((
            not counts[topic], base not in preferred, NO_PICTURES.search(last) is not None, rank, kind == COMPRESSED,
            topic,
        ))  # fmt: skip
    chosen = [min(topics)[-1] for topics in found.values()]
    return {camera_name(topic): topic for topic in sorted(chosen)}


def undecoded_cameras(types: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, str]:
    """Camera name -> why there are no images of it: the bag has them only in a form that is decoded elsewhere."""
    decoded = camera_topics(types, counts)
    reasons = {}
    for topic, kind in sorted(types.items()):
        remedy = image_remedy(kind, topic)
        name = camera_name(without_transport(topic))
        if remedy and counts[topic] and name not in decoded:
            reasons[name] = f"its images are on {topic} only, as {kind}: {remedy}, and record these"
    return reasons


def transform_topics(types: Mapping[str, str], name: str, beside: str) -> list[str]:
    """The topics called `name` ("tf" or "tf_static") in any namespace, in the order in which they hold.

    First those of the topic `beside`, the nearest namespace before its parents and the root, then all others.
    """
    found = [topic for topic, kind in types.items() if kind == TRANSFORMS and topic.rpartition("/")[2] == name]
    above = {topic: topic.removesuffix(name) for topic in found}
    own = [topic for topic in found if beside.startswith(above[topic])]
    return sorted(own, key=len, reverse=True) + sorted(set(found) - set(own))


def require(types: Mapping[str, str], topic: str, kind: str) -> str:
    """The topic, if the bag has it with that type; else ValueError."""
    if types.get(topic) != kind:
        raise ValueError(f"the bag has no {kind} topic {topic!r}; it has {described(types)}")
    return topic


def described(types: Mapping[str, str]) -> str:
    """What a bag holds, for an error message."""
    return ", ".join(f"{topic} ({kind})" for topic, kind in sorted(types.items())) or "no topics"


def _only(clouds: list[str], what: str, types: Mapping[str, str]) -> str:
    if len(clouds) != 1:
        found = ", ".join(sorted(clouds)) or "no topic"
        raise ValueError(f"{found} could be the {what}: name the topic, a {CLOUD}; the bag has {described(types)}")
    return clouds[0]
