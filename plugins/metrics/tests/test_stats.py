"""`genkit stats make`: the same statistics from one process and from several."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from genkit.evaluation import references


def test_two_processes_make_the_statistics_of_one():
    command = ["-m", "genkit", "stats", "make", "digits", "--features", "pixels", "--device", "cpu", "--out"]
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    for words in ([*command, "one.h5"], [*together, *command, "two.h5"]):
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=environment, timeout=200, check=False
        )
        assert done.returncode == 0 and done.stdout.split() == words[-1:], done.stderr
    one, two = (references.read(Path(name)) for name in ("one.h5", "two.h5"))
    assert one.arrays.keys() == two.arrays.keys() and one.samples == two.samples > 0
    for name, array in one.arrays.items():
        assert torch.allclose(array, two.arrays[name], rtol=1e-6), name
