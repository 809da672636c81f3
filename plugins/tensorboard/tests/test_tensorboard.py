"""Claims about the TensorBoard tracker."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import genkit_tensorboard
from genkit.kinds import TrackedRun
from genkit_tensorboard.tracker import TensorBoard

RECIPE = {"name": "tiny", "loss": {"use": "l2"}}


def opened(folder, k=0, **more):
    return TensorBoard().open(TrackedRun(folder=folder, key="abc-1", recipe=RECIPE, k=k, **more))


def read(folder):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def curve(folder, name):
    return [(e.step, e.value) for e in read(folder).Scalars(name)]


def test_figures_come_back_by_name_and_step(tmp_path):
    session = opened(tmp_path)
    session.scalars(0, {"loss": 2.0, "fd": 10.0})
    session.scalars(5, {"loss": 1.0})
    session.close("done")
    assert curve(tmp_path, "loss") == [(0, 2.0), (5, 1.0)]
    assert curve(tmp_path, "fd") == [(0, 10.0)]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_they_were(tmp_path, channels):
    picture = torch.randint(0, 256, (channels, 6, 9), dtype=torch.uint8)
    session = opened(tmp_path)
    session.images(7, "samples", picture)
    session.close("done")
    (event,) = read(tmp_path).Images("samples")
    pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))
    assert event.step == 7
    assert np.array_equal(pixels, picture.expand(3, -1, -1).permute(1, 2, 0).numpy())


def test_resumed_run_hides_the_steps_that_it_takes_again(tmp_path):
    first = opened(tmp_path)
    for k in range(6):
        first.scalars(k, {"loss": 100.0 + k})
    first.close("done")
    second = opened(tmp_path, k=2)
    for k in range(3, 5):
        second.scalars(k, {"loss": 200.0 + k})
    second.close("done")
    assert curve(tmp_path, "loss") == [(0, 100.0), (1, 101.0), (2, 102.0), (3, 203.0), (4, 204.0)]


def test_recipe_stands_beside_the_curves(tmp_path):
    session = opened(tmp_path)
    session.scalars(0, {"loss": 1.0})
    session.close("done")
    (event,) = read(tmp_path).Tensors("recipe/text_summary")
    assert b'"use": "l2"' in event.tensor_proto.string_val[0]


def test_study_and_arm_stand_beside_the_curves(tmp_path):
    opened(tmp_path, study="losses", arm="loss=l2").close("done")
    (event,) = read(tmp_path).Tensors("study/text_summary")
    assert event.tensor_proto.string_val[0] == b"losses: loss=l2"


def test_summary_is_the_first_line_of_the_docstring():
    offer = genkit_tensorboard.genkit_tracker()["tensorboard"]
    assert offer.target == f"{TensorBoard.__module__}:{TensorBoard.__name__}"
    assert offer.summary == TensorBoard.__doc__.splitlines()[0]
