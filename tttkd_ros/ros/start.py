"""The command `segment`: the node, whose imports take seconds in which it may be interrupted, too."""

from __future__ import annotations


def main() -> int:
    """As `tttkd_ros.ros.node.main`."""
    try:
        from tttkd_ros.ros import node

        return node.main()
    except KeyboardInterrupt:
        return 0  # the ordinary end
