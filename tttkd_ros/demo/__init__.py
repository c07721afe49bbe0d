"""The demo: the real node over real DDS on simulated drives and on KITTI, with scores and pictures."""
