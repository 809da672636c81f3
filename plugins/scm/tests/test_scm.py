"""sCM against the paper's formulas, closed forms on Gaussian data, and central differences."""

import json
import math
import shutil
from pathlib import Path

import attrs
import pytest
import torch

import genkit
from genkit import levels
from genkit.denoiser import Denoiser
from genkit.kernel import identity
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import expand
from genkit.training import checkpoint
from genkit_scm.objective import LogWeight, tangent

SPEC = genkit.Spec(channels=3, height=4, width=4)
CONTEXT = genkit.Context(spec=SPEC, total_steps=100)
D = SPEC.sigma_data
RAW = {"normalise": "none", "adaptive": False, "warmup_steps": 0}


def scm(context=CONTEXT, **settings):
    return genkit.build(genkit.component("objective", "scm", **{"network": "mlp", **settings}), context)


def scalings(name, context=CONTEXT):
    return genkit.build(genkit.component("parameterization", name), context)


class At:
    """A law that has one level only."""

    def __init__(self, sigma):
        self.sigma = torch.tensor(float(sigma), dtype=torch.float64)

    def icdf(self, u):
        return self.sigma.expand(len(u))


def with_network(program, network):
    program.student.network = program.student._call = network
    return program


def pictures(n, spec=SPEC, seed=0):
    return torch.randn(n, *spec.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * D


def awake(program, seed=0):
    """A program in float64 with weights everywhere, that trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in program.student.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)
    return program.double().train()


# ---- scalings --------------------------------------------------------------------------------------


def test_trigflow_is_edms_preconditioning_with_the_sign_of_f_turned():
    sigma = torch.logspace(-3, 3, 61, dtype=torch.float64)
    mine, edm = scalings("trigflow")(sigma), scalings("edm")(sigma)
    for a, b in zip(mine[:3], (edm.c_skip, -edm.c_out, edm.c_in), strict=True):
        assert torch.allclose(a, b, rtol=3e-16, atol=0)


def test_trigflow_is_the_papers_in_its_own_terms():
    t = torch.linspace(1e-3, math.pi / 2 - 1e-3, 50, dtype=torch.float64)
    made = scalings("trigflow")(D * t.tan())
    cos, sin = t.cos(), t.sin()  # f = cos t x_t - D sin t F(x_t / D, t), x_t = cos t x
    for a, b in zip(made, (cos * cos, -D * sin, cos / D, t), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=0)


def test_times_keep_their_digits_whatever_the_precision():
    sigma = torch.tensor([0.002, 0.0020001, 80.0, 800.0])
    with torch.autocast("cpu", torch.bfloat16):
        found = [scalings("trigflow")(sigma).c_noise, scalings("trigflow")(sigma.bfloat16()).c_noise]
    assert [c.dtype for c in found] == [torch.float32] * 2
    assert torch.allclose(found[0].double(), (sigma.double() / D).atan(), rtol=1e-6, atol=0)


# ---- closed forms: data N(0, s^2) ------------------------------------------------------------------


class Exact(torch.nn.Module):
    """F of the exact consistency function of N(0, s^2): (y / sin t)(cos t - s / sqrt(v)), y = x_t / D, times `off`."""

    def __init__(self, s, off=1.0):
        super().__init__()
        self.s, self.off = s, torch.nn.Parameter(torch.tensor(off, dtype=torch.float64))

    def forward(self, y, t, cond):
        cos, sin = expand(t.cos(), y), expand(t.sin(), y)
        root = ((self.s * cos).square() + (D * sin).square()).sqrt()
        return self.off * y / sin * (cos - self.s / root)


def marginal(s):
    """Where the slope of the exact path points: E[x0 | x] = x s^2 / (s^2 + sigma^2)."""
    return lambda x_t, t, r, x0, eps, cond: x_t * expand(s * s / (s * s + t * t), x_t)


def test_the_exact_f_where_the_data_have_sigma_data_is_minus_tan_of_half_t():
    t = torch.linspace(0.01, 1.56, 40, dtype=torch.float64)
    y = pictures(40)
    assert torch.allclose(Exact(D)(y, t, {}), -expand((t / 2).tan(), y) * y, rtol=1e-10)
    f = Denoiser(Exact(D), scalings("trigflow"))
    sigma = D * t.tan()
    assert torch.allclose(f(y, sigma), y * expand(D / (D * D + sigma**2).sqrt(), y), rtol=1e-10)


def test_at_level_0_f_is_the_identity():
    network = genkit.build(genkit.component("network", "mlp"), CONTEXT)
    torch.nn.init.normal_(network.last.weight)
    x = torch.randn(4, *SPEC.shape)
    assert torch.equal(Denoiser(network, scalings("trigflow"))(x, torch.zeros(4)), x)


@pytest.mark.parametrize("s", [0.5, 0.2, 1.3])
@pytest.mark.parametrize("warmup", [0, 10_000])
def test_along_the_exact_path_the_exact_f_has_no_tangent_but_while_warming_up(s, warmup):
    program = with_network(scm(**{**RAW, "warmup_steps": warmup}), Exact(s))
    program.path = marginal(s)
    values = program(Batch(pictures(50) * s / D, {}), 5000, Key(0, 5000)).values
    assert (values.max() < 1e-20) == (warmup == 0)
    program.student.network.off.data *= 1.01
    assert program(Batch(pictures(50) * s / D, {}), 10_000, Key(0, 5000)).values.min() > 1e-9


@pytest.mark.parametrize(("off", "zero"), [(1.0, True), (1.1, False)])
def test_along_the_noise_of_the_data_the_exact_f_has_no_tangent_in_the_mean_at_a_place(off, zero):
    """E[g z] = 0, z = x_t, where g alone is far from 0. At t = 0.9, with s = 0.3."""
    s, n = 0.3, 40_000
    t = torch.full((n,), 0.9, dtype=torch.float64)
    sigma = D * t.tan()
    x0, eps = pictures(n) * s / D, pictures(n, seed=1) / D
    x = levels.add_noise(x0, sigma, eps)
    f = Denoiser(Exact(s, off), scalings("trigflow"))
    value, slope = genkit.denoiser.jvp(f, (x, sigma), (x - x0, sigma))
    products = (tangent(value, slope, x0, sigma, D) * x * t.cos()[0]).flatten().detach()
    error = products.std() / math.sqrt(len(products))
    assert (products.mean().abs() < 5 * error) == zero and products.std() > 100 * error


# ---- the tangent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.0, 0.3, 1.0])
def test_the_tangent_is_the_papers_formula(r):
    """-cos^2 t (D F - v) - r (cos t sin t x_t + D cos t sin t dF/dt), F = tanh(y) sin(3 t)."""
    t = torch.linspace(0.01, 1.55, 30, dtype=torch.float64)
    sigma, x0, z = D * t.tan(), pictures(30), pictures(30, seed=1)
    cos, sin = expand(t.cos(), x0), expand(t.sin(), x0)
    x_t, v = cos * x0 + sin * z, cos * z - sin * x0
    y, rate = (x_t / D).tanh(), expand((3 * t).sin(), x0)
    dF = (1 - y * y) * v / D * rate + y * expand(3 * (3 * t).cos(), x0)
    paper = -cos * cos * (D * y * rate - v) - r * (cos * sin * x_t + D * cos * sin * dF)

    class Known(torch.nn.Module):
        def forward(self, y, t, cond):
            return y.tanh() * expand((3 * t).sin(), y)

    f = Denoiser(Known(), scalings("trigflow"))
    value, slope = genkit.denoiser.jvp(f, (x_t / cos, sigma), (x_t / cos - x0, sigma))
    assert torch.allclose(tangent(value, slope, x0, sigma, D, r), paper, rtol=1e-8, atol=1e-10)


SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [2], "dropout": 0.4}
NETWORKS = ["unet", "ncsnpp", "ddpmpp", "adm"]


@pytest.mark.parametrize("parameterization", ["trigflow", "edm", "boundary"])
@pytest.mark.parametrize("name", NETWORKS)
def test_through_attention_and_dropout_it_is_the_central_difference_with_the_masks_of_a_plain_call(
    name, parameterization
):
    """So is the gradient: -2 g dF/dtheta of a plain call under the same key, said in terms of f."""
    program = awake(scm(**RAW, network={"use": name, **SMALL}, parameterization=parameterization))
    key, x0, h = Key(0, 3), pictures(4), 1e-6
    sigma = program.noise.icdf(key.uniform("level", 4))
    x = levels.add_noise(x0, sigma, key.normal("eps", x0))

    def f(step):
        with key.reseeded("cpu"):
            return program.student(x + step * (x - x0), sigma * (1 + step))

    t = expand((sigma / D).atan(), x0)
    g = ((f(h) - f(-h)) / (2 * h) / t.sin()).detach()
    values = program(Batch(x0, {}), 3, key).values
    assert values.tolist() == pytest.approx(g.square().flatten(1).mean(1).tolist(), rel=1e-5)
    wanted = torch.autograd.grad((2 * g * f(0) / (D * t.sin())).flatten(1).mean(1).mean(), [*program.parameters()])
    found = torch.autograd.grad(values.mean(), [*program.parameters()])
    largest = max(gradient.abs().max() for gradient in wanted)
    assert all((a - b).abs().max() < 1e-5 * largest for a, b in zip(found, wanted, strict=True))


def test_pairs_of_close_levels_have_the_same_gradient_over_their_gap():
    """Of |f_t - f_r|^2, per (t - r), times sigma / (D sin^2 t), which is the prior weighting."""
    sigma, gap, key, x0 = 0.7, 1e-5, Key(0, 3), pictures(6)

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64))

        def forward(self, y, t, cond):
            a, b, c = self.weights
            return (a + b * expand(t, y)) * y + c

    def gradient(program):
        with_network(program, Linear())(Batch(x0, {}), 0, key).values.mean().backward()
        return program.student.network.weights.grad

    continuous = scm(**RAW)
    continuous.noise = At(sigma)
    slots = {"network": "mlp", "parameterization": "trigflow", "loss": "l2", "weighting": "uniform"}
    discrete = genkit.build(genkit.component("objective", "consistency", **slots), CONTEXT)
    t = torch.full((6,), sigma, dtype=torch.float64)
    discrete.pairs = lambda noise, n, draw: (t, t - gap, torch.full_like(t, gap))
    sine = sigma**2 / (sigma**2 + D**2)
    limit = gradient(discrete) / gap * sigma / (D * sine)
    assert torch.allclose(gradient(continuous), limit, rtol=1e-3)


# ---- norms, warm-up, levels --------------------------------------------------------------------------


def test_the_norm_and_the_root_mean_square_are_divided_by_with_the_same_c_and_differ():
    key, x0 = Key(0, 3), pictures(5)

    def values(how, c=0.1):
        return scm(**{**RAW, "normalise": how, "c": c}).double()(Batch(x0, {}), 3, key).values

    found = {how: values(how) for how in ("none", "norm", "rms")}
    rms = found["none"].sqrt()  # F is 0 at the start
    norm = rms * math.sqrt(SPEC.size)
    assert torch.allclose(found["norm"], (norm / (norm + 0.1)).square())
    assert torch.allclose(found["rms"], (rms / (rms + 0.1)).square())
    assert torch.allclose(values("norm", 0.1 * math.sqrt(SPEC.size)), found["rms"])
    assert not torch.allclose(found["norm"], found["rms"], rtol=0.01)


def test_the_derivative_comes_in_over_a_tenth_of_the_training_or_10000_steps():
    def warmup(total, **settings):
        return scm(attrs.evolve(CONTEXT, total_steps=total), **settings).warmup

    assert [warmup(n) for n in (0, 100, 400_000)] == [10_000, 10, 10_000] and warmup(100, warmup_steps=7) == 7
    program, batch = awake(scm(**{**RAW, "warmup_steps": 10})), Batch(pictures(5), {})
    at = {k: program(batch, k, Key(0, 3)).figures["tangent"].item() for k in (0, 5, 10, 11)}
    assert at[10] == at[11] and len({at[0], at[5], at[10]}) == 3


def test_levels_are_those_of_the_law_but_for_the_last_ones():
    asked = []
    program = scm()
    program.path = lambda x_t, t, r, x0, eps, cond: asked.append((t, r)) or x0
    u = Key(0, 3).uniform("level", 5)
    program(Batch(pictures(5).float(), {}), 3, Key(0, 3))
    assert asked[0][0].dtype == torch.float32 and not asked[0][1].any()
    assert torch.allclose(asked[0][0].double().log(), -1 + 1.4 * math.sqrt(2) * torch.erfinv(2 * u - 1), rtol=1e-5)
    program.noise = At(1e9)
    values = program.double()(Batch(pictures(5), {}), 3, Key(0, 3)).values
    assert values.isfinite().all() and asked[1][0].max() == pytest.approx(D * 1e4, rel=1e-6)


def test_under_bf16_the_tangent_is_that_of_float32_to_some_per_cent():
    network = {"use": "ddpmpp", **SMALL, "dropout": 0.0}
    program, batch = awake(scm(**RAW, network=network)).float(), Batch(pictures(32).float(), {})
    exact = program(batch, 3, Key(0, 3)).figures["tangent"]
    with torch.autocast("cpu", torch.bfloat16):
        coarse = program(batch, 3, Key(0, 3))
    assert coarse.values.dtype == torch.float32
    assert coarse.figures["tangent"].item() == pytest.approx(exact.item(), rel=0.03)


# ---- w ---------------------------------------------------------------------------------------------


def test_w_comes_to_undo_what_the_levels_differ_by():
    """With squares e^(3 cos(pi u)), w = -3 cos(pi u) is best, where every level's loss is 1 - w."""
    weight = LogWeight()
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    square = (3 * (math.pi * u).cos()).exp().float()
    adam = torch.optim.Adam(weight.parameters(), 0.05)
    assert not weight(u).any()
    for _ in range(400):
        adam.zero_grad()
        (weight(u).exp() * square - weight(u)).mean().backward()
        adam.step()
    assert torch.allclose(weight(u).exp() * square, torch.ones(200), atol=0.05)


def test_w_is_a_parameter_of_the_program_and_can_be_left_out():
    program, batch = scm(), Batch(pictures(5).float(), {})
    square = program(batch, 3, Key(0, 3)).values
    program.weight.coefficients.data[0] = 2.0
    assert torch.allclose(program(batch, 3, Key(0, 3)).values, math.exp(2) * square - 2, rtol=1e-5)
    assert "weight.coefficients" in {name for name, _ in program.groups()["student"]}
    assert not [name for name, _ in scm(adaptive=False).named_parameters() if name.startswith("weight")]


# ---- distillation ------------------------------------------------------------------------------------


class ByLabel(torch.nn.Module):
    """F = a of the label, times x."""

    def forward(self, x, c_noise, cond):
        return expand(torch.tensor([0.2, 0.5, -0.4], dtype=x.dtype)[cond["label"]], x) * x


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_distillation_follows_the_diffusion_model_with_guidance_if_asked(scale):
    """v = D F of the teacher; a student that is the teacher has -r (cos t sin t x_t + ...) alone, 0 at r = 0."""
    context = attrs.evolve(CONTEXT, spec=attrs.evolve(SPEC, classes=2))
    teacher = Denoiser(ByLabel(), scalings("edm"), context.spec)
    path = {"use": "ode", "solver": "euler", "guidance_scale": scale, "model": {"from": "there"}}
    settings = {**RAW, "parameterization": "edm", "path": path, "warmup_steps": 1}
    program = with_network(scm(attrs.evolve(context, load=lambda source: teacher), **settings), ByLabel())
    labels = torch.tensor([0, 1, 2, 1, 0])
    values = program(Batch(pictures(5), {"label": labels}), 0, Key(0, 3)).values
    assert (values > 1e-6).tolist() == [scale != 1 and label != 2 for label in labels.tolist()]
    shift = torch.tensor([0.2, 0.5, -0.4], dtype=torch.float64) + 0.4  # of label and none, at scale - 1
    sigma = program.noise.icdf(Key(0, 3).uniform("level", 5))
    x = levels.add_noise(pictures(5), sigma, Key(0, 3).normal("eps", pictures(5)))
    cosine = D / (D * D + sigma**2).sqrt()
    v = D * (scale - 1) * expand(shift[labels] * cosine / D, x) * x
    exact = (expand(cosine**2, x) * v).square().flatten(1).mean(1)
    assert torch.allclose(values, exact, rtol=1e-6, atol=1e-12)


def test_a_diffusion_model_that_was_trained_is_distilled_by_the_command_line(call, tiny):
    few = [*tiny, "metrics.pr=false", "evaluate.samples=100"]
    call("run", "edm_digits", *few, "evaluate.steps=[2]")
    told, _ = call("run", "scd_digits", *few, "--out", "scd", "--json")
    assert {"fd.fd@1", "fd.fd@2"} <= json.loads(told)["figures"].keys()
    newest, _ = checkpoint.latest(Path("scd/checkpoints"))
    saved = {name.split("/")[1].split(".")[0] for name in checkpoint.load(newest)[0] if name.startswith("program/")}
    assert saved == {"student", "weight"}  # not the diffusion model
    call("sample", "scd", "--steps", "2", "--count", "4", "--out", "two.png")


# ---- swaps, micro-batches, resuming ------------------------------------------------------------------


def test_a_swap_of_the_objective_keeps_network_and_noise_law_and_says_what_is_left_out():
    ict, swapped = genkit.load_recipe("ict_digits"), genkit.load_recipe("ict_digits", swaps=["objective=scm"])
    assert swapped.objective.network == ict.objective.network and swapped.objective.noise == ict.objective.noise
    assert identity.identity(ict, "data") != identity.identity(swapped, "data")
    left_out = {f"objective scm has no [{name}]: the table is left out" for name in ("curriculum", "loss", "teacher")}
    assert left_out <= set(swapped.notices)


def test_a_swap_in_distillation_keeps_the_diffusion_model():
    distilled = genkit.load_recipe("cd_digits", swaps=["objective=scm"])
    assert distilled.objective.path == genkit.load_recipe("cd_digits").objective.path


@pytest.mark.parametrize("part", [1, 2, 4])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    program = awake(scm())
    batch = Batch(pictures(8), {})
    program(batch, 3, Key(0, 3)).values.mean().backward()
    whole = {name: p.grad.clone() for name, p in program.named_parameters()}
    program.zero_grad()
    for micro, start in enumerate(range(0, 8, part)):
        key = Key(0, 3).part(micro, start, start + part, 8)
        (program(batch.rows(start, start + part), 3, key).values.sum() / 8).backward()
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (dict(program.named_parameters())[name].grad - gradient).abs().max() < 1e-6 * largest, name


def test_a_run_that_goes_on_from_its_middle_ends_with_the_same_bits(tmp_path):
    small = ["network.model_channels=4", "network.num_blocks=1", "network.dropout=0.2", "train.batch_size=8"]
    few = ["train.steps=12", "train.save_every_steps=6", "evaluate.samples=20", "train.sample_every_steps=0"]
    recipe = genkit.load_recipe("sct_digits", [*small, *few, "metrics.pr=false", "metrics.fd=false"])
    folder = genkit.run(recipe, tmp_path / "run").folder
    whole, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    assert whole["program/weight.coefficients"].any()
    shutil.rmtree(folder / "checkpoints" / "step-0000012")
    genkit.run(recipe, folder)
    again, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    assert whole.keys() == again.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
