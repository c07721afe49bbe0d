"""On a GPU, all that an adapter does to its weights is queued in one stream; what it hands over, it has waited for."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.methods import METHODS


class CudaStream:
    """Tells whether somebody works in it."""

    def __init__(self):
        self.entered = False

    @contextmanager
    def __call__(self):
        self.entered = True
        yield
        self.entered = False


class Watch(TorchDispatchMode):
    """Notes every operation on tensors outside a lane."""

    def __init__(self, lane):
        super().__init__()
        self.lane, self.inside, self.outside = lane, 0, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if self.lane.entered:
            self.inside += 1
        else:
            self.outside.append(str(operation))
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_touches_its_weights_in_its_lane_alone(town, name, monkeypatch):
    lane, waited = CudaStream(), []
    monkeypatch.setattr("tttkd_ros.methods._head", lambda student, teacher: town.head)
    room = "ttt_kd" if name == "ttt-kd-o" else "baseline"
    monkeypatch.setattr(f"tttkd_ros.adaptation.{room}.CudaStream", lambda device, urgent: lane)
    monkeypatch.setattr(f"tttkd_ros.adaptation.{room}.wait_for_stream", lambda device: waited.append(lane.entered))
    config = TTTConfig(stride=1, min_points=10, min_alignment=-2.0)
    adapter = METHODS[name].build(town.student, town.teacher, 0)
    shipped = adapter.weights()
    frames = [town.frame(0), town.frame(1), replace(town.frame(2), views=())]
    waited.clear()
    with Watch(lane) as watch:
        reports = [adapter.step(frame, config) for frame in frames]
        adapter.weights()
        adapter.load_weights(shipped)
    assert any(report.accepted for report in reports)
    assert watch.inside
    assert watch.outside == []
    assert waited[-1]  # for what was adopted
