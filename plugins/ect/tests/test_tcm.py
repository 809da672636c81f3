"""TCM's two stages: what is drawn, who answers, and what training must come to.

The numbers of Student's law are scipy's (1.17, `scipy.stats.t`); those of fixed points were computed from the recursion
in decimals of 40 digits.
"""

import copy
import itertools
import math
import shutil
import statistics

import pytest
import torch
from safetensors.torch import save_file

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import GenkitError, RecipeError
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import Levels, expand
from genkit.testing import laws
from genkit.training import checkpoint
from genkit_ect.network import TwoStages

SPEC = genkit.Spec(channels=1, height=1, width=1)
EDM = genkit.build(genkit.component("parameterization", "edm"), genkit.Context(spec=SPEC))


def evenly(count, each=1):
    """Uniform numbers that meet every one of `count` equal parts `each` times."""
    return ((torch.arange(count, dtype=torch.float64) + 0.5) / count).repeat_interleave(each)


# ---- levels --------------------------------------------------------------------------------------


def test_steps_become_no_finer_than_the_largest_ratio():
    points = genkit.component("curriculum", "powers", q=2, stages=12, most=1000)
    assert [points(k, 12) - 1 for k in range(12)] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000]
    assert genkit.component("curriculum", "powers", q=2**20, stages=10**9, most=2**24)(999, 1000) == 2**24 + 1


def paired(n, u, law="lognormal", **settings):
    context = genkit.Context(spec=SPEC)
    law = genkit.build(genkit.component("noise", law), context)
    return genkit.build(genkit.component("pairs", "truncated", **settings), context)(law, n, lambda *i: u)


def test_the_ratio_of_levels_is_that_of_the_paper_and_r_stays_positive():
    t, r, gap = paired(1001, torch.tensor([1 - 1e-9], dtype=torch.float64))
    assert (t.item(), (r / t).item()) == (pytest.approx(80), pytest.approx(0.999))
    t, r, gap = paired(3, torch.tensor([1e-9], dtype=torch.float64))
    assert (t.item(), r.item(), gap.item()) == (pytest.approx(0.002), pytest.approx(1e-6), pytest.approx(0.001999))


def test_levels_keep_within_their_range_as_the_law_has_them_there():
    """Quartiles of ln t ~ N(-1.1, 2^2), given 0.002 <= t <= 80."""
    t = paired(1001, torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64))[0]
    a, *below, b = (statistics.NormalDist(-1.1, 2).cdf(math.log(level)) for level in (0.002, *t.tolist(), 80))
    assert [(p - a) / (b - a) for p in below] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-6)


# Of 1 <= e^(T / 5) <= 80 with T of 0.01 degrees of freedom, the share below.
BELOW = {1.001: 0.008412145114416696, 1.1: 0.3791368586750016, 3.0: 0.7777302260802, 60.0: 0.989161429577}


def test_a_quarter_is_at_the_boundary_and_the_rest_has_students_law():
    t, r, _ = paired(1001, evenly(40_000), "student-t", low=1.0, boundary=0.25)
    assert (t == 1).sum() == 10_000 and (t >= 1).all() and (t <= 80).all()
    assert r[0].item() == pytest.approx(1 - (1 + 8 / (1 + math.e)) / 1000, rel=1e-6)
    rest = t[10_000:]
    assert [(rest < level).double().mean().item() for level in BELOW] == pytest.approx([*BELOW.values()], abs=1e-4)


@pytest.mark.parametrize("df", [0.01, 2.0, 300.0])
def test_students_law_is_scipys(df):
    from scipy import stats

    law = genkit.component("noise", "student-t", df=df, loc=0.3, scale=0.2)
    levels = torch.tensor([0.3, 1.0, 1.3, 1.5, 4.0, 70.0], dtype=torch.float64)
    ends = torch.tensor([math.exp(-79.0), math.exp(79.0)], dtype=torch.float64)
    a, b = law.cdf(ends)
    exact = stats.t.cdf((levels.log() - 0.3) / 0.2, df)
    low, high = stats.t.cdf((ends.log() - 0.3) / 0.2, df)
    assert ((law.cdf(levels) - a) / (b - a)).tolist() == pytest.approx(
        ((exact - low) / (high - low)).tolist(), abs=1e-6
    )
    laws.check(law)


