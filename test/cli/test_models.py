"""`tttkd models` on small networks."""

import re

import pytest

from tttkd_ros.cli import main
from tttkd_ros.cli.models import models as list_models
from tttkd_ros.segmenter import backbones

SMALL = ("channels=4", "levels=2")


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["tttkd", "models", *map(str, arguments)])
    main()
    return capsys.readouterr().out


def test_a_backbone_and_a_teacher_are_measured(monkeypatch, capsys, models):
    out = run(monkeypatch, capsys, "--backbone", "scn", "--options", *SMALL, "--features", "intensity", "--teacher",
              models.teacher, "--runs", 1, "--voxel-size", 0.4)
    number = r" +│ +(\d+\.\d+)" * 3
    student = re.search(rf"scn +│ channels=4 levels=2 repetitions=1{number}", out)
    assert float(student[2]) > 0 and float(student[3]) > 0
    assert re.search(r"teacher +│ eager +│ +24 +│ +0\.\d+ +│ +\d", out)


def test_every_backbone_is_measured_by_default(monkeypatch, capsys, models):
    from tttkd_ros.evaluation import model_costs

    measured = []
    costs = model_costs.BackboneCosts({}, 1_000_000, 0.1, 0.2)
    monkeypatch.setattr(model_costs, "backbone_costs", lambda name, *_, **__: measured.append(name) or costs)
    run(monkeypatch, capsys, "--teacher", models.teacher, "--runs", 1)
    assert measured == backbones.names()


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(options=SMALL), "options are given for 0 backbones"), (dict(runs=0), "runs is 0"),
    (dict(backbone=("scm",)), "'scm' is unknown"), (dict(backbone=("scn",), options=("depth=1",)), "no option depth"),
])
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        list_models(**arguments)
