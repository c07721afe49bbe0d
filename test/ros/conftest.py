import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.parameter import Parameter  # noqa: E402


@pytest.fixture
def nodes(ros):
    """Two nodes of this process, see `TwoNodes`."""
    nodes = ros.TwoNodes()
    yield nodes
    nodes.close()


@pytest.fixture
def make_bare_node():
    """`make_bare_node("-p", "name:=value", namespace="", name=value)`: an rclpy node with these first values."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(*arguments, namespace="", **overrides):
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
        arguments = ["--ros-args", *arguments] if arguments else None
        nodes.append(rclpy.create_node(
            "bare", context=context, cli_args=arguments, namespace=namespace, parameter_overrides=overrides
        ))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)
