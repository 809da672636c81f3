"""Claims about the tracker of MLflow: a store in a folder, and read back from it."""

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
from genkit_mlflow.tracker import Mlflow

RECIPE = {"name": "tiny", "train": {"seed": 3, **{f"made-up{i}": i for i in range(150)}}, "loss": {"use": "l2"}}


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A client of a store in a folder, which tells nobody of its use."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    mlflow = pytest.importorskip("mlflow", reason="the package mlflow-skinny is not installed")
    return mlflow.MlflowClient()


def opened(folder, k=0, **more):
    return Mlflow().open(TrackedRun(folder=folder, key="abc-1", recipe=RECIPE, k=k, **more))


def stored(client):
    """The only run of the store."""
    (found,) = client.search_runs([client.get_experiment_by_name("genkit").experiment_id])
    return found


def curve(client, name):
    return [(m.step, m.value) for m in client.get_metric_history(stored(client).info.run_id, name)]


def test_figures_come_back_by_name_and_step(client, tmp_path):
    session = opened(tmp_path)
    session.scalars(4, {"loss": 2.0, "lr": 0.5})
    session.scalars(4, {"fd.fd@1": 0.75})
    session.scalars(8, {"loss": 1.0})
    session.close("done")
    assert curve(client, "loss") == [(4, 2.0), (8, 1.0)] and curve(client, "lr") == [(4, 0.5)]
    assert curve(client, "fd.fd/1") == [(4, 0.75)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_they_were(client, tmp_path, channels):
    picture = torch.randint(0, 256, (channels, 6, 9), dtype=torch.uint8)
    session = opened(tmp_path)
    session.images(7, "samples-steps1", picture)
    session.close("done")
    (file,) = tmp_path.glob("store/*/*/artifacts/images/samples-steps1*step*7*.png")
    pixels = np.asarray(Image.open(file).convert("RGB"))
    assert np.array_equal(pixels, picture.expand(3, -1, -1).permute(1, 2, 0).numpy())


def test_a_resumed_run_is_the_same_run(client, tmp_path):
    first = opened(tmp_path)
    first.scalars(4, {"loss": 2.0})
    first.close("preempted")
    assert stored(client).info.status == "KILLED"
    second = opened(tmp_path, k=4)
    assert stored(client).info.status == "RUNNING"
    second.scalars(8, {"loss": 1.0})
    second.close("done")
    assert curve(client, "loss") == [(4, 2.0), (8, 1.0)]


def test_the_whole_recipe_study_and_arm_stand_with_the_run(client, tmp_path):
    opened(tmp_path, study="losses", arm="loss=l2").close("done")
    run = stored(client)
    assert run.data.params["loss.use"] == "l2" and len(run.data.params) == 153
    assert (run.data.tags["genkit.study"], run.data.tags["genkit.arm"]) == ("losses", "loss=l2")
    assert run.info.run_name == "loss=l2, seed 3"


@pytest.mark.parametrize(("outcome", "status"), [("done", "FINISHED"), ("diverged", "FAILED"), ("failed", "FAILED")])
def test_it_is_told_how_the_run_ended(client, tmp_path, outcome, status):
    opened(tmp_path).close(outcome)
    assert stored(client).info.status == status


def test_it_is_a_lawful_tracker(client):
    laws.check(genkit.component("tracker", "mlflow"))


def test_without_the_client_a_line_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(PluginError, match="mlflow: is not installed; python -m pip install mlflow-skinny"):
        opened(tmp_path)
