"""The demo: the real node over real DDS on simulated drives and on KITTI, scored, drawn and summed up."""
