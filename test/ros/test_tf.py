"""What listening to TF leaves on a node, by a stand-in for tf2_ros."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from tttkd_ros.ros import tf


class Node:
    def __init__(self):
        self.has = set()

    def destroy_service(self, service):
        self.has.remove(service)


class Buffer:
    """Jazzy's, which has the clock call it where time jumps."""

    def __init__(self, node):
        self.srv = "tf2_frames"
        self.jump_handle = SimpleNamespace(unregister=lambda: node.has.remove("jumps"))
        node.has |= {self.srv, "jumps"}


class HumblesBuffer:
    def __init__(self, node):
        self.srv = "tf2_frames"
        node.has.add(self.srv)


class TransformListener:
    def __init__(self, buffer, node):
        self._node = node
        node.has.update(("/tf", "/tf_static"))

    def unregister(self):
        self._node.has -= {"/tf", "/tf_static"}


@pytest.fixture
def tf2(monkeypatch, request):
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformListener = request.param, TransformListener
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    monkeypatch.setattr(tf, "find_spec", lambda name: object())


@pytest.mark.parametrize("tf2", [Buffer, HumblesBuffer], indirect=True)
def test_closing_takes_off_the_node_and_its_clock_all_that_was_put_on_them(tf2):
    node = Node()
    listening = tf.listen(node)
    assert {"/tf", "/tf_static", "tf2_frames"} <= node.has
    listening.close()
    assert node.has == set()


def test_without_tf2_ros_nothing_is_heard(monkeypatch):
    monkeypatch.setattr(tf, "find_spec", lambda name: None)
    assert tf.listen(Node()) is None
