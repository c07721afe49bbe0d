"""The loss of a batch as one module: what is trained in each stage, and batches without points."""

import pytest
import torch

from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.training.batches import Batch
from tttkd_ros.training.objective import LossSettings, Objective


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Student(StudentConfig(voxel_size=0.4, options=dict(levels=2), teacher_dim=6))


def batch(points=300, visible=100):
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(points, 3, generator=generator) * 8
    return Batch(xyz, {}, [points // 2, points - points // 2], torch.zeros(2, 3), torch.arange(points) % 10,
                 torch.arange(visible), torch.arange(visible),
                 table=torch.randn(visible, 6, generator=generator).half())


def gradients(objective, drawn):
    losses = objective.train()(drawn)
    losses["loss"].backward()
    found = {name.split(".")[1] for name, each in objective.named_parameters() if each.grad is not None}
    return losses, found


@pytest.mark.parametrize(("stage", "expected", "parts"), [
    ("joint", {"backbone", "class_head", "teacher_head"}, {"loss", "labels", "distillation"}),
    ("distil", {"backbone", "teacher_head"}, {"loss", "distillation"}),
    ("classify", {"class_head"}, {"loss", "labels"}),
    ("head", {"teacher_head"}, {"loss", "distillation"}),
])
def test_a_stage_trains_its_part(network, stage, expected, parts):
    losses, found = gradients(Objective(network, stage, LossSettings()), batch())
    assert found == expected and losses.keys() == parts
    trainable = {name.split(".")[0] for name, each in network.named_parameters() if each.requires_grad}
    assert trainable == expected


def test_the_loss_is_the_weighted_sum(network):
    settings = LossSettings(distillation=0.5, lovasz=2.0)
    losses = Objective(network, "joint", settings).train()(batch())
    expected = losses["labels"] + 2 * losses["lovasz"] + 0.5 * losses["distillation"]
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("stage", ["joint", "head"])
@pytest.mark.parametrize("drawn", [batch(visible=0), batch(points=0, visible=0), batch(points=2, visible=1)])
def test_every_trainable_parameter_has_a_gradient_without_visible_points(network, stage, drawn):
    """Otherwise the processes of a distributed training would wait for each other."""
    objective = Objective(network, stage, LossSettings())
    losses, _ = gradients(objective, drawn)
    assert losses["loss"].isfinite()
    assert all(each.grad is not None for each in objective.parameters() if each.requires_grad)
    assert all((each.grad == 0).all() for each in network.teacher_head.parameters())


@pytest.mark.parametrize("stage", ["classify", "head"])
def test_the_frozen_backbone_keeps_its_statistics(network, stage):
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    Objective(network, stage, LossSettings()).train()(batch())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.backbone.state_dict().items())
