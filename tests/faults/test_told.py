"""What goes wrong in silence, or by a wrong name: it is told, by its cause."""

import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from driver import RING, Forked, final, genkit, refused, same, steps, told
from marks import point
from PIL import Image
from test_checkpoints import broken, put
from test_plugins import component, plugin

RUN = [*RING, "--out", "run"]


# ---- what resumes otherwise than it began ---------------------------------------------------------

GROUPS = """
lr: float = 2e-3
def optimizer(self, params):
    matrices = [p for _, p in params if p.ndim > 1]
    others = [p for _, p in params if p.ndim <= 1]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.1}]
    return torch.optim.AdamW(groups, lr=self.lr)
def lr_scale(self, k, total_steps):
    return 1.0
"""
STOP = """
@hookimpl
def genkit_step_end(state, figures, key):
    if state.k == 45 and "STOP" in os.environ:
        os.kill(os.getpid(), 15)
"""


@point(6, "the moments of one group are given to the other")
def test_a_run_whose_optimizer_has_two_groups_goes_on_to_the_same_bits():
    path = plugin(component("optimizer", GROUPS) + STOP)
    argv = [*RING, "optimizer=bad", "--out"]
    genkit(*argv, "whole", path=path)
    genkit(*argv, "parts", path=path, STOP="1", code=75)
    genkit(*argv, "parts", path=path)
    same(final("whole"), final("parts"))


RANDOM = """
def build(self, context):
    return lambda x, y, at=None: (x - y + 0.1 * {}).flatten(1).square().mean(1)
"""


@pytest.mark.parametrize(
    "draw",
    ["torch.randn_like(x)", "torch.rand(())", "__import__('random').random()", "__import__('numpy').random.rand()"],
)
@point(7, "not a word, and what is resumed differs")
def test_a_component_that_draws_outside_of_its_keys_is_named(draw):
    done = Forked([*RUN, "loss=bad"], path=plugin(component("loss", RANDOM.format(draw)))).wait()
    if done.code:
        refused(done, {1, 3}, ["bad", "random|generator|draw"])
    else:
        assert [e for e in told("run", "notice") if "bad" in e["text"] and "genkit-probe-staged" not in e["text"]]


# ---- data that are left out or misread ------------------------------------------------------------


def pictures(number=10, folder="folder"):
    Path(folder).mkdir()
    chance = np.random.default_rng(0)
    for i in range(number):
        Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8)).save(f"{folder}/{i}.png")


INFO = ["data", "info", "image-folder", "path=folder"]


@pytest.mark.parametrize("other", ["txt", "heic", "svg", "npy"])
@point(11, "left out in silence")
def test_files_that_a_folder_walk_passes_over_are_told(other):
    pictures()
    shutil.copy("folder/0.png", f"folder/other.{other}")
    assert f".{other}" in genkit(*INFO).out


@pytest.mark.parametrize("other", ["gif", "tif", "bmp", "webp", "ppm"])
@point(11, "left out in silence")
def test_pictures_of_other_forms_are_read(other):
    pictures()
    Image.open("folder/0.png").save(f"folder/other.{other}")
    assert re.search(r"samples +11\b", genkit(*INFO).out)


@point(11, "it takes as many runs to find them")
def test_damaged_pictures_are_told_all_at_once():
    pictures()
    for i in range(7):
        Path(f"folder/bad{i}.png").write_bytes(Path(f"folder/{i}.png").read_bytes()[:60])
    refused(Forked(INFO).wait(), {4}, [r"\b7\b"])


def sixteen(channels, colour):
    """A PNG of 16 bits a channel, of low bytes alone."""
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes([0, 200] * 8 * channels) for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("channels", "colour"), [(3, 2), (2, 4), (4, 6), (1, 0)])
def test_pictures_of_16_bits_are_not_cut_in_silence(channels, colour, request):
    if channels > 1:
        request.applymarker(point(11, "cut to 8 bits in silence"))
    Path("folder").mkdir()
    for i in range(10):
        Path(f"folder/{i}.png").write_bytes(sixteen(channels, colour))
    done = Forked(INFO).wait()
    assert (done.code == 4 and refused(done, {4}) is None) or "16" in done.out + done.err


# ---- causes ---------------------------------------------------------------------------------------


@point(12, "the rate is said to be too large")
def test_weights_that_are_not_finite_are_named_as_the_cause():
    genkit(*RUN)
    put(steps("run")[-1], broken("ema/"))
    done = Forked([*RING, "init.from=run", "--out", "other"]).wait()
    refused(done, {4}, ["finite|NaN"])
    assert "lower optimizer.lr" not in done.err


@point(12, "another cause is told")
@pytest.mark.parametrize(
    ("argv", "right", "wrong"),
    [
        (["data", "info", "image-folder", "path=own.zip"], "zip|archive|unpack", "no such folder"),
        (["data", "info", "hdf5", "path=own.npz"], "npz|NumPy", "copy or download it again"),
        (["data", "info", "./folder"], "image-folder", "not installed"),
    ],
)
def test_the_cause_is_named(argv, right, wrong):
    pictures()
    shutil.make_archive("own", "zip", "folder")
    np.savez("own.npz", images=np.zeros((10, 8, 8), np.uint8))
    done = Forked(argv).wait()
    if done.code:
        refused(done, {2, 4}, [right])
    assert wrong not in done.err


@point(12, "two ids are told")
def test_what_differs_from_the_run_in_a_folder_is_named():
    genkit(*RUN)
    refused(Forked([*RUN, "optimizer.lr=0.001", "train.seed=3"]).wait(), {4}, ["optimizer.lr", "train.seed"])


@point(8, "a traceback")
def test_what_does_not_fit_in_memory_is_told_in_a_line():
    refused(Forked([*RUN, "network.width=200000"], limits={"RLIMIT_AS": 2**36}).wait(), {4}, ["memory"])
