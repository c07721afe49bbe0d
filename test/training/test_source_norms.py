"""Several sources at once: whose turn it is, and that each has BatchNorm layers of its own."""

import pytest
import torch
from torch import nn

from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.training.batches import Batch
from tttkd_ros.training.loop import Optimisation
from tttkd_ros.training.objective import LossSettings
from tttkd_ros.training.source_norms import (
    SourceBatch,
    SourceBatches,
    SourceNorm,
    SourceObjective,
    keep_first_norms,
    split_norms,
)


class Numbers:
    """Batches whose content is their step."""

    def __init__(self, per_epoch):
        self.per_epoch = per_epoch

    def __getitem__(self, step):
        return step


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(300, 3, generator=generator) * 8
    return Batch(xyz, {}, [300], torch.zeros(1, 3), torch.zeros(300, dtype=torch.int64), torch.arange(100),
                 torch.arange(100), table=torch.randn(100, 6, generator=generator).half())


@pytest.fixture(params=[dict(options=dict(levels=2)), dict(
    backbone="ptv3", inputs={"position": 0.1},
    options=dict(channels=(8, 16), depths=(1, 1), heads=(1, 2), decoder_channels=(8,), decoder_depths=(1,),
                 decoder_heads=(1,), strides=(2,), patch_size=16),
)], ids=["scn", "ptv3"])
def student(request):
    torch.manual_seed(0)
    return Student(StudentConfig(voxel_size=0.4, teacher_dim=6, head_width=0, **request.param))


def test_an_epoch_has_each_batch_of_each_source_once():
    batches = SourceBatches([Numbers(5), Numbers(2)], seed=0)
    epochs = [[batches[step] for step in range(first, first + 7)] for first in (0, 7)]
    for epoch, drawn in enumerate(epochs):
        assert [number for source, number in drawn if source == 0] == list(range(5 * epoch, 5 * epoch + 5))
        assert [number for source, number in drawn if source == 1] == list(range(2 * epoch, 2 * epoch + 2))
    assert [each.source for each in epochs[0]] != [each.source for each in epochs[1]]


def test_whose_turn_it_is_follows_from_seed_and_step():
    first, again, other = (SourceBatches([Numbers(9), Numbers(9)], seed) for seed in (0, 0, 1))
    steps = range(40)
    assert [first[step] for step in reversed(steps)] == [again[step] for step in steps][::-1]
    assert [first[step] for step in steps] != [other[step] for step in steps]


def test_a_step_changes_the_norms_of_its_source_alone(student):
    split_norms(student.backbone, 2)
    objective = SourceObjective(student, "distil", LossSettings())
    optimiser, _ = Optimisation(10, 0.1, weight_decay=0.1).build(objective)
    norms = [layer for layer in student.backbone.modules() if isinstance(layer, SourceNorm)]
    assert norms and all(len(each) == 2 for each in norms)
    for step, source in enumerate((0, 1, 0, 0, 1)):
        before = [[{name: tensor.clone() for name, tensor in norm.state_dict().items()} for norm in each]
                  for each in norms]
        objective.train()(SourceBatch(source, batch(step)))["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        for norm, kept in zip(norms, before, strict=True):
            for number in range(2):
                now = norm[number].state_dict()
                changed = {name for name in now if not torch.equal(now[name], kept[number][name])}
                assert changed == (set(now) if number == source else set())


def test_the_norms_of_the_first_source_are_kept(student):
    names = student.backbone.state_dict().keys()
    split_norms(student.backbone, 3)
    objective = SourceObjective(student, "distil", LossSettings()).train()
    for source in (0, 2, 1):
        objective(SourceBatch(source, batch(source)))
    first = [layer[0] for layer in student.backbone.modules() if isinstance(layer, SourceNorm)]
    keep_first_norms(student.backbone)
    assert student.backbone.state_dict().keys() == names
    assert [layer for layer in student.backbone.modules() if isinstance(layer, nn.BatchNorm1d)] == first
    assert all(layer.num_batches_tracked == 1 for layer in first)


def test_one_source_needs_no_copies(student):
    names = list(student.backbone.state_dict())
    split_norms(student.backbone, 1)
    assert list(student.backbone.state_dict()) == names
