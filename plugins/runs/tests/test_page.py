"""The page of the store: all of it, small, from nowhere but the store, and alive in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import genkit
from genkit.kernel.loading import load_recipe
from genkit_runs import overview

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
FEW = ["train.steps=12", "train.log_every_steps=2", "evaluate.samples=300", "train.batch_size=16"]
in_a_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")


@pytest.fixture
def store(call):
    """Two runs of one's own and a study of four trials, with its report; and the page."""
    for more in (["train.seed=7"], ["evaluate.every_steps=4", "name=other", "train.seed=8"]):
        genkit.run(load_recipe("ict_ring", [*FEW, *more]))
    genkit.ablate("ict_ring", ["loss=l2"], FEW, seeds=[0, 1])
    call("ablate", "report", "latest")
    out, _ = call("runs", "page")
    assert out == "runs/index.html\n"
    return Path("runs").absolute()


def told(page):
    return json.loads(re.search(r"<script type=\"application/json\" id=store>(.*?)</script>", page.read_text())[1])


def test_the_page_knows_every_run_and_study_and_names_files_that_are_there(store):
    found = told(store / "index.html")
    assert {run["run"] for run in found["runs"]} == {path.parent.name for path in store.glob("*/lock.json")}
    (study,) = found["studies"]
    assert study["size"] == "2 arms, 2 seeds" and "no verdict" in study["said"] and (store / study["report"]).is_file()
    assert sum(study["study"] in run["studies"] for run in found["runs"]) == 4
    for run in found["runs"]:
        assert run["curves"]["loss"][0] == [2, 4, 6, 8, 10, 12] and len(run["recipe"]) == len(found["keys"])
        files = [*run["pictures"].values(), run["data"], *([run["report"]] if run["report"] else [])]
        assert len(run["pictures"]) == 2 and all((store / name).is_file() for name in files)
        values = dict(zip(found["keys"], map(list.__getitem__, found["values"], run["recipe"]), strict=True))
        recipe = genkit.load_recipe(store / run["run"] / "recipe.toml")
        assert values["train.seed"] == str(recipe.train.seed)
    (own,) = (run for run in found["runs"] if run["name"] == "other")
    assert own["curves"]["fd.fd@1"][0] == [4, 8, 12]
    text = (store / "index.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text) and "default-src 'none'" in text


def test_a_page_elsewhere_still_finds_the_store_and_what_is_damaged_is_passed_over(store, call):
    (store / "half").mkdir()
    (store / "half" / "lock.json").write_text('{"na')
    Path("away").mkdir()
    _, err = call("runs", "page", "--out", "away/all.html")
    found = told(Path("away/all.html"))
    assert "half is passed over" in err and len(found["runs"]) == 6
    assert all((Path("away") / run["data"]).is_file() for run in found["runs"])


def test_what_a_recipe_says_cannot_leave_the_data_of_the_page(store, call):
    (run, *_) = store.glob("ict_ring-*")
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(f'note = "</script><script>alert(1)</script>"\n{text}')
    call("runs", "page")
    assert "<script>alert" not in (store / "index.html").read_text()
    assert any("<script>alert(1)" in value for values in told(store / "index.html")["values"] for value in values)


def test_a_line_is_thinned_to_medians_and_keeps_its_end():
    points = [(k, 1.0 if k % 5 else 100.0) for k in range(1, 1001)] + [(1001, None)]
    line = overview.medians(points, 100)
    assert len(line) == 100 and line[-1][0] == 1000 and {v for _, v in line} == {1.0}
    assert overview.medians([(1, 2.0)], 100) == [(1, 2.0)] and overview.medians([(1, None)], 9) == []


def titled(page, script, tmp_path, *options, at=""):
    """What a script makes of a page's title in a browser."""
    scripted = page.with_name("scripted.html")
    scripted.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [CHROMIUM, *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", *options]
    shown = subprocess.run(
        [*command, "--virtual-time-budget=30000", "--dump-dom", scripted.as_uri() + at],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert "CONSOLE" not in shown.stderr, shown.stderr
    return json.loads(re.search(r"<title>(.*?)</title>", shown.stdout)[1].replace("&amp;", "&"))


ACT = """
const shown = () => [...document.querySelectorAll("#runs tbody th")].map(th => th.textContent);
const set = (id, value, event) => { const of = document.getElementById(id); of.value = value; of["on" + event](); };
const said = {all: shown()};
set("filter", "OTHER", "input"); said.filtered = shown();
set("filter", "loss.use=l2 train.seed=1", "input"); said.recipe = shown();
set("filter", "", "input"); set("of", document.querySelectorAll("#of option")[2].value, "change"); said.study = shown();
set("of", "own", "change"); said.own = shown();
set("of", "", "change"); document.querySelectorAll("#runs thead th")[4].click(); said.sorted = shown();
document.getElementById("none").click(); said.none = document.querySelectorAll("#samples img").length;
document.querySelectorAll("#runs tbody input").forEach((box, i) => { if (i < 3) box.click(); });
said.paths = document.querySelectorAll("#chart path:not(.grid)").length;
said.differ = [...document.querySelectorAll("#differences tbody th")].map(th => th.textContent);
said.heads = document.querySelectorAll("#differences thead th").length;
said.hash = decodeURIComponent(location.hash);
const loaded = image => new Promise(done => { image.onload = image.onerror = done; image.loading = "eager";
  if (image.complete) done(); });
Promise.all([...document.images].map(loaded)).then(() => {
  said.pictures = [...document.images].every(image => image.naturalWidth > 0);
  document.title = JSON.stringify(said);
});
"""


@in_a_browser
def test_in_a_browser_it_filters_sorts_and_compares(store, tmp_path):
    said = titled(store / "index.html", ACT, tmp_path)
    runs = {run["run"]: run for run in told(store / "index.html")["runs"]}
    assert len(said["all"]) == 6 and set(said["all"]) == set(runs)
    assert [runs[name]["name"] for name in said["filtered"]] == ["other"]
    assert len(said["recipe"]) == 1 and len(said["study"]) == 4 and len(said["own"]) == 2
    figures = [runs[name]["figures"]["fd.fd@1"] for name in said["sorted"]]
    assert figures == sorted(figures)
    assert said["none"] == 0 and said["paths"] == 3 and said["heads"] == 4 and "fd.fd@1" in said["differ"]
    assert said["hash"] == "#" + ",".join(said["sorted"][:3]) and said["pictures"] is True


@in_a_browser
@pytest.mark.parametrize("width", [500, 1400])
def test_nothing_is_wider_than_the_screen_and_the_address_keeps_the_choice(store, width, tmp_path):
    names = [run["run"] for run in told(store / "index.html")["runs"]][1:4]
    script = """document.title = JSON.stringify([document.documentElement.scrollWidth <= innerWidth,
      [...document.querySelectorAll("#runs input:checked")].map(box => box.closest("th").textContent)]);"""
    fits, chosen = titled(
        store / "index.html", script, tmp_path, f"--window-size={width},900", at=f"#{','.join(names)}"
    )
    assert fits and sorted(chosen) == sorted(names)
