"""On a GPU, an adapter queues all work on its weights in one stream, and waits for what it hands over."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.methods import METHODS


class FakeStream:
    """Knows whether somebody works in it."""

    def __init__(self):
        self.entered = False

    @contextmanager
    def __call__(self):
        self.entered = True
        yield
        self.entered = False


class Watch(TorchDispatchMode):
    """Records the operations on tensors outside a stream."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.inside, self.outside = stream, 0, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if self.stream.entered:
            self.inside += 1
        elif operation.namespace != "profiler":  # an optimiser's marks, which touch no tensors
            self.outside.append(str(operation))
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.online])
def test_a_method_changes_its_weights_in_its_stream_only(town, name, monkeypatch):
    stream, waited = FakeStream(), []
    monkeypatch.setattr("tttkd_ros.methods._image_head", lambda student, teacher, path: town.head)
    module = "tttkd_ros.adaptation.online" if name.startswith("ttt-kd") else "tttkd_ros.baselines.baseline"
    monkeypatch.setattr(f"{module}.CudaStream", lambda device, urgent: stream)
    monkeypatch.setattr(f"{module}.wait_for_stream", lambda device: waited.append(stream.entered))
    config = TTTConfig(stride=1, min_points=10, min_alignment=-2.0)
    adapter = METHODS[name].build(town.student, town.teacher, 0)
    shipped = adapter.weights()
    frames = [town.frame(0), town.frame(1), replace(town.frame(2), views=())]
    waited.clear()
    with Watch(stream) as watch:
        reports = [adapter.step(frame, config) for frame in frames]
        adapter.weights()
        adapter.load_weights(shipped)
    assert any(report.accepted for report in reports)
    assert watch.inside
    assert watch.outside == []
    assert waited[-1]  # for the loaded weights
