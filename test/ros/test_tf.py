"""What listening to TF leaves on a node, by a stand-in for tf2_ros."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tttkd_ros.ros import tf


class Node:
    def __init__(self):
        self.has = set()

    def destroy_service(self, service):
        self.has.remove(service)


class Buffer:
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
def tf2(monkeypatch):
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformListener = Buffer, TransformListener
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    monkeypatch.setattr(tf, "find_spec", lambda name: object())


def test_closing_takes_off_the_node_all_that_was_put_on_it(tf2):
    node = Node()
    listening = tf.listen(node)
    assert node.has == {"/tf", "/tf_static", "tf2_frames"}
    listening.close()
    assert node.has == set()


def test_without_tf2_ros_nothing_is_heard(monkeypatch):
    monkeypatch.setattr(tf, "find_spec", lambda name: None)
    assert tf.listen(Node()) is None
