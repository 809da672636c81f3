"""The recipes of the papers: their numbers, and that two steps of each run."""

import functools
import math

import attrs
import numpy as np
import pytest
import torch

import genkit
from genkit.data import hdf5
from genkit.kernel.loading import load_recipe
from genkit.kinds import Context, Spec
from genkit_images.augment import TRANSFORMS

CIFAR, IMAGENET = Spec(channels=3, height=32, width=32), Spec(channels=3, height=64, width=64, classes=1000)
# spec, weights in millions, steps, batch, rate, decay, dropout, N at the end, level of two steps
PAPERS = {
    "ict_cifar10": (CIFAR, 56.4, 400_000, 1024, 1e-4, 0.99993, 0.3, 1281, 0.821),
    "ict_deep_cifar10": (CIFAR, 97.6, 400_000, 1024, 1e-4, 0.99993, 0.3, 1281, 0.821),
    "ict_imagenet64": (IMAGENET, 282.2, 800_000, 4096, 1e-4, 0.99997, 0.2, 1281, 1.526),
    "ict_deep_imagenet64": (IMAGENET, 472.8, 800_000, 4096, 1e-4, 0.99997, 0.2, 1281, 1.526),
    "ct_cifar10": (CIFAR, 56.4, 800_000, 512, 4e-4, 0.9999, 0.0, 151, 0.821),
    "ct_imagenet64": (IMAGENET, 295.9, 800_000, 2048, 1e-4, 0.999943, 0.0, 201, 1.913),
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_has_the_numbers_of_its_paper(name):
    spec, millions, steps, batch, rate, decay, dropout, points, level = PAPERS[name]
    recipe = load_recipe(name)
    objective = recipe.objective
    context = Context(spec=spec, device="meta", total_steps=steps)
    network = genkit.build(objective.network, context)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert (recipe.train.steps, recipe.train.batch_size) == (steps, batch)
    assert (recipe.optimizer.lr, recipe.optimizer.decay, recipe.ema.decay) == (rate, "constant", decay)
    plain = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "clip": None, "warmup_steps": 0}
    assert recipe.optimizer == genkit.component("optimizer", "radam", lr=rate, **plain)
    assert objective.network.dropout == dropout
    assert objective.curriculum(steps - 1, steps) == points and objective.sampler.levels == (level,)
    assert (recipe.evaluate.count, recipe.evaluate.steps) == (50_000, (1, 2))
    assert recipe.evaluate.protocol.shape == spec.shape
    if name.startswith("ict"):
        c = 0.00054 * math.sqrt(spec.size)
        x, y = torch.zeros(2, 1, *spec.shape, dtype=torch.float64)
        y[0, 0, 0, 0] = c
        distance = genkit.build(objective.loss, Context(spec=spec))(x, y).item()
        assert distance == pytest.approx(c * (math.sqrt(2) - 1)) and objective.curriculum(0, steps) == 11
        assert (objective.noise.p_mean, objective.noise.p_std) == (-1.1, 2.0)
        assert not objective.network.scale_shift_norm and objective.network.positional_scale == 1
    else:
        assert objective.curriculum(0, steps) == 2
        assert objective.teacher.mu(2) == pytest.approx({"ct_cifar10": 0.9, "ct_imagenet64": 0.95}[name])


def test_the_networks_that_embed_by_frequencies_have_the_scale_of_their_paper():
    scales = {name: load_recipe(name).objective.network.fourier_scale for name in ("ict_cifar10", "ct_cifar10")}
    assert scales == {"ict_cifar10": 0.02, "ct_cifar10": 16.0}


def test_the_adm_of_ict_drops_features_at_16_pixels_and_below_only():
    network = genkit.build(load_recipe("ict_imagenet64").objective.network, Context(spec=IMAGENET, device="meta"))
    dropping = {stage.block.dropout for stage in [*network.encoder[:7]]}, network.encoder[-1].block.dropout
    assert dropping == ({0.0}, 0.2)