def test_the_loss_is_the_mean_above_plus_a_tenth_of_the_mean_at_the_boundary():
    weigh = genkit.build(genkit.component("weighting", "boundary"), genkit.Context(spec=SPEC))
    t, r, gap = paired(1001, evenly(8), "student-t", low=1.0, boundary=0.25)
    d = torch.arange(1.0, 9.0)
    expected = (d / gap)[2:].mean() + 0.1 * (d / gap)[:2].mean()
    assert (weigh(t, r, gap) * d).mean().item() == pytest.approx(expected.item(), rel=1e-6)


# ---- who answers ---------------------------------------------------------------------------------

CONTEXT = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8), total_steps=8)
UNET = {"use": "unet", "model_channels": 8, "num_blocks": 1, "dropout": 0.3}
TABLES = {
    "parameterization": "edm",
    "pairs": {"use": "truncated", "low": 1.0, "boundary": 0.25},
    "noise": "student-t",
    "curriculum": {"use": "powers", "q": 256, "stages": 1},
    "loss": {"use": "pseudo-huber", "c": 1e-8},
    "weighting": "boundary",
}


def first_stage(context=CONTEXT, **model):
    """A model with weights that nobody else has."""
    objective = genkit.component("objective", "consistency", network=UNET, **{"parameterization": "edm", **model})
    with torch.random.fork_rng():
        torch.manual_seed(7)
        student = genkit.build(objective, context).student
        for p in student.parameters():
            p.data.add_(torch.randn_like(p), alpha=0.1)
    return student


def second_stage(first=None, **tables):
    first = first or first_stage()
    network = {"use": "truncated", "network": UNET, "model": {"from": "there"}}
    objective = genkit.component("objective", "consistency", **{**TABLES, "network": network, **tables})
    return genkit.build(objective, genkit.Context(spec=CONTEXT.spec, total_steps=8, load=lambda source: first))


def test_both_start_as_the_first_stage_and_only_one_is_trained():
    first = first_stage()
    program = second_stage(first)
    x, sigma = torch.randn(6, 1, 8, 8), torch.tensor([0.01, 0.5, 0.999, 1.0, 2.0, 80.0])
    program.eval(), first.eval()
    assert torch.equal(program.student(x, sigma), first(x, sigma))
    names = [name for name, _ in program.groups()["student"]]
    assert len(names) == len([*first.parameters()]) and all(n.startswith("student.network.above.") for n in names)
    with torch.no_grad():
        for _, p in program.groups()["student"]:
            p.add_(0.1)
    same = [torch.equal(a, b) for a, b in zip(program.student(x, sigma), first(x, sigma), strict=True)]
    assert same == [True, True, True, False, False, False]


def test_two_steps_ask_the_trained_network_and_then_the_first_stage():
    student, asked = second_stage().student.eval(), []
    for name in ("above", "below"):
        getattr(student.network, name).register_forward_pre_hook(
            lambda _, given, name=name: asked.append((name, round(math.exp(4 * given[1][0].item()), 3)))
        )
    genkit.sample(student, 3, steps=2)
    assert asked == [("above", 80.0), ("below", 0.821)]


def test_a_batch_on_both_sides_has_the_dropout_masks_of_a_batch_on_one():
    network = second_stage().student.network.train()
    x, c = torch.randn(4, 1, 8, 8), torch.tensor([-1.0, 1.0, -0.5, 0.5])
    for one in (network.above, network.below):
        with Key(3).reseeded("cpu"):
            alone = one(x, c, {})
        with Key(3).reseeded("cpu"):
            assert torch.equal(network(x, c, {}), alone)
    with Key(4).reseeded("cpu"):
        assert (network(x, c, {}) - alone).abs().max() > 0.01


def test_a_copy_of_the_student_is_of_both_stages():
    student = second_stage().student.eval()
    student.network.above.out.bias.data.add_(1)
    copied = copy.deepcopy(student)
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 2.0])
    assert isinstance(copied.network, TwoStages) and torch.equal(copied(x, sigma), student(x, sigma))
    assert not any(p.requires_grad for p in copied.network.below.parameters())


