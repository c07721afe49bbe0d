"""The training loop resumes exactly, and stops if the loss is not finite."""

import numpy as np
import pytest
import torch

from tttkd_ros.training.loop import train


class Training:
    """A linear regression."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 1)
        self.losses = []

    def loss(self, step):
        x = torch.from_numpy(np.random.default_rng((1, step)).normal(size=(8, 3))).float()
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        self.losses.append(loss.item())
        return loss

    def run(self, steps=2, loss=None, **options):
        train({"model": self.model}, loss or self.loss, steps, 0.05, title="test", **options)


@pytest.fixture
def resume(tmp_path):
    return tmp_path / "training.pt"


def test_a_resumed_training_equals_an_uninterrupted_one(resume):
    whole, interrupted, resumed = Training(), Training(), Training()
    whole.run(40)

    def interrupt(step):
        if step == 25:
            raise KeyboardInterrupt
        return interrupted.loss(step)

    with pytest.raises(KeyboardInterrupt):
        interrupted.run(40, interrupt, resume=resume, save_every=10)
    resumed.run(40, resume=resume, save_every=10)
    assert len(resumed.losses) == 20
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_the_loss_falls():
    training = Training()
    training.run(200)
    assert np.mean(training.losses[-20:]) < 0.1 * np.mean(training.losses[:20])


def test_gradients_are_clipped():
    free, clipped = Training(), Training()
    free.run(1, lambda step: 100 * free.loss(step))
    clipped.run(1, lambda step: 100 * clipped.loss(step), max_norm=1.0)
    assert free.model.weight.grad.norm() > 10
    assert torch.cat([p.grad.flatten() for p in clipped.model.parameters()]).norm() == pytest.approx(1.0, rel=1e-4)


def test_an_infinite_loss_stops_the_training():
    training = Training()
    with pytest.raises(FloatingPointError, match="step 3"):
        training.run(5, lambda step: training.loss(step) * (float("nan") if step == 3 else 1.0))


@pytest.mark.parametrize("settings", [{"seed": "1"}, {"seed": "0", "teacher": "small"}, {}])
def test_a_file_of_other_settings_is_refused_with_the_difference(resume, settings):
    Training().run(resume=resume, settings={"seed": 0})
    Training().run(resume=resume, settings={"seed": 0})
    with pytest.raises(ValueError, match="holds another training .*there, .*here.*delete it"):
        Training().run(resume=resume, settings=settings)


def test_a_file_of_another_length_is_refused(resume):
    Training().run(10, resume=resume)
    with pytest.raises(ValueError, match="steps 10 there, 20 here"):
        Training().run(20, resume=resume)


@pytest.mark.parametrize("content", [b"", b"garbage", "zeros", "another"])
def test_a_damaged_file_is_named(resume, content):
    Training().run(resume=resume)
    if content == "zeros":
        resume.write_bytes(resume.read_bytes()[:200].ljust(resume.stat().st_size, b"\0"))
    elif content == "another":
        torch.save({"settings": {"steps": "2"}, "next": 2}, resume)
    else:
        resume.write_bytes(content)
    with pytest.raises(ValueError, match="training.pt is damaged.*delete it"):
        Training().run(resume=resume)
