"""Default limits of messages. Larger messages are rejected before memory is allocated for them."""

from __future__ import annotations

# Four times the largest sweep of a LiDAR on the market (128 beams x 4096 columns x 32 bytes); a map is larger.
CLOUD_BYTES = 64 * 2**20
# Beyond any robot's camera (8 to 24 million); decoded, an image of this size takes 108 MB.
IMAGE_PIXELS = 36_000_000
# For each camera: ten images of 2 million pixels uncompressed (60 MB) fit, and five of 8 million.
IMAGE_BYTES = 128 * 2**20