def test_the_average_keeps_the_frozen_weights_as_they_are():
    program = second_stage()
    adam, ema = genkit.component("optimizer", "adam", lr=0.01), genkit.component("ema", "constant", decay=0.5)
    state = genkit.State.of(program, adam, ema)
    before = {name: t.clone() for name, t in program.student.network.state_dict().items()}
    data = genkit.build(genkit.component("dataset", "digits"), genkit.Setup())
    for _ in genkit.train(state, data, steps=3, batch_size=8):
        pass
    for name, t in program.student.network.state_dict().items():
        assert name.startswith("above.") or torch.equal(t, before[name]), name
        kept = name.startswith("below.") or name not in dict(program.student.network.named_parameters())
        assert torch.equal(state.average.weights[name], before[name]) == kept, name


def test_the_network_obeys_the_laws(monkeypatch):
    own, settings = laws.context, {name: value for name, value in UNET.items() if name != "use"}
    unet = genkit.component("network", "unet", **settings)

    def context(*spec, **told):
        return own(*spec, **told, load=lambda source: Denoiser(genkit.build(unet, own(*spec, **told)), EDM))

    monkeypatch.setattr(laws, "context", context)
    laws.check(genkit.component("network", "truncated", network=UNET, model={"from": "there"}))


def test_a_weights_file_can_be_the_first_stage(tmp_path):
    first = first_stage()
    save_file(first.network.state_dict(), tmp_path / "first.safetensors")
    model = {"from": str(tmp_path / "first.safetensors")}
    built = genkit.build(genkit.component("network", "truncated", network=UNET, model=model), CONTEXT)
    assert all(torch.equal(t, first.network.state_dict()[name]) for name, t in built.below.state_dict().items())


def test_a_first_stage_that_was_told_of_augmentation_serves_without_it(tmp_path):
    settings = {"model_channels": 8, "num_blocks": 1, "attn_resolutions": []}
    told = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8, augment=9))
    first = genkit.build(genkit.component("network", "ddpmpp", **settings), told)
    save_file(first.state_dict(), tmp_path / "first.safetensors")
    model = {"from": str(tmp_path / "first.safetensors")}
    network = genkit.component("network", "truncated", network={"use": "ddpmpp", **settings}, model=model)
    built = genkit.build(network, CONTEXT).eval()
    x, c = torch.randn(2, 1, 8, 8), torch.tensor([-0.5, 0.5])
    assert torch.equal(built(x, c, {}), first.eval()(x, c, {}))


@pytest.mark.parametrize(
    ("first", "network", "told"),
    [
        ({}, {"model": {"from": ""}}, "names no first stage"),
        ({"parameterization": "boundary"}, {}, "has the scalings BoundaryScalings"),
        ({}, {"network": "unet"}, "does not fit the network"),
    ],
)
def test_a_first_stage_that_does_not_serve_is_one_line(first, network, told):
    network = {"use": "truncated", "network": UNET, "model": {"from": "there"}, **network}
    with pytest.raises(GenkitError, match=told) as error:
        second_stage(first_stage(**first), network=network)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pairs.low=2.0"], "network's own level is 1.0"),
        (["pairs.low=100.0"], "is not within [levels]"),
        (["pairs.boundary=0.5"], "weighs a share of 0.25 at level 1.0, and [pairs] has 0.5 at 1.0"),
        (["parameterization=boundary"], "differs from the objective's"),
        (["network=unet"], "nobody is trained below 1.0"),
    ],
)
def test_tables_that_do_not_belong_together_are_told(words, told):
    with pytest.raises(RecipeError) as error:
        genkit.load_recipe("tcm_digits", words)
    assert told in str(error.value)


# ---- what training comes to ----------------------------------------------------------------------


class Exact(torch.nn.Module):
    """F of the consistency function f = x s / sqrt(s^2 + sigma^2) of N(0, s^2), s = 0.5."""

    def forward(self, x, c_noise, cond):
        return weight(0.5 / (0.25 + (4 * c_noise.double()).exp() ** 2).sqrt(), c_noise.double()) * x


