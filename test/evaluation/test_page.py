"""The report page: its content, names from bags stay text, and a browser renders it."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.cli.evaluate import evaluate
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.page import NAME, Other, model_provenance, page, read_evaluations
from tttkd_ros.evaluation.result import Result, Timing
from tttkd_ros.evaluation.runs import BagResults
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.simulation.drive import frames

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>&$x_$\"'"
SWEEPS = 12
INPUTS = {
    "settings": {"seed": 0, "points_topic": None}, "device": "cpu", "threads": 1, "libraries": {"numpy": "2"},
    "code": "1.0.0, commit abc", "files": {"bag": {"bag.mcap": "f" * 64}},
}
# The browser itself must send no requests.
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--window-size=1300,2000", "--dump-dom")
PROBE = """<script>addEventListener("load", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    const size = (shown) => [shown.getBoundingClientRect().width, shown.getBoundingClientRect().height];
    const sizes = {
        charts: [...document.querySelectorAll("figure svg")].map((shown) => [...size(shown), shown.querySelectorAll("path").length]),
        pictures: [...document.querySelectorAll("img")].map((shown) => [...size(shown), shown.naturalWidth]),
    };
    document.body.innerHTML = "<pre>" + JSON.stringify(sizes) + "</pre>";
})</script></body>"""  # noqa: E501


def run(name, *, accuracy=0.5, steps=0, refused=0, labels=None, **settings):
    """A run with this accuracy and evenly spread errors. steps: number of accepted ones."""
    classes = len(OUTDOOR)
    matrix = np.full((classes, classes + 1), int(100 * (1 - accuracy) / classes), np.int64)
    np.fill_diagonal(matrix, int(100 * accuracy))
    stamps = np.arange(SWEEPS) * 100_000_000
    calibration = np.zeros((15, 3))
    calibration[5:] = (100, 60, 50)
    return Result(
        name, OUTDOOR.names, stamps, np.tile(matrix, (SWEEPS, 2, 1, 1)), settings, steps + refused, steps,
        losses=tuple((int(stamp), -0.5) for stamp in stamps[:steps]), calibration=calibration,
        predicted=np.ones((SWEEPS, classes + 1), np.int64), samples={0: labels} if labels is not None else {},
        timing=Timing(np.full(SWEEPS, 0.1), np.full(steps, 0.2)),
    )


def runs(labels=None):
    return (
        run("frozen", accuracy=0.4, labels=labels),
        run("ttt-kd-o", accuracy=0.8, steps=12, labels=labels, stride=1, learning_rate=1.0),
        run("ttt-kd-o", accuracy=0.6, steps=3, labels=labels, stride=5, learning_rate=1.0),
        run("tent", accuracy=0.5, steps=3, labels=labels, stride=5),
    )


def bag(results, name="bag", **about):
    return BagResults(name, SWEEPS, tuple(results), **({"truth": "/truth", "cameras": ("front",)} | about))


def made(*bags, drives=None, **settings):
    provenance = {"student": {"SHA-256": "a" * 64, "made": "for a test"}}
    inputs = INPUTS | {"files": {each.bag: INPUTS["files"]["bag"] for each in bags}}
    return page(bags, drives or {each.bag: [] for each in bags}, OUTDOOR, inputs=inputs, provenance=provenance,
                **({"others": {}, "name": "this one"} | settings))


def captions(content):
    return re.findall("<figcaption>(.*?)</figcaption>", content)


@pytest.fixture(scope="module")
def drive():
    return [replace(frame, stamp=0) for frame in frames("kitti", 1, 1)]


@pytest.fixture(scope="module")
def whole(drive):
    """A page with everything that a page may have."""
    offline = [run("ttt-kd", accuracy=accuracy, steps=12, learning_rate=1.0, images=1) for accuracy in (0.5, 0.6)]
    results = [*runs(drive[0].labels), *(
        replace(result, settings=result.settings | {"steps": steps, "images": images})
        for result, steps, images in zip([*offline, offline[0]], (5, 25, 5), (1, 1, 3), strict=True)
    )]
    others = {"other teacher": [Other(INPUTS["files"]["bag"], SWEEPS, {"frozen": 40.0, "tent, stride 5": 45.0})]}
    return made(bag(results), drives={"bag": drive}, others=others)


def test_every_possible_chart_is_on_the_page(whole):
    assert captions(whole) == [
        "mIoU over stride", "mIoU over steps", "mIoU over images per sweep", "mIoU over evaluations",
        *(f"mIoU over time: {name}" for name in ("ttt-kd-o", "tent", "ttt-kd")),
        *(f"Adaptation loss: {name}" for name in ("ttt-kd-o", "tent", "ttt-kd")),
        *(f"Reliability: {name}" for name in ("ttt-kd-o", "tent", "ttt-kd")),
        "from above", "on the image of camera_front", "Predictions per second over stride",
    ]


def test_a_setting_with_one_value_has_no_chart():
    frozen, adapted, *_ = runs()
    assert not [caption for caption in captions(made(bag([frozen, adapted]))) if "over stride" in caption]


def test_the_best_run_is_named_with_its_gain():
    text = " ".join(re.sub("<[^>]*>", "", made(bag(runs()))).split())
    assert "The best run is ttt-kd-o, stride 1, lr 1.0: mIoU" in text and "above the frozen student's" in text


def test_the_page_says_if_no_run_beats_the_frozen_student():
    text = " ".join(made(bag([run("frozen"), run("tent", accuracy=0.3, steps=1)])).split())
    assert "No adapting run beats the frozen student" in text


def test_the_worst_class_of_each_run_is_named():
    text = " ".join(re.sub("<[^>]*>", "", made(bag([run("frozen"), run("tent", accuracy=0.3)]))).split())
    assert re.search(r"tent: the worst class against frozen is car, -\d+\.\d", text)
    assert "frozen: the worst class" not in text


def test_a_control_is_never_the_best_run():
    control = run("ttt-kd-o", accuracy=0.9, steps=12, control="other-image")
    assert "The best run is <strong>ttt-kd-o, stride 1, lr 1.0</strong>" in made(bag([*runs(), control]))


def test_a_run_whose_steps_were_all_rejected_can_be_the_best():
    assert "The best run is <strong>ttt-kd-o</strong>" in made(bag([*runs(), run("ttt-kd-o", accuracy=0.9, refused=3)]))


@pytest.mark.parametrize("name", ["source-only", "live"])
def test_a_run_that_does_not_adapt_is_never_the_best(name):
    content = made(bag([*runs(), run(name, accuracy=0.9)]))
    assert "The best run is <strong>ttt-kd-o, stride 1, lr 1.0</strong>" in content


def test_without_truth_class_shares_replace_iou():
    unknown = [replace(result, matrices=np.zeros_like(result.matrices), calibration=np.zeros((15, 3)))
               for result in runs()]
    content = made(bag(unknown, truth=None))
    assert "Share of each class" in content and "Confusion" not in content and "has no truth" in content
    assert captions(content) == ["Adaptation loss: ttt-kd-o", "Adaptation loss: tent",
                                 "Predictions per second over stride"]


def test_several_bags_have_a_section_each_and_one_together():
    content = made(bag(runs()[:1], "one"), bag(runs()[:1], "two"))
    assert re.findall("<h2>(.*?)</h2>", content) == ["one", "two", "All bags together", "Settings and models"]


def test_the_reason_why_a_bag_could_not_be_read_is_on_the_page():
    content = made(bag(runs()[:1], "one"), bag((), "two", damage="it is torn"))
    assert "two: it is torn" in content and re.findall("<h2>(.*?)</h2>", content) == ["one", "Settings and models"]


def test_only_the_timing_section_depends_on_measured_times():
    some = runs()[:2]
    again = [replace(result, timing=Timing(np.full(SWEEPS, 0.3), np.full(2, 0.4))) for result in some]
    first, second = made(bag(some)), made(bag(again))
    assert first != second
    assert made(bag(some)) == first
    timed = re.compile(r'<div class="timing">.*?</section>', re.DOTALL)
    assert timed.sub("", first) == timed.sub("", second)


def test_ids_on_a_page_are_unique(whole):
    ids = re.findall(r'\bid="([^"]+)"', whole)
    assert ids and len(ids) == len(set(ids))


class Elements(HTMLParser):
    """All elements and their attributes; text that looks like an element is not one."""

    def __init__(self, content):
        super().__init__()
        self.found = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_stay_text(drive):
    results = [run(f"live {HOSTILE}", accuracy=0.9, steps=3, labels=drive[0].labels, stride=5), *runs(drive[0].labels)]
    hostile = bag(results, HOSTILE, truth=HOSTILE, cameras=(HOSTILE,), damage=HOSTILE, left_out={HOSTILE: HOSTILE})
    frame = replace(drive[0], views=tuple(replace(view, name=HOSTILE) for view in drive[0].views))
    content = page(
        [hostile], {HOSTILE: [frame]}, OUTDOOR, provenance={HOSTILE: {HOSTILE: HOSTILE}},
        inputs=INPUTS | {"settings": {"points_topic": HOSTILE, "cameras": [HOSTILE]},
                         "files": {HOSTILE: {HOSTILE: "f"}}},
        others={HOSTILE: [Other({HOSTILE: "f"}, SWEEPS, {"frozen": 1.0, HOSTILE: 2.0})]}, name="this one",
    )
    elements = Elements(content).found
    assert not [tag for tag, _ in elements if tag in ("script", "iframe", "object", "embed", "link", "base")]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in elements if tag == "img")
    assert "alert(1)" in content  # the name is shown


def test_the_page_refers_to_no_external_file(whole):
    links = [value for _, attributes in Elements(whole).found for name, value in attributes.items()
             if name in ("src", "href", "xlink:href", "srcset", "data", "action")]
    assert links and all(link.startswith(("data:image/webp;base64,", "#")) for link in links)


def chromium(path, tmp_path):
    """The page as rendered by a browser, its console messages, and its requests to the network."""
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"no browser is installed: none of {', '.join(names)} is there")
    done = subprocess.run(
        [browser, *BROWSER, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={tmp_path / 'net.json'}",
         path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )
    events = json.loads((tmp_path / "net.json").read_text())["events"]
    # Requests of the page have an origin, "null" for a file; the browser's own have none.
    requests = [event["params"]["url"] for event in events if event.get("params", {}).get("initiator") == "null"]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], requests


def test_the_browser_reports_errors_and_requests(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://example.invalid/x.png"><script>nothing()</script>')
    _, console, requests = chromium(path, tmp_path)
    assert "nothing is not defined" in console[0] and requests == ["http://example.invalid/x.png"]


def test_a_browser_renders_the_page_without_an_error_or_a_request(whole, tmp_path):
    path = tmp_path / NAME
    path.write_text(whole, encoding="utf-8")
    shown, console, requests = chromium(path, tmp_path)
    assert "The best run is <strong>ttt-kd-o" in shown and console == [] and requests == []


def test_a_browser_gives_every_chart_and_picture_its_size(whole, tmp_path):
    path = tmp_path / NAME
    allowed = whole.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'", 1)
    path.write_text(allowed.replace("</body>", PROBE), encoding="utf-8")
    shown, console, _ = chromium(path, tmp_path)
    assert console == []
    sizes = json.loads(re.search("<pre>(.*)</pre>", shown)[1])
    assert len(sizes["charts"]) == 14 and len(sizes["pictures"]) == 2
    assert all(width > 200 and height > 100 and paths > 5 for width, height, paths in sizes["charts"])
    assert all(width > 200 and height > 100 and natural > 500 for width, height, natural in sizes["pictures"])


def test_evaluations_are_named_after_their_folders(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "results.json").write_text(json.dumps({
        "bags": [{"bag": "bag", "sweeps": 3, "results": [{"run": "frozen", "miou": 4.5}, {"run": "dua", "miou": None}]}]
    }))
    (tmp_path / "small" / "inputs.json").write_text(json.dumps({"files": {"bag": {"bag.mcap": "f"}}}))
    assert read_evaluations([tmp_path / "small"], tmp_path) == {"small": [({"bag.mcap": "f"}, 3, {"frozen": 4.5})]}


@pytest.mark.parametrize("content", [None, "{", "[]", '{"bags": [{"bag": "bag"}]}', '{"bags": 1}'])
def test_a_folder_without_results_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match="holds no results of an evaluation"):
        read_evaluations([tmp_path], tmp_path / "out")


def test_comparing_needs_a_page():
    with pytest.raises(ValueError, match="--out"):
        read_evaluations([Path("somewhere")], None)


def test_two_evaluations_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="called out"):
        read_evaluations([tmp_path / "other" / "out"], tmp_path / "out")


def test_the_page_says_that_an_evaluation_of_fewer_sweeps_is_not_compared():
    content = made(bag(runs()[:1]), others={"short": [Other(INPUTS["files"]["bag"], SWEEPS - 1, {"frozen": 1.0})]})
    assert "short has evaluated 11 sweeps of bag, not 12" in content and "over evaluations" not in content


def test_the_page_says_that_an_evaluation_of_another_bag_is_not_compared():
    content = made(bag(runs()[:1]), others={"elsewhere": [Other({"bag.mcap": "e" * 64}, SWEEPS, {"frozen": 1.0})]})
    assert "elsewhere has not evaluated the files of bag" in content and "over evaluations" not in content


def test_the_command_writes_the_page(tmp_path):
    torch.manual_seed(0)
    student = Student(StudentConfig(options=dict(levels=2), voxel_size=0.3, teacher_dim=16, teacher_input=(28, 84)))
    save_student(student, tmp_path / "student.safetensors", {"made": "for a test"})
    with BagWriter(tmp_path / "bag") as written:
        for frame in frames("kitti", 1, 1):
            written.write_frame(frame)
    evaluate((tmp_path / "bag",), method=("frozen",), model=tmp_path / "student.safetensors", out=tmp_path / "out")
    content = (tmp_path / "out" / NAME).read_text()
    assert "<h1>Evaluation: bag</h1>" in content and "for a test" in content
    assert captions(content)[-2:] == ["from above", "on the image of camera_front"]


def test_the_provenance_of_every_student_is_known(tiny):
    models = Models(tiny.model, own_students={"oracle": tiny.student(4)})
    found = model_provenance(models, {"model": "a" * 64, "oracle": "b" * 64})
    assert {name: each["SHA-256"][0] for name, each in found.items()} == {"student": "a", "oracle student": "b"}
