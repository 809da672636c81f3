"""Claims about the tracker of Weights & Biases: offline, and read back from what it stored."""

from __future__ import annotations

import json
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import genkit
from genkit.errors import PluginError
from genkit.kinds import TrackedRun
from genkit.testing import laws
from genkit_wandb.tracker import Wandb

RECIPE = {"name": "tiny", "train": {"seed": 3}, "loss": {"use": "l2"}}


@pytest.fixture
def client(monkeypatch):
    """The client, which sends nothing; its process is ended with the test."""
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb = pytest.importorskip("wandb", reason="the package wandb is not installed")
    yield wandb
    wandb.teardown()


def opened(folder, k=0, **more):
    return Wandb().open(TrackedRun(folder=folder, key="abc-1", recipe=RECIPE, k=k, **more))


def log(folder):
    """The file of the only run in a folder, once W&B's process, which writes it, has ended."""
    sys.modules["wandb"].teardown()
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return path


def records(path):
    """What a file of W&B holds: records as LevelDB's log has them, in blocks of 32 KiB, behind 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the only part of a record, or its last
            yield Record.FromString(whole)
            whole = b""


def history(path):
    """The figures told, a dict for each call."""
    found = [record.history.item for record in records(path) if record.WhichOneof("record_type") == "history"]
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items} for items in found]


def curve(path, name):
    return [(told["step"], told[name]) for told in history(path) if name in told]


def test_figures_come_back_by_name_and_step(client, tmp_path):
    session = opened(tmp_path)
    session.scalars(4, {"loss": 2.0, "lr": 0.5})
    session.scalars(4, {"fd.fd@1": 0.75})
    session.scalars(8, {"loss": 1.0})
    session.close("done")
    stored = log(tmp_path)
    assert curve(stored, "loss") == [(4, 2.0), (8, 1.0)] and curve(stored, "lr") == [(4, 0.5)]
    assert curve(stored, "fd.fd@1") == [(4, 0.75)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_they_were(client, tmp_path, channels):
    picture = torch.randint(0, 256, (channels, 6, 9), dtype=torch.uint8)
    session = opened(tmp_path)
    session.images(7, "samples-steps1", picture)
    session.close("done")
    stored = log(tmp_path)
    (file,) = stored.parent.glob("files/media/images/*.png")
    pixels = np.asarray(Image.open(file).convert("RGB"))
    assert np.array_equal(pixels, picture.expand(3, -1, -1).permute(1, 2, 0).numpy())
    ((step, path),) = curve(stored, "samples-steps1/path")
    assert step == 7 and path.endswith(file.name)


def test_a_resumed_run_is_the_same_run_and_loses_no_figure_of_an_earlier_step(client, tmp_path):
    folders = {0: tmp_path / "first", 4: tmp_path / "moved"}  # W&B's folders are named by the second
    for k, folder in folders.items():
        folder.mkdir()
        session = opened(folder, k)
        for step in (k + 2, k + 4, k + 6):
            session.scalars(step, {"loss": float(step)})
        session.close("preempted" if k == 0 else "done")
    first, second = map(log, folders.values())
    assert first.name == second.name == "run-abc-1.wandb"
    assert curve(second, "loss") == [(6, 6.0), (8, 8.0), (10, 10.0)]


def test_recipe_study_and_arm_stand_with_the_run(client, tmp_path):
    opened(tmp_path, study="losses", arm="loss=l2").close("done")
    (run,) = [r.run for r in records(log(tmp_path)) if r.WhichOneof("record_type") == "run"][-1:]
    assert (run.run_group, run.job_type, run.display_name) == ("losses", "loss=l2", "loss=l2, seed 3")
    config = {u.key: json.loads(u.value_json) for u in run.config.update}
    assert config["loss"] == {"use": "l2"}


@pytest.mark.parametrize(("outcome", "code"), [("done", 0), ("preempted", 1), ("diverged", 1)])
def test_it_is_told_how_the_run_ended(client, tmp_path, outcome, code):
    opened(tmp_path).close(outcome)
    told = list(records(log(tmp_path)))
    assert [r.exit.exit_code for r in told if r.WhichOneof("record_type") == "exit"] == [code]
    assert any(r.WhichOneof("record_type") == "preempting" for r in told) == (outcome == "preempted")


def test_it_is_a_lawful_tracker(client):
    laws.check(genkit.component("tracker", "wandb"))


def test_without_the_client_a_line_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(PluginError, match="wandb: is not installed; python -m pip install wandb"):
        opened(tmp_path)
