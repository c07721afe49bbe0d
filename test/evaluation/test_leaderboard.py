"""Figures and tables of a benchmark. Its results have one sweep, and a hundred seen and unseen points of each class."""

import json

import numpy as np
import pytest
from rich.console import Console

from tttkd_ros.evaluation.benchmark import Benchmark
from tttkd_ros.evaluation.leaderboard import Leaderboard
from tttkd_ros.evaluation.leaderboard_tables import (
    class_sheet,
    content,
    gap_sheet,
    markdown,
    miou_sheet,
    printed,
    run_sheet,
    verdict,
)
from tttkd_ros.evaluation.published import PublishedRow, published_content, published_sheet
from tttkd_ros.evaluation.result import Result

GROUPS = {"in distribution": ["home"], "away": ["kitti", "far", "not run"]}


def scored(name, a, b=None, *, seen=None, **settings):
    """Result with `a` of a hundred points of class a right, the others unlabelled; likewise b, `a` by default.

    seen: as `a`, of the points that a camera sees.
    """

    def matrix(*right):
        return [[right[0], 0, 100 - right[0]], [0, right[1], 100 - right[1]]]

    b = a if b is None else b
    matrices = np.array([[matrix(a, b), matrix(*(a, b) if seen is None else (seen, seen))]])
    return Result(name, ("a", "b"), np.array([0]), matrices, settings)


def board(**shifts):
    """shift -> run -> for each seed what `scored` takes: a, or a and b."""

    def one(run, figures):
        return scored(run, *(figures if isinstance(figures, tuple) else (figures,)))

    return Leaderboard(
        {
            (shift, seed): [one(run, figures[seed]) for run, figures in runs.items()]
            for shift, runs in shifts.items() for seed in range(len(next(iter(runs.values()))))
        },
        GROUPS,
    )  # fmt: skip


FOUND = board(
    home={"frozen": [60, 60], "ttt-kd-o": [59, 60], "oracle": [50, 50]},
    kitti={"frozen": [40, 42], "ttt-kd-o": [50, 54], "oracle": [80, 82]},
    far={"frozen": [30, 30], "ttt-kd-o": [31, 29], "oracle": [60, 70]},
)


def cells(sheet, group, name):
    return next(list(row.cells) for row in sheet.groups[group] if row.name == name)


def test_the_mean_over_shifts_leaves_out_what_is_in_distribution():
    assert FOUND.overall(FOUND.miou).tolist() == [[35, 36], [40.5, 41.5], [70, 76]]
    assert cells(miou_sheet(FOUND), "all but in distribution", "mean") == ["35.5±0.7", "41.0±0.7", "73.0±4.2"]


def test_points_that_a_camera_sees_have_a_table_of_their_own():
    found = Leaderboard({("kitti", 0): [scored("frozen", 20, seen=40)]}, GROUPS)
    assert cells(miou_sheet(found), "away", "kitti") == ["30.0"]
    assert cells(miou_sheet(found, seen=True), "away", "kitti") == ["40.0"]


def test_the_gap_closed_is_per_seed():
    sheet = gap_sheet(FOUND)
    assert cells(sheet, "away", "kitti") == ["0.0±0.0", "27.5±3.5", "100.0±0.0"]  # 10 of 40, 12 of 40
    assert cells(sheet, "all but in distribution", "of the mean")[1] == "14.7±1.4"  # 5.5 of 35, 5.5 of 40


def test_without_a_gap_its_share_is_not_known():
    assert cells(gap_sheet(FOUND), "in distribution", "home") == ["-", "-", "-"]  # the oracle is worse there
    with pytest.raises(ValueError, match="no run of an oracle"):
        board(kitti={"frozen": [40]}).gap_closed(np.zeros((1, 1)))


def test_without_an_oracle_no_gap_is_shown():
    found = board(kitti={"frozen": [40], "ttt-kd-o": [50]})
    assert "gap" not in markdown(found, "command", "1.0").lower()
    assert content(found, "command", "1.0")["shifts"]["kitti"]["runs"][1]["gap_closed"] is None


def test_iou_of_each_class_is_a_mean_over_the_shifts_of_a_group():
    found = board(kitti={"frozen": [(40, 20), (60, 20)]}, far={"frozen": [(0, 100), (0, 100)]})
    sheet = class_sheet(found)
    assert cells(sheet, "kitti alone", "a") == ["50.0±14.1"]
    assert (cells(sheet, "away", "a"), cells(sheet, "away", "b")) == (["25.0±7.1"], ["60.0±0.0"])


def test_a_group_of_one_shift_is_not_shown_twice():
    assert list(class_sheet(board(home={"frozen": [40]}, kitti={"frozen": [40]})).groups) == ["in distribution", "away"]


