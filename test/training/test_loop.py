"""The training loop resumes exactly, keeps the last state intact, and stops if the loss is not finite."""

import errno
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tttkd_ros import files
from tttkd_ros.files import Unwritable
from tttkd_ros.training.devices import Processes, launch
from tttkd_ros.training.loop import Optimisation, Resume, train


class Batch(NamedTuple):
    step: int
    x: torch.Tensor


class Batches(torch.utils.data.Dataset):
    def __getitem__(self, step):
        return Batch(step, torch.from_numpy(np.random.default_rng((1, step)).normal(size=(8, 3))).float())


class Regression(torch.nn.Module):
    """A linear regression with dropout. change(step, loss): of the loss, or an error."""

    def __init__(self, change=lambda step, loss: loss):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.change, self.losses = torch.nn.Linear(3, 1), change, []

    def forward(self, batch):
        predicted = self.linear(torch.nn.functional.dropout(batch.x, 0.1))
        loss = self.change(batch.step, (predicted - batch.x.sum(1, keepdim=True)).square().mean())
        self.losses.append(loss.item())
        return {"loss": loss}


def run(model, steps=2, *, resume=None, settings=None, workers=0, **options):
    state = None if resume is None else Resume(resume, settings or {}, every=10)
    launch(Processes("cpu"), train, model, Batches(), Optimisation(steps, 0.05, **options), title="test",
           resume=state, workers=workers)


def interrupt_at(step):
    def change(at, loss):
        if at == step:
            raise KeyboardInterrupt
        return loss

    return change


@pytest.fixture
def resume(tmp_path):
    return tmp_path / "training.pt"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_training_equals_an_uninterrupted_one(resume, capsys, workers):
    whole, resumed = Regression(), Regression()
    run(whole, 40)
    with pytest.raises(KeyboardInterrupt):
        run(Regression(interrupt_at(25)), 40, resume=resume, workers=workers)
    assert "interrupted after step 25: the same command continues after step 20" in capsys.readouterr().out
    run(resumed, 40, resume=resume, workers=workers)
    assert len(resumed.losses) == 20
    assert torch.equal(resumed.linear.weight, whole.linear.weight)


def test_the_loss_falls():
    model = Regression()
    run(model, 200)
    assert np.mean(model.losses[-20:]) < 0.2 * np.mean(model.losses[:20])


def test_gradients_are_clipped():
    free, clipped = (Regression(lambda step, loss: 100 * loss) for _ in range(2))
    run(free, 1)
    run(clipped, 1, max_norm=1.0)
    assert free.linear.weight.grad.norm() > 10
    assert torch.cat([p.grad.flatten() for p in clipped.parameters()]).norm() == pytest.approx(1.0, rel=1e-4)


def test_blocks_have_a_rate_of_their_own():
    model = torch.nn.ModuleDict({"block0": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    optimiser, _ = Optimisation(10, 1e-2, 1e-3, div=10.0).build(model)
    rates = {group["params"][0]: group["lr"] for group in optimiser.param_groups}
    assert rates[model["head"].weight] == pytest.approx(1e-3)
    assert rates[model["block0"].weight] == pytest.approx(1e-4)


def test_steps_divide_the_rate_twice():
    optimiser, schedule = Optimisation(100, 1.0, schedule="steps").build(torch.nn.Linear(1, 1))
    rates = []
    for _ in range(100):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert [rates[step] for step in (0, 79, 80, 89, 90, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("warm_up", [0.1, 0.25, 0.5])
def test_short_trainings_have_a_schedule(steps, warm_up):
    run(model := Regression(), steps, warm_up=warm_up)
    assert len(model.losses) == steps


def test_an_infinite_loss_stops_the_training():
    model = Regression(lambda step, loss: loss * (float("nan") if step == 3 else 1.0))
    with pytest.raises(FloatingPointError, match="step 3"):
        run(model, 5)


def test_a_full_disk_keeps_the_last_state(resume, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(Regression(interrupt_at(15)), 40, resume=resume)
    before = resume.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "put_in_place", full)
    with pytest.raises(Unwritable, match=r"training.pt cannot be written \(No space.*continues after step 10"):
        run(Regression(), 40, resume=resume)
    monkeypatch.undo()
    assert resume.read_bytes() == before
    assert [path.name for path in resume.parent.iterdir()] == ["training.pt"]
    whole, resumed = Regression(), Regression()
    run(resumed, 40, resume=resume)
    run(whole, 40)
    assert torch.equal(resumed.linear.weight, whole.linear.weight)


@pytest.mark.parametrize("settings", [{"seed": "1"}, {"seed": "0", "teacher": "small"}, {}])
def test_a_file_of_other_settings_is_refused_with_the_difference(resume, settings):
    run(Regression(), resume=resume, settings={"seed": 0})
    run(Regression(), resume=resume, settings={"seed": 0})
    with pytest.raises(ValueError, match="holds another training .*there, .*here.*delete it"):
        run(Regression(), resume=resume, settings=settings)


def test_a_file_of_another_length_is_refused(resume):
    run(Regression(), 10, resume=resume)
    with pytest.raises(ValueError, match="steps 10 there, 20 here"):
        run(Regression(), 20, resume=resume)


@pytest.mark.parametrize("content", [b"", b"garbage", "zeros", "another"])
def test_a_damaged_file_is_named(resume, content):
    run(Regression(), resume=resume)
    if content == "zeros":
        resume.write_bytes(resume.read_bytes()[:200].ljust(resume.stat().st_size, b"\0"))
    elif content == "another":
        torch.save({"settings": {"steps": "2"}, "next": 2}, resume)
    else:
        resume.write_bytes(content)
    with pytest.raises(ValueError, match="training.pt is damaged.*delete it"):
        run(Regression(), resume=resume)
