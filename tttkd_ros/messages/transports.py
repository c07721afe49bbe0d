"""Transports of clouds and images that are not decoded here, and the remedy for each."""

from __future__ import annotations

import re

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
IMAGE_TYPES = {  # message type -> transport
    "ffmpeg_image_transport_msgs/FFMPEGPacket": "ffmpeg", "theora_image_transport/Packet": "theora",
    "foxglove_msgs/CompressedVideo": "foxglove", "h264_msgs/Packet": "h264",
}
IMAGE_CODECS = ("compressedDepth", "zstd", "avif")  # transports with CompressedImages that are no JPEG or PNG
IMAGE_TRANSPORTS = {*IMAGE_CODECS, *IMAGE_TYPES.values()}
PLUGINS = {  # whose names do not follow from the transport's
    "compressedDepth": "compressed_depth_image_transport", "foxglove": "foxglove_compressed_video_transport",
}
VIDEO = ("h264", "h265", "hevc", "av1", "vp8", "vp9")
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
        return _republish(plugin, "point_cloud_transport", transport, topic, "/points")
    driver = next((driver for pattern, driver in PACKET_TYPES if re.fullmatch(pattern, kind)), None)
    return driver and f"play them to the LiDAR's driver ({driver}) and take the clouds that it makes"


def image_remedy(kind: str, topic: str) -> str | None:
    """How to get images from messages of a type and topic that are not decoded here; None for any others."""
    kind, last = kind.replace("/msg/", "/"), topic.rpartition("/")[2]
    if kind == "sensor_msgs/CompressedImage":
        return _republish_image(last, topic) if last in IMAGE_CODECS else None
    return _republish_image(IMAGE_TYPES[kind], topic) if kind in IMAGE_TYPES else None


def without_transport(topic: str) -> str:
    """The image topic without the last part, if that names one of the transports here."""
    base, _, last = topic.rpartition("/")
    return base if last in IMAGE_TRANSPORTS else topic


def explain_format(kind: str, data: bytes) -> str:
    """Why a CompressedImage that is no JPEG or PNG is not decoded. kind: its `format`."""
    lower = kind.lower()
    found = next((name for start, name in SIGNATURES if data.startswith(start)), "TIFF" if "tiff" in lower else "")
    reason = "damaged, or no JPEG or PNG"
    if "compresseddepth" in lower:
        reason = (f"it is depth ({_plugin('compressedDepth')}) and no picture; expected the camera's colour or grey "
                  "images")
    elif data[4:12] in (b"ftypavif", b"ftypavis") or "avif" in lower:
        reason = f"it is AVIF; {_republish_image('avif')}"
    elif "zstd" in lower:
        reason = f"it is zstd; {_republish_image('zstd')}"
    elif found.startswith("h264") or any(codec in lower for codec in VIDEO):
        reason = (f"it is video, and a packet needs those before it; {_republish_image('ffmpeg')} (from Isaac ROS: "
                  "isaac_ros_h264_decoder)")
    elif found:
        reason = (f"it is {found}, no JPEG or PNG: set its publisher to one of these (compressed_image_transport: its "
                  "parameter <topic>.compressed.format)")
    return f"compressed image ({kind!r}, {len(data)} bytes) cannot be decoded: {reason}"


def _plugin(transport: str) -> str:
    return PLUGINS.get(transport, f"{transport}_image_transport")


def _republish_image(transport: str, topic: str = "<topic>") -> str:
    return _republish(_plugin(transport), "image_transport", transport, topic, "<camera>/image")


def _republish(plugin: str, package: str, transport: str, topic: str, out: str) -> str:
    return (f"decode them with {plugin}: ros2 run {package} republish --ros-args -p in_transport:={transport} "
            f"-p out_transport:=raw -r in/{transport}:={topic} -r out:={out}")
