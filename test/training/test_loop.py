"""The training loop resumes exactly and stops when the loss leaves the finite."""

import numpy as np
import pytest
import torch

from tttkd_ros.training.loop import run


class Training:
    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 1)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), 0.01)
        self.state = {"model": self.model, "optimiser": self.optimiser}

    def step(self, i):
        x = torch.from_numpy(np.random.default_rng((1, i)).normal(size=(8, 3))).float()
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = Training()
    run(40, whole.step, whole.state, title="whole")
    broken, resume = Training(), tmp_path / "training.pt"

    def interrupt(i):
        if i == 25:
            raise KeyboardInterrupt
        return broken.step(i)

    with pytest.raises(KeyboardInterrupt):
        run(40, interrupt, broken.state, title="broken", resume=resume, every=10)
    again = Training()
    run(40, again.step, again.state, title="again", resume=resume, every=10)
    torch.testing.assert_close(again.model.weight, whole.model.weight, rtol=0, atol=0)


def test_the_loss_falls():
    training, losses = Training(), []
    run(200, lambda i: losses.append(training.step(i)) or losses[-1], training.state, title="falls")
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])


def test_an_infinite_loss_stops_the_training():
    with pytest.raises(FloatingPointError, match="step 3"):
        run(5, lambda i: float("nan") if i == 3 else 1.0, {}, title="diverges")


def test_a_file_of_another_training_is_refused(tmp_path):
    first, resume = Training(), tmp_path / "training.pt"
    run(10, first.step, first.state, title="first", resume=resume)
    with pytest.raises(ValueError, match="steps 10 there, 20 here"):
        run(20, first.step, first.state, title="second", resume=resume)


@pytest.mark.parametrize("settings", [{"seed": "1"}, {"seed": "0", "teacher": "small"}, {}])
def test_a_file_of_other_settings_is_refused_with_what_differs(tmp_path, settings):
    first, resume = Training(), tmp_path / "training.pt"
    run(2, first.step, first.state, title="first", resume=resume, settings={"seed": "0"})
    run(2, first.step, first.state, title="again", resume=resume, settings={"seed": "0"})
    with pytest.raises(ValueError, match="holds another training .*there, .*here.*delete it"):
        run(2, first.step, first.state, title="second", resume=resume, settings=settings)


@pytest.mark.parametrize("content", [b"", b"garbage", "zeros", "another"])
def test_a_damaged_file_is_named(tmp_path, content):
    training, resume = Training(), tmp_path / "training.pt"
    run(2, training.step, training.state, title="first", resume=resume)
    if content == "zeros":
        resume.write_bytes(resume.read_bytes()[:200].ljust(resume.stat().st_size, b"\0"))
    elif content == "another":
        torch.save({"settings": {"steps": "2"}, "next": 2}, resume)
    else:
        resume.write_bytes(content)
    with pytest.raises(ValueError, match="training.pt is damaged.*delete it"):
        run(2, training.step, training.state, title="again", resume=resume)
