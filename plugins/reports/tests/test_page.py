"""The report: complete, offline, escaped, and made from whatever a run folder holds."""

import json
import re

import pytest
import torch

from genkit.errors import CheckpointError
from genkit.evaluation import pictures, results
from genkit.evaluation.results import tidy
from genkit_reports import page as pages
from genkit_reports.charts import Series, chart, thinned
from genkit_reports.history import read as history_of

HOSTILE = '<script>alert("x")</script>'


def step(k, loss=1.0, **more):
    return {
        "event": "step",
        "k": k,
        "figures": {"loss": loss, "N": 11, **more},
        "images_per_sec": 100.0,
        "elapsed": k / 10,
    }


def evaluated(k, value):
    return {"event": "evaluated", "k": k, "protocol": "p", "figures": {"fd.fd@1": value, "fd.fd_floor@1": 0.1}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recipe.toml").write_text('name = "mine"\n[train]\nsteps = 40\n[dataset]\nuse = "digits"\n')
    (tmp_path / "lock.json").write_text(json.dumps({"name": "mine", "id": "abc", "device": "cpu", "parameters": 1500}))
    rows = {
        str(n): {"figures": {"fd.fd": v, "fd.fd_floor": 0.1, "pr.recall": 0.5}, "nfe": n}
        for n, v in ((1, 0.75), (2, 0.5))
    }
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "p.json").write_text(json.dumps({"protocol": {"samples": 9}, "k": 40, "steps": rows}))
    for name in ("final-steps1", "final-steps2", "step-0000020-steps1"):
        pictures.write(tmp_path / "samples" / f"{name}.png", torch.zeros(1, 4, 4, dtype=torch.uint8))
    tell(tmp_path, [{"event": "start", "k": 0}, step(10, 4.0), step(20, 2.0), step(40, 1.0)])
    return tmp_path


def tell(folder, events, torn=""):
    lines = [json.dumps({"time": 1.7e9 + i, **event}) for i, event in enumerate(events)]
    (folder / "events.jsonl").write_text("\n".join([*lines, torn]))


def page(folder):
    return pages.write(folder).read_text()


def test_the_page_shows_figures_pictures_curves_recipe_and_lock(folder):
    html = page(folder)
    assert html.count("<img ") == 3
    for part in (
        "mine",
        "abc",
        "0.7500",
        "0.5000",
        "loss against step",
        "N(k) against step",
        "use = &quot;digits&quot;",
    ):
        assert part in html, part