def test_ect_has_the_numbers_of_its_paper():
    recipe = load_recipe("ect_cifar10")
    objective, steps = recipe.objective, recipe.train.steps
    network = genkit.build(objective.network, Context(spec=CIFAR, device="meta"))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(55.7, abs=0.06)
    assert (steps, recipe.train.batch_size, recipe.train.precision) == (200_000, 128, "float32")
    assert recipe.optimizer == genkit.component("optimizer", "radam", lr=1e-4) and recipe.ema.decay == 0.9999
    assert objective.network.dropout == 0.2 and not recipe.dataset.flip and objective.sampler.levels == (0.821,)
    assert [objective.curriculum(k, steps) - 1 for k in range(0, steps, 25_000)] == [2**i for i in range(1, 9)]
    assert objective.pairs == genkit.component("pairs", "ect", k=8.0, b=1.0)
    assert objective.noise == genkit.component("noise", "lognormal", p_mean=-1.1, p_std=2.0)
    assert objective.loss.c == 0 and objective.weighting == genkit.component("weighting", "inverse-step")
    assert objective.parameterization == genkit.component("parameterization", "edm")


def test_ect_on_imagenet_has_the_numbers_of_its_code():
    recipe = load_recipe("ect_imagenet64")
    objective, steps = recipe.objective, recipe.train.steps
    assert (steps, recipe.train.batch_size, recipe.train.precision) == (100_000, 128, "float32")
    rate = {"lr": 1e-3, "beta2": 0.99, "decay": "inverse-sqrt", "decay_steps": 2000}
    assert recipe.optimizer == genkit.component("optimizer", "adam", **rate) and recipe.ema.decay == 0.9999
    assert [objective.curriculum(k, steps) - 1 for k in range(0, steps, 25_000)] == [4, 16, 64, 256]
    assert (objective.noise.p_mean, objective.noise.p_std, objective.loss.c) == (-0.8, 1.6, 0.06)
    assert objective.weighting == genkit.component("weighting", "edm") and objective.sampler.levels == (1.526,)
    assert objective.network == genkit.component("network", "adm", dropout=0.4, dropout_max_resolution=16)


# first stage: batch, N - 1 by stage, and how long one is; second stage: weighting, N - 1, c, rate
TCM = {
    "cifar10": (512, [*(2**i for i in range(1, 10)), 1000], 25_000, "inverse-step", 1000, 1e-8, 5e-5),
    "imagenet64": (2048, [4, 16, 64, 256, 256], 10_000, "edm", 256, 0.06, 5e-4),
}


@pytest.mark.parametrize("data", TCM)
def test_tcm_has_the_numbers_of_its_code(data):
    batch, stages, length, weighting, finest, c, rate = TCM[data]
    first, second = load_recipe(f"tcm_stage1_{data}"), load_recipe(f"tcm_{data}")
    n = [first.objective.curriculum(i * length, first.train.steps) - 1 for i in range(len(stages))]
    assert (first.train.batch_size, n) == (batch, stages)
    assert first.objective.pairs == genkit.component("pairs", "truncated")
    objective, steps = second.objective, second.train.steps
    assert objective.pairs == genkit.component("pairs", "truncated", low=1.0, boundary=0.25)
    assert objective.noise == genkit.component("noise", "student-t", df=0.01, loc=0.0, scale=0.2)
    assert objective.weighting == genkit.component(
        "weighting", "boundary", level=1.0, share=0.25, weight=0.1, weighting=weighting
    )
    assert {objective.curriculum(k, steps) - 1 for k in (0, steps - 1)} == {finest}
    assert {recipe.objective.loss.c for recipe in (first, second)} == {c}
    assert (second.optimizer.lr, second.train.batch_size, second.init.origin) == (rate, 1024, "")
    assert first.objective.network == objective.network.network and objective.network.level == 1.0
    assert objective.network.model.origin == f"recipe:{first.name}"


