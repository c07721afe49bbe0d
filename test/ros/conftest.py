import pytest

pytest.importorskip("rclpy")


@pytest.fixture
def nodes(ros):
    """Two nodes of this process, see `TwoNodes`."""
    nodes = ros.TwoNodes()
    yield nodes
    nodes.close()
