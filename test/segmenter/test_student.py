import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tttkd_ros.segmenter.student import Student, StudentConfig

SMALL = StudentConfig(voxel_size=0.2, options=dict(channels=4, levels=3), head_width=8, teacher_dim=6)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Student(SMALL)


def test_each_point_has_features_logits_and_teacher_features(student):
    features = student.eval()(torch.rand(40, 3) * 5)
    assert features.shape == (40, 4)
    assert student.logits(features).shape == (40, 10)
    assert student.predict_teacher_features(features).shape == (40, 6)


def test_a_batch_gives_the_features_of_each_cloud_alone(student):
    clouds = [torch.rand(40, 3) * 5, torch.empty(0, 3), torch.rand(30, 3) * 5]
    with torch.no_grad():
        together = student.eval()(clouds)
        apart = torch.cat([student(cloud) for cloud in clouds])
    torch.testing.assert_close(together, apart)


def test_points_of_a_voxel_share_features(student):
    with torch.no_grad():
        features = student.eval()(torch.tensor([[0.0, 0, 0], [0, 0, 0], [0.1, 0.1, 0.1], [2, 2, 2]]))
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])


def test_no_absolute_position_reaches_the_network(student):
    points = torch.randint(0, 80, (200, 3)) / 8.0
    with torch.no_grad():
        torch.testing.assert_close(student.eval()(points), student(points + torch.tensor([4.0, -2.0, 1.5])))


def test_an_empty_cloud_gives_empty_features(student):
    features = student.eval()(torch.empty(0, 3))
    assert features.shape == (0, 4)
    assert student.logits(features).shape == (0, 10)


def test_points_outside_the_grid_are_refused_and_not_in_range(student):
    points = torch.tensor([[0.0, 0, 1], [float("nan"), 0, 0], [0, student.max_range * 1.01, 0]])
    assert student.in_range(points).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="in_grid"):
        student(points)


def test_points_without_a_return_are_not_in_range(student):
    points = torch.tensor([[0.0, 0, 0], [-0.0, 0, 0], [0.01, 0, 0], [0, -0.01, 0], [0, 0, 0.01]])
    assert student.in_range(points).tolist() == [False, False, True, True, True]


def test_the_nearest_of_too_many_voxels_are_in_range(student, monkeypatch):
    monkeypatch.setattr("tttkd_ros.segmenter.student.MAX_VOXELS", 5)
    points = torch.tensor([[float(metres), 0, 0] for metres in (9, 1, 8, 2, 3, 7, 4, 5)] + [[1.01, 0, 0]])
    assert student.in_range(points).tolist() == [False, True, False, True, True, False, True, True, True]


def joint_training(steps: int) -> tuple[Student, list[float]]:
    torch.manual_seed(0)
    student = Student(SMALL).train()
    optimiser = torch.optim.Adam(student.parameters(), 1e-2)
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        clouds = [torch.tensor(generator.uniform(0, 6, (300, 3)), dtype=torch.float32) for _ in range(2)]
        for cloud in clouds:
            cloud[:200, 2] = 0  # a floor, and a cloud of single points above it
        labels = torch.arange(300).ge(200).long().repeat(2)
        features = student(clouds)
        distillation = student.predict_teacher_features(features).square().mean()
        loss = cross_entropy(student.logits(features), labels) + distillation
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return student, losses


def test_joint_training_learns_and_updates_the_running_statistics():
    student, losses = joint_training(20)
    assert losses[-1] < 0.75 * losses[0]
    assert student.backbone.activation[0].running_var.ne(1).all()


def test_two_identical_trainings_give_identical_weights():
    first, second = (joint_training(3)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"class_set": "indoor"}, "class_set is 'indoor', expected a ClassSet"),
     ({"voxel_size": 0.0}, "voxel_size is 0.0"),
     ({"voxel_size": float("nan")}, "voxel_size"), ({"options": {"levels": 0}}, "levels is 0")],
)
def test_a_bad_configuration_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        StudentConfig(**wrong)
