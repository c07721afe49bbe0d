"""Imports timm for this package: `from tttkd_ros.teacher.timm_import import timm`."""

import tttkd_ros.torchvision_import  # noqa: F401 (first)

# isort: split
import timm

__all__ = ["timm"]