def test_mean_flow_has_the_numbers_of_its_published_code():
    recipe = load_recipe("meanflow_cifar10")
    objective, law = recipe.objective, functools.partial(genkit.component, "noise", "lognormal", p_std=1.6)
    network = genkit.build(objective.network, Context(spec=CIFAR, device="meta", times=2))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(55.93, abs=0.01)
    assert network.conditioning.inner.in_features == 2 * 2 * 128 and objective.network.dropout == 0.2
    assert (recipe.train.steps, recipe.train.batch_size, recipe.train.precision) == (800_000, 1024, "float32")
    assert recipe.optimizer == genkit.component("optimizer", "adam", lr=6e-4, warmup_steps=9766)
    assert recipe.ema.decay == 0.9999 and objective.loss == genkit.component("loss", "adaptive", p=0.75, eps=1e-3)
    assert (objective.noise, objective.noise_r) == (law(p_mean=-0.6), law(p_mean=-4.0))
    assert (objective.ratio, objective.order, objective.omega, objective.kappa) == (0.75, "equal", 1, 0)
    ways = {"y-flip", "rotation"} ^ set(TRANSFORMS)
    assert (recipe.dataset.augment, set(recipe.dataset.augment_by), recipe.dataset.flip) == (0.12, ways, True)


def test_vct_has_the_numbers_of_its_published_code():
    recipe = load_recipe("vct_cifar10")
    objective = recipe.objective
    encoder = {"model_channels": 32, "num_blocks": 1, "dropout": 0.3}
    assert objective.network == genkit.component("network", "ddpmpp", dropout=0.3)
    assert objective.coupling == genkit.component(
        "coupling", "variational", network={"use": "ddpmpp", **encoder}, kl=30.0
    )
    assert (
        recipe.optimizer == genkit.component("optimizer", "radam", lr=1e-4, clip=200.0) and recipe.ema.decay == 0.9999
    )
    assert (recipe.train.steps, recipe.train.precision, recipe.dataset.flip) == (400_000, "float32", True)


def test_edm_with_augmentation_has_the_numbers_of_its_paper():
    recipe, plain = load_recipe("edm_augmented_cifar10"), load_recipe("edm_ddpmpp_cifar10")
    assert (recipe.dataset.augment, recipe.dataset.flip, len(recipe.dataset.augment_by)) == (0.12, False, 6)
    assert recipe.objective == plain.objective and recipe.train == plain.train


@pytest.mark.parametrize(
    ("name", "points", "batch", "decay"),
    [("ctm_cifar10", 18, 256, 0.9999), ("ctm_imagenet64", 40, 1440, 0.9999432189950708)],
)
def test_ctm_has_the_numbers_of_its_published_code(name, points, batch, decay):
    recipe = load_recipe(name)
    objective = recipe.objective
    assert (objective.points, objective.solver_steps, objective.power) == (points, None, 1)
    assert objective.teacher == genkit.component("teacher", "ema", mode="fixed", mu0=0.999)
    assert objective.loss == genkit.component("loss", "lpips", resize=224) and objective.network.dropout == 0
    assert objective.path.solver == "heun" and objective.noise == genkit.component(
        "noise", "lognormal", p_mean=-1.2, p_std=1.2
    )
    assert recipe.optimizer == genkit.component("optimizer", "radam", lr=4e-4)
    assert (recipe.train.batch_size, recipe.ema.decay) == (batch, decay)


def test_imm_has_the_numbers_of_its_paper():
    recipe = load_recipe("imm_cifar10")
    objective, levels = recipe.objective, recipe.levels
    network = genkit.build(objective.network, Context(spec=CIFAR, device="meta", times=2))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(55.8, abs=0.06)
    ends = [sigma / (sigma + CIFAR.sigma_data) for sigma in (levels.sigma_min, levels.sigma_max)]
    assert ends == pytest.approx([0.006, 0.994], rel=1e-5)
    assert (
        objective.curriculum(0, 10) - 1 == 2**15 and objective.group == 4 and objective.parameterization.scale == 1000
    )
    assert objective.weighting == genkit.component("weighting", "imm", a=1.0, b=5.0)
    assert objective.teacher == genkit.component("teacher", "stop-grad") and objective.network.dropout == 0.2
    assert recipe.optimizer == genkit.component("optimizer", "radam", lr=1e-4) and recipe.ema.decay == 0.9999
    assert (recipe.train.steps, recipe.train.batch_size) == (400_000, 4096)


