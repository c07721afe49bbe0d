"""Transports of clouds and images that are not decoded here, and the remedy for each."""

from __future__ import annotations

import re

REPUBLISH = (
    "decode them with {plugin}: ros2 run {package} republish --ros-args -p in_transport:={transport} "
    "-p out_transport:=raw -r in/{transport}:={topic} -r out:={out}"
)
PACKETS = "play them to the LiDAR's driver ({driver}) and take the clouds that it makes"
PACKET_TYPES = (  # message type -> the node that makes clouds of these packets
    (r"velodyne_msgs/.*", "velodyne_pointcloud: velodyne_transform_node"),
    (r"ouster.*/PacketMsg", "ouster_ros: os_cloud"),
    (r"hesai_ros_driver/Udp.*", "hesai_ros_driver_node, source_type 3"),
    (r"(nebula|pandar|robosense)_msgs/.*", "nebula_ros"),
    (r"rslidar_msg/.*", "rslidar_sdk, msg_source 2"),
    (r"lslidar_msgs/.*", "lslidar_driver"),
    (r"(?!.*(image_transport|h264)).*(Packets?(Msg)?|VelodyneScan|PandarScan|UdpFrame)", "as velodyne_pointcloud"),
)
CLOUD_TRANSPORTS = ("draco", "zlib", "zstd", "cloudini")
IMAGE_TYPES = (  # message type, transport, plugin
    (r"ffmpeg_image_transport_msgs/FFMPEGPacket", "ffmpeg", "ffmpeg_image_transport"),
    (r"theora_image_transport/Packet", "theora", "theora_image_transport"),
    (r"foxglove_msgs/CompressedVideo", "foxglove", "foxglove_compressed_video_transport"),
    (r"h264_msgs/Packet", "h264", "h264_image_transport"),
)
VIDEO = ("h264", "h265", "hevc", "av1", "vp8", "vp9")
IMAGE_TRANSPORTS = {  # last part of the topic -> plugin, for CompressedImages that are no JPEG or PNG
    "compressedDepth": "compressed_depth_image_transport",
    "zstd": "zstd_image_transport",
    "avif": "avif_image_transport",
}
IMAGE_TRANSPORT_NAMES = {*IMAGE_TRANSPORTS, *(transport for _, transport, _ in IMAGE_TYPES)}
SIGNATURES = (  # the first bytes of other formats
    (b"RIFF", "WebP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"BM", "BMP"), (b"GIF8", "GIF"),
    (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\0\0\0\x01", "h264 or h265"),
    (b"\0\0\x01", "h264 or h265"),
)  # fmt: skip


def cloud_remedy(kind: str, topic: str) -> str | None:
    """How to get clouds from messages of a type that is not decoded here; None for any other type."""
    kind = kind.replace("/msg/", "/")
    if kind == "point_cloud_interfaces/CompressedPointCloud2":
        last = topic.rpartition("/")[2]
        transport = last if last in CLOUD_TRANSPORTS else "draco"
        plugin = f"{transport}_point_cloud_transport" if transport != "cloudini" else "cloudini_ros"
        return REPUBLISH.format(
            plugin=plugin, package="point_cloud_transport", transport=transport, topic=topic, out="/points"
        )
    driver = next((driver for pattern, driver in PACKET_TYPES if re.fullmatch(pattern, kind)), None)
    return driver and PACKETS.format(driver=driver)


def image_remedy(kind: str, topic: str) -> str | None:
    """How to get images from messages of a type and topic that are not decoded here; None for any others."""
    kind = kind.replace("/msg/", "/")
    last = topic.rpartition("/")[2]
    if kind == "sensor_msgs/CompressedImage" and last in IMAGE_TRANSPORTS:
        return _republish_image(last, IMAGE_TRANSPORTS[last], topic)
    for pattern, transport, plugin in IMAGE_TYPES:
        if re.fullmatch(pattern, kind):
            return _republish_image(transport, plugin, topic)
    return None


def without_transport(topic: str) -> str:
    """The image topic without the last part, if that names one of the transports here."""
    base, _, last = topic.rpartition("/")
    return base if last in IMAGE_TRANSPORT_NAMES else topic


def explain_format(kind: str, data: bytes) -> str:
    """Why a CompressedImage that is no JPEG or PNG is not decoded. kind: its `format`."""
    failed = f"compressed image ({kind!r}, {len(data)} bytes) cannot be decoded: "
    lower = kind.lower()
    if "compresseddepth" in lower:
        plugin = IMAGE_TRANSPORTS["compressedDepth"]
        return f"{failed}it is depth ({plugin}) and no picture; expected the camera's colour or grey images"
    found = next((name for start, name in SIGNATURES if data.startswith(start)), "")
    if data[4:12] in (b"ftypavif", b"ftypavis") or "avif" in lower:
        return f"{failed}it is AVIF; {_republish_image('avif', IMAGE_TRANSPORTS['avif'])}"
    if "zstd" in lower:
        return f"{failed}it is zstd; {_republish_image('zstd', IMAGE_TRANSPORTS['zstd'])}"
    if found.startswith("h264") or any(codec in lower for codec in VIDEO):
        return (
            f"{failed}it is video, and a packet needs those before it; "
            f"{_republish_image('ffmpeg', IMAGE_TYPES[0][2])} (from Isaac ROS: isaac_ros_h264_decoder)"
        )
    if found or "tiff" in lower:
        return (
            f"{failed}it is {found or 'TIFF'}, no JPEG or PNG: set its publisher to one of these "
            "(compressed_image_transport: its parameter <topic>.compressed.format)"
        )
    return f"{failed}damaged, or no JPEG or PNG"


def _republish_image(transport: str, plugin: str, topic: str = "<topic>") -> str:
    return REPUBLISH.format(
        plugin=plugin, package="image_transport", transport=transport, topic=topic, out="<camera>/image"
    )
