"""The page of a store of 300 runs: the time to write it, its size, and the time until a browser shows it.

    OMP_NUM_THREADS=1 python benchmarks/store_page.py [--runs 300]

One run of ict_digits is trained for a few steps; the others are copies of its folder, with a seed and an id of their
own, and with figures and losses drawn about those of the first: as many events as 3,600 steps leave. The page is to be
below 2 MB and open in less than 2 s: from the start of its navigation in Chromium until it is loaded, with all rows and
two runs side by side laid out; told beside it, with the browser's own start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import genkit
from genkit.data import records

FEW = ["train.steps=72", "train.log_every_steps=1", "train.batch_size=16", "evaluate.samples=300"]
FEW += ["network.model_channels=8", "network.num_blocks=1"]
TIMED = """<script>
addEventListener("load", () => document.title = document.body.offsetHeight &&
  `${performance.now()} ms, ${document.querySelectorAll("#runs tbody tr").length} rows`);
</script></body>"""


def copied(model: Path, number: int, rng: np.random.Generator) -> None:
    """A run's folder with another seed, id, figures and losses; its checkpoints are links."""
    id = f"{number:010x}"
    folder = model.with_name(f"{model.name.rpartition('-')[0]}-{id}")
    shutil.copytree(model, folder, copy_function=os.link)
    factor = float(np.exp(0.35 * rng.standard_normal()))
    for path in (folder / "recipe.toml", folder / "lock.json", folder / "events.jsonl", *folder.glob("evaluations/*")):
        text = path.read_text()
        path.unlink()  # the link, not the model's
        if path.suffix == ".toml":
            path.write_text(re.sub(r"^seed = 0$", f"seed = {number}", text, count=1, flags=re.MULTILINE))
        elif path.suffix == ".jsonl":
            events = [json.loads(line) for line in text.splitlines()]
            for event in events:
                scaled = {name: value * factor for name, value in event.get("figures", {}).items()}
                event.update({"figures": scaled} if scaled else {})
                event.update({"k": 50 * event["k"]} if event["event"] == "step" else {})
            path.write_text("".join(json.dumps(event) + "\n" for event in events))
        else:
            told = json.loads(text)
            told |= {"id": id, "created": told["created"] + number} if path.name == "lock.json" else {}
            for row in told.get("steps", {}).values() if path.name != "lock.json" else ():
                row["figures"] = {name: value * factor for name, value in row["figures"].items()}
            records.write(path, told)


def opened(page: Path) -> tuple[str, float]:
    """What the page's own clock said in Chromium once all was drawn, and seconds with the browser's start."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return "no Chromium is installed", 0.0
    timed = page.with_name("timed.html")
    timed.write_text(page.read_text().replace("</body>", TIMED))
    with tempfile.TemporaryDirectory() as profile:
        words = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
        command = [browser, *words.split(), f"--user-data-dir={profile}", "--dump-dom"]
        begun = time.monotonic()
        shown = subprocess.run([*command, timed.as_uri()], capture_output=True, text=True, check=True)
        took = time.monotonic() - begun
    timed.unlink()
    found = re.search("<title>(.*?)</title>", shown.stdout)
    return (found[1] if found else "not drawn"), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    count, rng = parser.parse_args().runs, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as runs:
        os.environ["GENKIT_RUNS"] = runs
        model = genkit.run(genkit.load_recipe("ict_digits", FEW), device="cpu").folder
        for number in range(1, count):
            copied(model, number, rng)
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "genkit", "runs", "page"], check=True, capture_output=True)
        page = Path(runs) / "index.html"
        print(f"load {os.getloadavg()[0]:.2f}; {count} runs of {len(list(model.rglob('*')))} files")
        print(f"written in {time.monotonic() - begun:.2f} s, {page.stat().st_size / 1e6:.2f} MB")
        shown, took = opened(page)
        print(f"opened: {shown} by its own clock; {took:.2f} s with the browser's start")


if __name__ == "__main__":
    main()
