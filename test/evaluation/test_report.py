import numpy as np
from rich.console import Console

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.evaluation.report import (
    class_table,
    content,
    notes,
    result_table,
    tables,
    timing_table,
    worst_class_table,
)
from tttkd_ros.evaluation.result import Result, Timing
from tttkd_ros.evaluation.runs import BagResults, all_bags


def result(name="ttt-kd-o", truth=True, **settings):
    classes = len(OUTDOOR)
    matrices = np.full((4, 2, classes, classes + 1), int(truth))
    return Result(
        name, OUTDOOR.names, np.arange(4), matrices, settings, 300, 299, {}, ((0, -0.5),),
        np.full((4, classes + 1), 7), np.tile([3, 4], (4, 1)), timing=Timing(np.full(4, 12.3), np.full(4, 4.5)),
    )  # fmt: skip


def printed(shown) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    return console.export_text()


def test_twenty_methods_fit_a_terminal_of_80_columns():
    results = [result(stride=stride, learning_rate=0.001) for stride in range(1, 21)]
    for shown in (result_table(results), timing_table(results)):
        lines = printed(shown).splitlines()
        assert [sum(f"{number} ttt-kd-o, stride {number}, lr 0.001" in line for line in lines)
                for number in range(1, 21)] == [1] * 20  # fmt: skip
    text = printed(class_table(results))
    assert "objects" in text and "…" not in text
    assert len([line for line in text.splitlines() if line.count(".") == len(OUTDOOR)]) == 20


def test_more_classes_than_runs_are_rows():
    lines = printed(class_table([result(), result(stride=5)])).splitlines()
    rows = [line.split() for line in lines if line.split() and line.split()[0] in OUTDOOR.names]
    assert [row[0] for row in rows] == list(OUTDOOR.names)
    assert all(len(row) == 3 for row in rows)


def test_a_long_title_takes_two_lines_and_no_figure_is_cut():
    long = result(stride=5, learning_rate=0.001, images=1, control="mean-features", shift_z=1.25)
    text = printed(result_table([long]))
    assert "…" not in text and "299/300" in text and "mean-features" in text


def test_without_truth_class_shares_replace_iou_in_the_table():
    text = printed(class_table([result(truth=False)]))
    assert "there is no truth" in text and "9.1" in text


def with_person(right, name="ttt-kd-o"):
    """A run that labels `right` of a hundred points of each class as person, and all others right."""
    matrix = np.zeros((len(OUTDOOR), len(OUTDOOR) + 1), int)
    np.fill_diagonal(matrix, 100)
    person = OUTDOOR.names.index("person")
    matrix[person, person], matrix[person, -1] = right, 100 - right
    return Result(name, OUTDOOR.names, np.arange(1), np.stack([matrix * 0, matrix])[None])


def test_the_class_that_loses_most_is_named():
    results = [with_person(90, "frozen"), with_person(40)]
    (table,) = worst_class_table(results)
    (row,) = [line.split() for line in printed(table).splitlines() if "person" in line]
    assert row == ["2", "ttt-kd-o", "person", "-50.0"]
    (frozen, adapted) = content([bag("east", *results)])["results"]
    assert frozen["worst_class"] is None
    assert adapted["worst_class"] == {"class": "person", "change": -50}


def test_without_a_frozen_run_no_class_is_compared():
    assert not list(worst_class_table([with_person(40)]))


def bag(name="east", *results, sweeps=4, **more):
    return BagResults(name, sweeps, results, **more)


def test_runs_left_out_are_grouped_by_reason():
    remarks = list(notes(bag("east", result(), left_out={"xmuda": "no camera", "ttt-kd": "no camera", "dua": "dark"})))
    assert remarks == ["east, left out: xmuda; ttt-kd: no camera", "east, left out: dua: dark"]


def headings(*bags):
    return [shown.title for shown in tables(bags) if "sweeps" in shown.title]


def test_bags_that_could_not_be_read_do_not_count():
    lost = bag("north", sweeps=0, damage="gone")
    assert headings(bag("east", result()), lost) == ["east: 4 sweeps"]
    assert headings(bag("east", result()), lost, bag("west", result())) == [
        "east: 4 sweeps", "west: 4 sweeps", "2 bags together: 8 sweeps"
    ]


def test_only_runs_of_every_bag_are_joined():
    together = all_bags([bag("east", result("frozen"), result("dua")), bag("west", result("frozen"))])
    assert [each.title for each in together.results] == ["frozen"]
    assert (together.sweeps, together.left_out) == (8, {"dua": "not on every bag"})


def test_a_bag_without_results_is_no_part_of_all():
    lost = bag("west", left_out={"frozen": "damaged"})
    together = all_bags([bag("east", result("frozen")), lost, bag("north", sweeps=0, damage="gone")])
    assert [each.title for each in together.results] == ["frozen"] and together.sweeps == 4