def test_the_worst_class_pools_seeds_and_is_sought_on_every_shift():
    found = board(
        home={"frozen": [(60, 50), (60, 70)], "tent": [(60, 30), (60, 80)]},
        kitti={"frozen": [(40, 40)] * 2, "tent": [(60, 20)] * 2},
        far={"frozen": [(40, 40)] * 2, "tent": [(15, 40)] * 2},
    )
    assert found.worst_class(1, ["home"]) == ("b", "home", pytest.approx(-5))
    assert found.worst_class(1, found.away) == ("a", "far", pytest.approx(-25))
    assert cells(run_sheet(found), "", "tent") == ["b -5.0", "a -25.0 (far)"]
    assert cells(run_sheet(found), "", "frozen") == ["", ""]


def test_a_run_that_leads_on_some_shifts_says_on_how_many():
    sheet = run_sheet(FOUND)
    row = dict(zip(sheet.columns[1:], cells(sheet, "", "frozen"), strict=True))
    assert (row["ttt-kd-o, leads by"], row["ahead on"]) == ("+5.5±0.0", "1 of 2")
    assert row["gap closed, kitti"] == "0.0±0.0"


def test_a_comparison_counts_and_names_the_shifts():
    sentence = ("ttt-kd-o against frozen: +5.5±0.0 on the mean of 2 shifts, above on 1 of them (not on far); "
                "-0.5±0.7 in distribution")
    assert verdict(FOUND)[0] == sentence and sentence in markdown(FOUND, "command", "1.0")


def test_the_run_with_the_default_settings_is_compared_with_all_others():
    default, other = {"stride": 5, "learning_rate": 0.3, "bn_momentum": 0.005}, {"bn_momentum": 0.0}
    runs = [scored("frozen", 30), scored("ttt-kd-o", 40, **default | other), scored("ttt-kd-o", 50, **default),
            scored("ttt-kd-o", 45, **default, control="no-image")]  # fmt: skip
    sentences = verdict(Leaderboard({("kitti", 0): runs}, GROUPS))
    ours = "ttt-kd-o, stride 5, lr 0.3"
    assert [sentence.split(":")[0] for sentence in sentences] == [
        f"{ours} against frozen", f"{ours} against {ours}, bn 0.0", f"{ours} against {ours}, no-image"
    ]


def test_the_best_of_each_row_is_bold_but_never_the_oracle():
    row = next(line for line in miou_sheet(FOUND).markdown().splitlines() if line.startswith("| kitti"))
    assert row == "| kitti | 41.0±1.4 | **52.0±2.8** | 81.0±1.4 |"


def test_one_seed_has_no_spread():
    assert "| kitti | 40.0 | **50.0** |" in miou_sheet(board(kitti={"frozen": [40], "ttt-kd-o": [50]})).markdown()


def test_the_command_is_the_first_line_of_the_markdown():
    assert markdown(FOUND, "tttkd benchmark results", "1.0, commit abc").splitlines()[:3] == [
        "`tttkd benchmark results`", "", "tttkd_ros 1.0, commit abc"
    ]


def test_figures_are_json_values():
    found = json.loads(json.dumps(content(FOUND, "command", "1.0"), allow_nan=False))
    kitti = found["shifts"]["kitti"]["runs"][1]
    assert (kitti["miou"], kitti["mean"], kitti["gap_closed"]["mean"]) == ([50, 54], 52, 27.5)
    assert kitti["iou"]["a"]["values"] == [50, 54]
    assert kitti["worst_class"] == {"name": "a", "shift": "kitti", "change": 11}
    assert found["ahead"]["frozen"] == ["kitti"]
    assert found["groups"]["away"][0]["mean"] == found["overall"][0]["mean"] == 35.5


def test_the_terminal_shows_the_mious_and_one_line_a_run():
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in printed(FOUND):
        console.print(table)
    text = console.export_text()
    assert "81.0±1.4" in text and "27.5±3.5" in text and "a -1.0" not in text and "a -0.5" in text
    assert "…" not in text


def test_the_drives_of_a_domain_count_as_one_and_stand_beside_the_published_figures():
    rows = [PublishedRow("Joint-Train", "frozen", 41.6), PublishedRow("ours", "dua", np.nan)]
    benchmark = Benchmark({}, None, {("domain", None): ["one", "two"]}, {"target": ["domain"]}, rows)
    found = benchmark.board({
        "one": [scored("frozen", 0, seen=40), scored("dua", 0, seen=50)],
        "two": [scored("frozen", 0, seen=60), scored("dua", 0, seen=50)],
    })
    assert found.seen["domain"].tolist() == [[50], [50]] and found.sweeps == 2
    sheet = published_sheet(found, rows)
    assert cells(sheet, "", "Joint-Train") == ["50.0", "41.6", "+8.4", "frozen"]
    assert cells(sheet, "", "ours") == ["50.0", "", "", "dua"]
    assert published_content(found, rows)[1] == {"row": "ours", "run": "dua", "seen": 50.0, "published": None}
    assert miou_sheet(found).heading == "mIoU in per cent, 2 sweeps"
