import pytest
import torch


@pytest.fixture
def check_pairs(monkeypatch):
    """check_pairs(net, clouds): the prepared pairs of a sparse U-Net give what spconv's own give."""

    def check(net, clouds):
        voxels = net.prepare(clouds)
        with torch.no_grad():
            prepared = net(voxels)
            monkeypatch.setattr("tttkd_ros.segmenter.neighbours.index_pairs", lambda *_: {})
            voxels.pairs.clear()
            expected = net(voxels)
        assert prepared.abs().max() > 1e-3
        torch.testing.assert_close(prepared, expected)

    return check
