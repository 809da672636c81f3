"""Claims about the tracker of trackio: a store in a folder, and read back from it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import genkit
from genkit.errors import PluginError
from genkit.kinds import TrackedRun
from genkit.testing import laws
from genkit_trackio.tracker import Trackio

RECIPE = {"name": "tiny", "train": {"seed": 3}, "loss": {"use": "l2"}}
NAME = "tiny, seed 3, abc-1"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The client with a store of its own, whose folder it takes when it is imported; it sends nothing."""
    with pytest.MonkeyPatch.context() as within:
        within.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("store")))
        within.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("trackio", reason="the package trackio is not installed")


def opened(folder, project, k=0, **more):
    return Trackio(project=project).open(TrackedRun(folder=folder, key="abc-1", recipe=RECIPE, k=k, **more))


def stored(project, name=NAME):
    """What was told of a run, in order."""
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_logs(project, name)


def curve(project, name):
    return [(told["step"], told[name]) for told in stored(project) if name in told]


def test_figures_come_back_by_name_and_step(client, tmp_path):
    session = opened(tmp_path, "figures")
    session.scalars(4, {"loss": 2.0, "lr": 0.5})
    session.scalars(4, {"fd.fd@1": 0.75})
    session.scalars(8, {"loss": 1.0})
    session.close("done")
    assert curve("figures", "loss") == [(4, 2.0), (8, 1.0)] and curve("figures", "lr") == [(4, 0.5)]
    assert curve("figures", "fd.fd@1") == [(4, 0.75)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_they_were(client, tmp_path, channels):
    project, picture = f"pictures{channels}", torch.randint(0, 256, (channels, 6, 9), dtype=torch.uint8)
    session = opened(tmp_path, project)
    session.images(7, "samples-steps1", picture)
    session.close("done")
    ((step, told),) = curve(project, "samples-steps1")
    pixels = np.asarray(Image.open(client.utils.MEDIA_DIR / told["file_path"]).convert("RGB"))
    assert step == 7 and np.array_equal(pixels, picture.expand(3, -1, -1).permute(1, 2, 0).numpy())


def test_a_resumed_run_is_the_same_run(client, tmp_path):
    for k in (0, 4):
        session = opened(tmp_path, "resumed", k)
        session.scalars(k + 4, {"loss": float(k)})
        session.close("done" if k else "preempted")
    assert len(client.Api().runs("resumed")) == 1 and curve("resumed", "loss") == [(4, 0.0), (8, 4.0)]


def test_recipe_study_and_arm_stand_with_the_run(client, tmp_path):
    session = opened(tmp_path, "study", study="losses", arm="loss=l2")
    session.scalars(4, {"loss": 2.0})
    session.close("done")
    (run,) = client.Api().runs("study")
    assert run.name == "loss=l2, seed 3, abc-1"
    assert run.config["loss"] == {"use": "l2"} and run.config["_Group"] == run.config["study"] == "losses"
    assert run.config["arm"] == "loss=l2"


def test_what_the_client_prints_is_no_result(client, tmp_path, capsys):
    opened(tmp_path, "printed").close("done")
    assert capsys.readouterr().out == ""


def test_it_is_a_lawful_tracker(client):
    laws.check(genkit.component("tracker", "trackio"))


def test_without_the_client_a_line_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(PluginError, match="trackio: is not installed; python -m pip install trackio"):
        opened(tmp_path, "none")