@pytest.mark.parametrize(("name", "dropout"), [("sct_cifar10", 0.2), ("scd_cifar10", 0.0)])
def test_scm_has_the_numbers_of_its_paper(name, dropout):
    recipe = load_recipe(name)
    objective = recipe.objective
    assert objective.network == genkit.component("network", "ddpmpp", dropout=dropout)
    assert (objective.normalise, objective.c, objective.adaptive, objective.warmup_steps) == ("norm", 0.1, True, 10_000)
    assert objective.noise == genkit.component("noise", "lognormal", p_mean=-1.0, p_std=1.4)
    assert recipe.optimizer == genkit.component("optimizer", "radam", lr=1e-4, beta2=0.99)
    assert (recipe.train.batch_size, recipe.train.precision, recipe.ema.halflife_kimg) == (512, "float32", 500)
    assert objective.sampler.levels[0] == pytest.approx(0.5 * math.tan(1.1), abs=5e-4)


@pytest.mark.parametrize(("name", "dropout"), [("sct_imagenet64", 0.45), ("scd_imagenet64", 0.0)])
def test_scm_on_imagenet_has_the_numbers_of_its_paper_but_the_network(name, dropout):
    recipe = load_recipe(name)
    objective = recipe.objective
    assert objective.network == genkit.component("network", "adm", dropout=dropout, dropout_max_resolution=16)
    assert (objective.normalise, objective.c, objective.adaptive, objective.warmup_steps) == ("norm", 0.1, True, 10_000)
    assert objective.noise == genkit.component("noise", "lognormal", p_mean=-1.0, p_std=1.6)
    assert recipe.optimizer == genkit.component("optimizer", "adam", lr=1e-4, beta2=0.99)
    assert (recipe.train.steps, recipe.train.batch_size, recipe.dataset.labels) == (400_000, 2048, True)


SMALL = [
    *("network.model_channels=8", "network.num_blocks=1", "train.steps=2", "train.batch_size=2"),
    *("train.log_every_steps=1", "train.sample_every_steps=0", "evaluate.samples=4", "metrics.fid=false"),
]
OTHERS = dict.fromkeys(
    (
        "edm_augmented_cifar10",
        "ict_cifar10_proxy",
        "ct_cifar10_proxy",
        "meanflow_cifar10",
        "imm_cifar10",
        "vct_cifar10",
    ),
    CIFAR,
)


def small(tmp_path, spec):
    """Settings for two steps of a small network on random pictures."""
    draw = np.random.RandomState(0)
    images = draw.randint(0, 256, (24, *spec.shape)).astype(np.uint8)
    labels = np.arange(24) * max(spec.classes, 1) // 24
    hdf5.write(tmp_path / "data.h5", {"train/images": images, "train/labels": labels}, {})
    settings = [*SMALL, "dataset.use=hdf5", f"dataset.path={tmp_path / 'data.h5'}"]
    return [*settings, "dataset.labels=true"] if spec.classes else settings


def test_two_steps_of_ect_start_from_the_diffusion_model_that_it_names(tmp_path):
    settings = small(tmp_path, CIFAR)
    start = genkit.run(load_recipe("edm_ddpmpp_cifar10", settings), tmp_path / "runs" / "edm_ddpmpp_cifar10-0123456789")
    tuned = load_recipe("ect_cifar10", settings)
    assert tuned.init.origin == "recipe:edm_ddpmpp_cifar10"
    denoiser = genkit.load(
        genkit.run(attrs.evolve(tuned, init=attrs.evolve(tuned.init, origin=str(start.folder)))).folder
    )
    x0 = genkit.sample(denoiser, 2, steps=2, seed=0)
    assert x0.shape == (2, *CIFAR.shape) and x0.isfinite().all()
    before, after = (dict(genkit.load(start.folder).named_parameters()), dict(denoiser.named_parameters()))
    moved = max((after[name] - p).abs().max().item() for name, p in before.items())
    assert before.keys() == after.keys() and 0 < moved < 0.01


