import pytest
import torch

from tttkd_ros.devices import require_device


@pytest.mark.parametrize("name", ["foo", "auto", "meta"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(ValueError, match=f"device '{name}' is unknown; use 'cpu'"):
        require_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_refused():
    with pytest.raises(ValueError, match="'cuda' asked for, but torch finds no CUDA device; use 'cpu'"):
        require_device(torch.device("cuda"))


def test_a_device_number_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_device("cuda:1")
    with pytest.raises(ValueError, match="'cuda:2' asked for, but the last that torch finds is 'cuda:1'"):
        require_device("cuda:2")
