"""Frozen foundation models: images in, patch features out."""

from tttkd_ros.teacher.dinov2 import Teacher, check_teacher, load_teacher

__all__ = ["Teacher", "check_teacher", "load_teacher"]