def test_samples_are_beside_training_images(folder):
    pictures.write(folder / "samples" / "data.png", torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert page(folder).count("<img ") == 4 and "training images" in page(folder)


def test_data_that_are_not_those_of_the_named_recipe_are_in_the_title(folder):
    assert "<h1>mine</h1>" in page(folder)
    for name, use, title in (
        ("ict_digits", "digits", "ict_digits"),
        ("ict_digits", "ring", "ict_digits on ring"),
        ("ict_digits_of_mine", "ring", "ict_digits_of_mine"),
    ):
        (folder / "lock.json").write_text(json.dumps({"name": name}))
        (folder / "recipe.toml").write_text(f'[dataset]\nuse = "{use}"\n')
        assert f"<h1>{title}</h1>" in page(folder) and f"<title>{title} – genkit" in page(folder)


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(folder):
    html = page(folder)
    assert not re.search(r"https?://|file:|//[a-z]|<script|@import|url\(|\bon\w+=", html)
    assert "default-src 'none'" in html
    assert set(re.findall(r'src="([a-z/]+:[a-z/]+);', html)) == {"data:image/png"}


def test_names_from_outside_are_escaped(folder):
    (folder / "lock.json").write_text(json.dumps({"name": HOSTILE, "id": HOSTILE, "plugins": {HOSTILE: HOSTILE}}))
    tell(folder, [step(1, **{HOSTILE: 1.0}), step(2, **{HOSTILE: 2.0}), {"event": "notice", "text": HOSTILE}])
    html = page(folder)
    assert HOSTILE not in html and "&lt;script&gt;" in html


def test_the_table_has_a_column_for_each_number_of_steps_and_floors_beside(folder):
    rows = results.figures_table(json.loads((folder / "evaluations" / "p.json").read_text()))
    assert rows == [
        ["figure", "1 step", "2 steps", "floor"],
        ["fd", "0.7500", "0.5000", "0.1000"],
        ["pr · recall", "0.5000", "0.5000", ""],
    ]


def test_a_torn_last_event_and_missing_parts_leave_a_page(folder, tmp_path):
    tell(folder, [step(10)], torn='{"event": "step", "k"')
    assert "cannot be read" not in page(folder)
    (tmp_path / "empty").mkdir()
    assert "Nothing is recorded yet" in page(tmp_path / "empty")


def test_a_damaged_file_is_named_on_the_page(folder):
    (folder / "lock.json").write_text("{")
    assert "lock.json is damaged" in page(folder)


def test_after_a_resume_the_later_steps_count(folder):
    tell(folder, [step(10), step(20, 99.0), step(30, 98.0), {"event": "resume", "k": 10}, step(20, 2.0)])
    story = history_of(folder)
    assert sorted(story.steps) == [10, 20] and story.steps[20]["figures"]["loss"] == 2.0
    assert "resumed at step 10" in page(folder)


def test_numbers_that_are_not_finite_are_gaps(folder):
    tell(folder, [step(10, 1.0), step(20, float("nan")), step(30, float("inf")), step(40, 2.0)])
    html = page(folder)
    assert "nan" not in html.lower().replace("finance", "") and "Infinity" not in html


def test_a_gap_breaks_the_line_and_a_lone_point_is_seen():
    drawn = chart("loss", [Series("loss", [(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, None)])])
    line = re.search(r'class="main" d="([^"]+)"', drawn)[1]
    assert line.count("M") == 2 and line.count("L") == 1 and line.endswith("h0")


@pytest.mark.parametrize("extreme", [5e-324, 1e299, 1e308, 10**400, -1e299, 0.0])
def test_values_beyond_all_scales_can_be_drawn(folder, extreme):
    tell(folder, [step(10, 1.0), step(20, extreme), step(30, 2.0)])
    assert "loss against step" in page(folder)


def test_long_curves_are_thinned_and_keep_their_spikes_and_gaps():
    points = [(k, 1.0 + k % 7) for k in range(10_000)]
    points[1234], points[5678], points[9000] = (1234, 500.0), (5678, None), (9000, -500.0)
    kept = thinned(points)
    assert len(kept) <= 600 and {points[1234], points[5678], points[9000]} <= set(kept)
    assert [k for k, _ in kept] == sorted(k for k, _ in kept)


def test_numbers_are_tidy():
    told = {0.71234: "0.7123", 11.0: "11", 1281.0: "1281", 17970: "17970", 1.0: "1.000", 3e-6: "3.000e-06", 0.0: "0"}
    assert {value: tidy(value) for value in told} == told
    assert [tidy(value) for value in (float("nan"), float("-inf"), None, True, "<b>")] == ["–"] * 5


def test_training_time_adds_sessions_up_and_leaves_later_evaluations_out(folder):
    tell(folder, [{"event": "start", "k": 0}, step(10), step(20), {"event": "end", "outcome": "done", "time": 1.8e9}])
    assert history_of(folder).seconds == 2.0  # the last elapsed
    events = [(0, {"event": "start", "k": 0}), (10, step(10)), (500, {"event": "resume", "k": 10}), (507, step(20))]
    end = {"event": "end", "outcome": "done", "time": 9e5}
    tell(folder, [*({**event, "time": at} for at, event in events), end])
    assert history_of(folder).seconds == 17.0


def test_a_picture_that_is_half_written_is_left_out(folder):
    path = folder / "samples" / "final-steps2.png"
    path.write_bytes(path.read_bytes()[:-6])
    assert page(folder).count("<img ") == 2


def test_figures_that_were_measured_more_than_once_become_curves(folder):
    tell(folder, [step(10), evaluated(10, 3.0)])
    assert "Figures over training" not in page(folder)
    tell(folder, [step(10), evaluated(10, 3.0), step(20), evaluated(20, 2.0)])
    html = page(folder)
    assert "Figures over training" in html and "fd against step: last 2.000" in html


def test_no_folder_is_a_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such run folder"):
        pages.write(tmp_path / "none")