def weight(a, c_noise):
    """w with which F(c_in x) = w c_in x makes f = a x."""
    c = EDM((4 * c_noise).exp())
    return ((a - c.c_skip) / (c.c_out * c.c_in)).reshape(-1, 1, 1, 1)


class ByLevel(torch.nn.Module):
    """F = w x with a weight for each of some levels."""

    def __init__(self, levels):
        super().__init__()
        self.at = torch.tensor(levels, dtype=torch.float64).log() / 4
        self.weights = torch.nn.Parameter(weight(torch.zeros(len(levels), dtype=torch.float64), self.at).flatten())

    def forward(self, x, c_noise, cond):
        return expand(self.weights[(self.at - c_noise[:, None]).abs().argmin(1)], x) * x

    def slopes(self):
        """a of f = a x at each level."""
        c = EDM((4 * self.at).exp())
        return (c.c_skip + c.c_out * c.c_in * self.weights).tolist()


class Listed:
    """A law on [1, sigma_max] that has the levels of a list, each as often as the others."""

    def __init__(self, levels):
        self.levels = torch.tensor(levels, dtype=torch.float64)

    def cdf(self, sigma):
        return (sigma > 1).double()

    def icdf(self, u):
        return self.levels[(u * len(self.levels)).long().clamp(max=len(self.levels) - 1)]


def gap(t, power):
    return t * min(1, (1 + 8 / (1 + math.exp(t))) / power)


def chain(power):
    """Levels from 1 up, each with the one before as its r, to the first of 80 or more."""
    levels = [1.0]
    while levels[-1] < 80:
        low, high = levels[-1], 1000.0
        for _ in range(200):
            t = (low + high) / 2
            low, high = (t, high) if t - gap(t, power) < levels[-1] else (low, t)
        levels.append(t)
    return levels


# From the exact a(r) at the boundary's r below 1, by a' = a (s^2 + r t) / (s^2 + t^2), s = 0.5: a sqrt(s^2 + t^2) at
# the last level of the chain, for N(k) - 1 = 4, 16 and 64. Exact were 0.5; without a first stage 16 has 0.4683.
STD = {4: 0.3696, 16: 0.4942, 64: 0.4990}


def slopes(levels, power):
    t = 1.0
    r = t - gap(t, power)
    found = [0.5 / math.sqrt(0.25 + r * r) * (0.25 + r * t) / (0.25 + t * t)]
    for r, t in itertools.pairwise(levels):
        found.append(found[-1] * (0.25 + r * t) / (0.25 + t * t))
    return found


@pytest.mark.parametrize("power", STD)
def test_the_recursion_goes_on_from_an_exact_first_stage(power):
    levels = chain(power)
    assert slopes(levels, power)[-1] * math.hypot(0.5, levels[-1]) == pytest.approx(STD[power], abs=5.1e-5)


def trained(power, boundary, steps):
    """A second stage above the exact first one, from f = 0, by Newton's steps; its losses and slopes."""
    levels = chain(power)
    network = {"use": "truncated", "network": "mlp", "model": {"from": "there"}}
    tables = {
        **TABLES,
        "network": network,
        "loss": "l2",
        "weighting": "edm",
        "curriculum": {"use": "powers", "q": power, "stages": 1},
        "pairs": {"use": "truncated", "low": 1.0, "boundary": boundary / len(levels)},
    }
    first = genkit.build(genkit.component("network", "mlp"), genkit.Context(spec=SPEC))
    context = genkit.Context(
        spec=SPEC, total_steps=1, levels=Levels(sigma_max=levels[-1]), load=lambda source: Denoiser(first, EDM)
    )
    program = genkit.build(genkit.component("objective", "consistency", **tables), context)
    model = ByLevel(levels)
    program.student.network = program.student._call = TwoStages(Exact(), model, -1e-7)
    program.noise = Listed(levels[1:])
    count = len(levels) - 1 + boundary
    u = evenly(count, 4)
    x0 = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64).repeat(count).reshape(-1, 1, 1, 1)
    eps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).repeat(count).reshape(-1, 1, 1, 1)
    newton, losses = torch.optim.SGD(model.parameters(), lr=count / 2), []
    for _ in range(steps or len(levels)):
        newton.zero_grad()
        loss = program(Batch(x0, {}), 0, Given(u, eps)).values.mean()
        loss.backward()
        newton.step()
        losses.append(loss.item())
    return losses, model.slopes(), levels


