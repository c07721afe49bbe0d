"""Online test-time adaptation of 3D semantic segmentation by knowledge distillation (TTT-KD, arXiv 2403.11691)."""
