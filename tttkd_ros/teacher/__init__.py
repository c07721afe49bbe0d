"""Frozen foundation models: images in, patch features out."""