class Given:
    """A key whose draws are given."""

    def __init__(self, u, eps):
        self.u, self.eps = u, eps

    def uniform(self, purpose, count, device):
        return self.u

    def normal(self, purpose, like):
        return self.eps

    def reseeded(self, device):
        return torch.random.fork_rng(enabled=False)


@pytest.mark.parametrize("power", [4, 16])
def test_a_second_stage_that_is_trained_arrives_at_the_fixed_point(power):
    _, found, levels = trained(power, boundary=1, steps=0)
    assert found == pytest.approx(slopes(levels, power), rel=2e-4)


def test_without_the_boundary_a_constant_satisfies_the_loss_and_stays():
    losses, found, _ = trained(16, boundary=0, steps=5)
    assert losses == pytest.approx([0] * 5, abs=1e-12) and found == pytest.approx([0] * len(found), abs=1e-6)
    assert trained(16, boundary=1, steps=1)[0][0] > 1e-3


# ---- micro-batches, resuming, the command line ---------------------------------------------------


@pytest.mark.parametrize("part", [1, 2, 4])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    program = second_stage(network={"use": "truncated", "network": {**UNET, "dropout": 0.0}, "model": {"from": "x"}})
    program = program.double()
    batch = Batch(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double(), {})
    program(batch, 3, Key(0, 3)).values.mean().backward()
    whole = {name: p.grad.clone() for name, p in program.named_parameters() if p.grad is not None}
    program.zero_grad()
    for micro, start in enumerate(range(0, 8, part)):
        key = Key(0, 3).part(micro, start, start + part, 8)
        (program(batch.rows(start, start + part), 3, key).values.sum() / 8).backward()
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (dict(program.named_parameters())[name].grad - gradient).abs().max() < 1e-6 * largest, name


FEW = ["train.steps=6", "train.save_every_steps=3", "train.batch_size=8", "train.sample_every_steps=0"]
FEW += ["evaluate.samples=20", "metrics.pr=false", "metrics.fd=false"]
FIRST = [*FEW, "network.model_channels=4", "network.num_blocks=1", "network.dropout=0.2"]
SECOND = [*FEW, *(f"network.{word}" for word in FIRST[len(FEW) :])]


def tensors(folder):
    return checkpoint.load(folder / "checkpoints" / "step-0000006")[0]


def test_two_stages_by_commands_resumed_and_sampled_when_the_first_is_gone(tmp_path, call):
    _, err = call("run", "tcm_digits", *SECOND, code=4)
    assert "genkit run ect_digits" in err
    call("run", "ect_digits", *FIRST)
    call("run", "tcm_digits", *SECOND)
    (first,), (second,) = ([*(tmp_path / "runs").glob(f"{name}_digits-*")] for name in ("ect", "tcm"))
    started, whole = tensors(first), tensors(second)
    for name, tensor in started.items():
        if name.startswith("ema/"):
            assert torch.equal(whole[f"ema/below.{name[4:]}"], tensor)
            assert torch.equal(whole[f"program/student.network.below.{name[4:]}"], tensor)
    assert not any("/student.network.below." in name for name in whole if name.startswith("optimizer/"))
    shutil.rmtree(second / "checkpoints" / "step-0000006")
    call("run", "tcm_digits", *SECOND)
    again = tensors(second)
    assert whole.keys() == again.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
    call("run", "tcm_digits", *SECOND, f"init.from={second}", "name=on")
    assert "'below." in call("run", "tcm_digits", *SECOND, f"init.from={first}", code=4)[1]
    shutil.rmtree(first)
    assert genkit.sample(genkit.load(second), 2, steps=2).isfinite().all()
