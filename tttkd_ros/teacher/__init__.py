"""Frozen foundation models: images in, patch features out."""

from tttkd_ros.teacher.dinov2 import Teacher, load_teacher

__all__ = ["Teacher", "load_teacher"]
