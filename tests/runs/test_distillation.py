"""The story of a diffusion model that is trained, sampled and distilled; the recipes that tell it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import genkit
from genkit import cli
from genkit.data import hdf5
from genkit.errors import DataError, RecipeError
from genkit.kernel.loading import load_recipe
from genkit.runs import models, store
from genkit.training import checkpoint

FEW = ["metrics.pr=false", "evaluate.samples=100"]


def call(*argv):
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in argv])
    return left.value.code


def names(run):
    newest, _ = checkpoint.latest(run.folder / "checkpoints")
    return set(checkpoint.load(newest)[0])


def test_a_diffusion_model_is_trained_sampled_and_distilled(tiny, capsys):
    edm = genkit.run(load_recipe("edm_digits", [*tiny, *FEW, "evaluate.steps=[3]"]))
    assert edm.figures["fd.fd@3"] > 0 and edm.evaluation["steps"]["3"]["nfe"] == 5
    assert (edm.folder / "samples" / "final-steps3.png").is_file() and (edm.folder / "report.html").is_file()
    assert (
        call("sample", edm.folder, "--steps", "18", "--count", "4", "--out", "a.png") == 0 and Path("a.png").is_file()
    )
    assert call("sample", edm.folder, "--steps", "5,0.5", "--count", "4", "--out", "b.png") == 0
    assert call("sample", edm.folder, "--steps", "0") == 2 and "make no sample" in capsys.readouterr().err
    assert call("sample", edm.folder, "--steps", "0.5,5") == 2
    assert call("evaluate", edm.folder, "--steps", "2", "--samples", "64") == 0

    recipe = load_recipe("cd_digits", [*tiny, *FEW])
    start = torch.cat([p.flatten() for p in genkit.load(edm.folder).parameters()])
    cd = genkit.run(recipe)
    assert {"fd.fd@1", "fd.fd@2"} <= cd.figures.keys()
    moved = torch.cat([p.flatten() for p in genkit.load(cd.folder).parameters()]) - start
    assert 0 < moved.norm() < 0.5 * start.norm()  # it started from the diffusion model's weights
    of_program = {name.split("/")[1].split(".")[0] for name in names(cd) if name.startswith("program/")}
    assert of_program == {"student", "owned"}  # student and averaged teacher; the diffusion model is not saved

    with pytest.raises(RecipeError, match="predicts consistency, and an ODE is followed"):
        genkit.run(load_recipe("cd_digits", [*tiny, *FEW, f"path.model.from={cd.folder.resolve()}"]))
    other = load_recipe("cd_digits", [*tiny, *FEW, "path.solver=euler"])
    assert genkit.run(other, "euler").id != cd.id

    edm.folder.rename("elsewhere")  # to be sampled, a distilled model needs no other
    assert genkit.sample(genkit.load(cd.folder), 2).shape == (2, 1, 8, 8)


def test_distillation_without_its_model_says_how_to_make_it(tiny):
    with pytest.raises(DataError, match="recipe:edm_digits: has no finished run here; make it: genkit run edm_digits"):
        genkit.run(load_recipe("cd_digits", tiny))
    assert not Path("runs").exists() and not store.runs()


def test_a_loaded_model_knows_its_objective(tiny):
    run = genkit.run(load_recipe("edm_digits", [*tiny, "metrics.fd=false", "metrics.pr=false", "train.steps=1"]))
    assert models.load(run.folder).objective == load_recipe("edm_digits", tiny).objective


SHRUNK = {
    "cifar10": ["network.model_channels=8", "network.channel_mult=[1,1]", "network.attn_resolutions=[16]"],
    "imagenet64": ["network.model_channels=8", "network.channel_mult=[1,1]", "network.attn_resolutions=[32]"],
}
TWO_STEPS = ["network.num_blocks=1", "train.steps=2", "train.batch_size=4", "train.sample_every_steps=0"]


@pytest.mark.parametrize(("data", "size"), [("cifar10", 32), ("imagenet64", 64)])
def test_the_papers_recipes_take_two_steps_on_random_pictures(data, size, tmp_path):
    """With stand-ins for what is downloaded: the pictures, LPIPS and the features of FID."""
    random = np.random.RandomState(0)
    arrays = {"train/images": random.randint(0, 256, (8, 3, size, size)).astype(np.uint8), "train/labels": range(8)}
    hdf5.write(tmp_path / "random.h5", {name: np.asarray(array) for name, array in arrays.items()}, {})
    labels = str(data == "imagenet64").lower()
    small = [f"dataset={{use='hdf5', path='random.h5', labels={labels}}}", *SHRUNK[data], *TWO_STEPS]
    small += ["metrics.fid=false", "evaluate.steps=[1]"]
    edm = load_recipe(f"edm_{data}", small)
    cd = load_recipe(f"cd_{data}", [*small, "loss=l2"])
    assert edm.objective.network.dropout > 0 == cd.objective.network.dropout
    assert genkit.run(edm).folder.is_dir() and genkit.run(cd).folder.is_dir()


@pytest.mark.parametrize(("name", "levels", "mu"), [("cd_cifar10", 18, 0), ("cd_imagenet64", 40, 0.95)])
def test_the_papers_recipes_of_distillation_have_its_numbers(name, levels, mu):
    objective = load_recipe(name, ["metrics.fid=false", "loss=l2"]).objective
    assert {objective.curriculum(k, 600_000) for k in (0, 599_999)} == {levels}
    assert (objective.teacher.mu(levels - 1) if mu else 0) == pytest.approx(mu)
    assert (objective.path.solver, objective.path.guidance_scale) == ("heun", 1.0)
    grid = genkit.Levels().sigmas(levels)
    assert (grid - objective.sampler.levels[0]).abs().min() < 5e-4  # two steps: the second from one of the levels
