"""The page of a study: all that it owes, escaped, from nowhere else, and alive in a browser."""

import re
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

import genkit
from genkit import cli
from genkit_studies import comparison, page, study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
CLICK = """<script>
document.querySelectorAll("thead th")[2].click();
document.title = [...document.querySelector("tbody").rows].map(row => row.cells[0].textContent).join("|")
  + [...document.images].every(image => image.complete && image.naturalWidth > 0);
</script></body>"""


@pytest.fixture
def done():
    few = ["train.steps=6", "train.log_every_steps=2", "evaluate.samples=300", "train.batch_size=16"]
    made = genkit.ablate("ict_ring", ["loss=l2", "weighting=uniform"], few, seeds=[0, 1])
    return study.load(made.folder)


def test_a_page_has_what_a_study_is_and_nothing_from_elsewhere(done):
    strange = attrs.evolve(done, name="<b>&", arms=done.arms)
    html = page.page(strange, comparison.compare(strange))
    assert "&lt;b&gt;&amp;" in html and "<b>&" not in html
    assert not re.search(r'(?:src|href)=(?!"data:)', html) and "http:" not in html and "https:" not in html
    assert html.count("data:image/png;base64,") == (len(done.arms) + 1) * len(done.arms[0].recipe.evaluate.steps)
    assert "<span>seeds</span>0, 1" in html and "Training images" in html
    for arm in done.arms:
        assert html.count(arm.label) >= 4  # in the table, the curves, the samples and the list of arms
    assert all(trial.folder.name in html for trial in done.trials)


def titled(path, script, tmp_path, *options):
    """What a script makes of a page's title in a browser."""
    with_script = tmp_path / "scripted.html"
    with_script.write_text(path.read_text().replace("</body>", script))
    command = [CHROMIUM, *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", *options]
    shown = subprocess.run(
        [*command, "--dump-dom", with_script.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in shown.stderr
    return re.search(r"<title>(.*?)</title>", shown.stdout)[1]


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_on_a_narrow_screen_every_figure_is_in_sight(done, tmp_path):
    path = page.write(done, comparison.compare(done))
    script = """<script>
      const cells = [...document.querySelectorAll("td")].map(td => td.getBoundingClientRect());
      document.title = [innerWidth, cells.length, cells.every(c => c.width > 0 && c.right <= innerWidth)].join("|");
    </script></body>"""
    width, cells, seen = titled(path, script, tmp_path, "--window-size=400,900").split("|")
    assert int(width) <= 500 and int(cells) > 3 and seen == "true"


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_in_a_browser_it_sorts_shows_its_pictures_and_complains_of_nothing(done, tmp_path):
    path = page.write(done, comparison.compare(done))
    title = titled(path, CLICK, tmp_path)
    first = {a.label: t.figures for a in done.arms for t in done.of(a)[:1]}
    means = {a.label: sum(t.figures[next(iter(first[a.label]))] for t in done.of(a)) for a in done.arms}
    assert title == "|".join(sorted(means, key=means.get)) + "true"


def test_a_study_is_reported_again_by_its_command(done, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["ablate", "report", "latest"])
    assert left.value.code == 0
    told = capsys.readouterr().out.splitlines()
    names = {"table.md", "table.tex", "table.csv", "table.json", "report.html"}
    assert names <= {Path(line).name for line in told} and "8 of 10 studies find" in told[-1]
    assert all((done.folder / name).stat().st_size > 100 for name in names)
