"""The benchmark of data sets measures every source, at a small size."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "data.py"


def test_every_source_is_measured_and_nothing_is_left(tmp_path):
    command = [sys.executable, SCRIPT, "--images", "700", "--pictures", "40", "--seconds", "0.1", "--batch", "16"]
    done = subprocess.run(
        [*command, "--folder", tmp_path, "--json", tmp_path / "figures.json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())["sources"]
    assert {name: told["images"] for name, told in found.items()} == {"hdf5": 700, "zip": 40, "tar": 40, "folder": 40}
    for told in found.values():
        assert min(told["per_core"], told["before"], told["first"], told["again"]) > 0 and 0 <= told["waits"] < 1
    assert done.stdout.count("\n") == 6  # a head, four sources, and the permutation
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
