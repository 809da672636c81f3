"""`benchmarks/scaling.py` runs at a size that takes seconds; what it measures there is no figure of anything."""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/scaling.py"


def test_the_benchmark_of_two_processes_tells_the_ratio_of_its_rounds_in_its_interval(tmp_path):
    words = ["ict_ring", "network.width=16", "train.batch_size=32", "--steps", "2", "--rounds", "3"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words, "--json", "found.json"],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    found = json.loads(Path("found.json").read_text())
    rates = found["images_per_sec"]
    assert [len(values) for values in rates.values()] == [3, 3] and found["batch_size"] == 32
    logs = [math.log(one / other) for one, other in zip(rates["together"], rates["apart"], strict=True)]
    assert found["ratio"] == pytest.approx(math.exp(statistics.fmean(logs)))
    low, high = found["interval"]
    half = 4.303 * statistics.stdev(logs) / math.sqrt(3)  # Student's t with two degrees of freedom
    assert math.log(high / low) == pytest.approx(2 * half, rel=1e-3) and low < found["ratio"] < high
    assert f"ratio {found['ratio']:.3f}" in done.stdout
