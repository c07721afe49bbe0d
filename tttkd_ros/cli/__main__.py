"""`python -m tttkd_ros.cli`."""

from tttkd_ros.cli import main

main()