def test_two_steps_of_both_stages_of_tcm(tmp_path):
    settings = [*small(tmp_path, CIFAR), "network.dropout=0.2"]
    first = genkit.run(load_recipe("tcm_stage1_cifar10", [*settings, "init.from="])).folder
    inner = [word.replace("network.", "network.network.") for word in settings]
    denoiser = genkit.load(genkit.run(load_recipe("tcm_cifar10", [*inner, f"network.model.from={first}"])).folder)
    assert genkit.sample(denoiser, 2, steps=2, seed=0).isfinite().all()
    below, above = (denoiser.network.get_submodule(name).state_dict() for name in ("below", "above"))
    started = genkit.load(first).network.state_dict()
    assert all(torch.equal(below[name], tensor) for name, tensor in started.items())
    moved = max((above[name] - tensor).abs().max().item() for name, tensor in started.items())
    assert 0 < moved < 0.01


def test_two_steps_of_ctm_follow_the_diffusion_model_that_it_names(tmp_path):
    settings = small(tmp_path, CIFAR)
    made = genkit.run(load_recipe("edm_ddpmpp_cifar10", settings), tmp_path / "runs" / "edm_ddpmpp_cifar10-0123456789")
    tuned = load_recipe("ctm_cifar10", [*settings, "loss.use=l2", "objective.points=3"])
    assert tuned.init.origin == tuned.objective.path.model.origin == "recipe:edm_ddpmpp_cifar10"
    there = [f"init.from={made.folder}", f"path.model.from={made.folder}"]
    tuned = load_recipe("ctm_cifar10", [*settings, "loss.use=l2", "objective.points=3", *there])
    x0 = genkit.sample(genkit.load(genkit.run(tuned).folder), 2, steps=2, seed=0)
    assert x0.shape == (2, *CIFAR.shape) and x0.isfinite().all()


@pytest.mark.parametrize("name", ["sct_cifar10", "scd_cifar10", "sct_imagenet64", "scd_imagenet64"])
def test_two_steps_of_scm_start_from_a_diffusion_model_and_distil_it(tmp_path, name):
    diffusion, spec = ("edm_ddpmpp_cifar10", CIFAR) if "cifar10" in name else ("edm_imagenet64", IMAGENET)
    settings = small(tmp_path, spec)
    start = genkit.run(load_recipe(diffusion, [*settings, "train.precision=float32"]), tmp_path / "start").folder
    settings += [f"path.model.from={start}"] if name.startswith("scd") else []
    denoiser = genkit.load(genkit.run(load_recipe(name, [*settings, f"init.from={start}"])).folder)
    assert genkit.sample(denoiser, 2, steps=2, seed=0).isfinite().all()
    before, after = (dict(genkit.load(start).named_parameters()), dict(denoiser.named_parameters()))
    moved = max((after[name] - p).abs().max().item() for name, p in before.items())
    assert before.keys() == after.keys() and 0 < moved < 0.01


@pytest.mark.parametrize("name", [*PAPERS, *OTHERS])
def test_two_steps_of_a_small_version_run_on_data_of_that_shape(tmp_path, name):
    spec = OTHERS.get(name) or PAPERS[name][0]
    overrides = [*small(tmp_path, spec), *(["train.batch_size=4"] if name.startswith("imm") else [])]
    overrides += ["loss.use=l2"] if "lpips" in str(load_recipe(name).objective).lower() else []
    denoiser = genkit.load(genkit.run(load_recipe(name, overrides=overrides)).folder)
    x0 = genkit.sample(denoiser, 2, steps=2, seed=0)
    assert x0.shape == (2, *spec.shape) and x0.isfinite().all()
