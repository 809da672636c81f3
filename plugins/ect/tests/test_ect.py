"""ECT against its formulas, worked out apart from this code, and against what its training must come to.

No numbers of the published code are at hand, which has no licence: those below were computed from the paper's
formulas in decimals of 40 digits (levels) and in float64 by `formulas` (losses and gradients).
"""

import contextlib
import math
import shutil

import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.kernel import identity
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import expand
from genkit.training import checkpoint

SPEC = genkit.Spec(channels=3, height=2, width=2)
CONTEXT = genkit.Context(spec=SPEC, total_steps=80)
T = torch.tensor([0.01, 1.0, 80.0], dtype=torch.float64)


class Listed:
    """A law that has the levels of a list, each as often as the others."""

    def __init__(self, levels):
        self.levels = torch.as_tensor(levels, dtype=torch.float64)

    def icdf(self, u):
        return self.levels[(u * len(self.levels)).long()]


def evenly(count, each=1):
    """Uniform numbers that meet every one of `count` levels `each` times."""
    return ((torch.arange(count, dtype=torch.float64) + 0.5) / count).repeat_interleave(each)


def paired(t, n, **settings):
    """(t, r, gap) at these levels."""
    pairs = genkit.build(genkit.component("pairs", "ect", **settings), CONTEXT)
    return pairs(Listed(t), n, lambda *i: evenly(len(t)))


def test_the_curriculum_takes_the_powers_of_q_in_stages_of_equal_length():
    points = genkit.component("curriculum", "powers")
    stages = [points(k, 200_000) - 1 for k in range(0, 200_000, 25_000)]
    assert stages == [2, 4, 8, 16, 32, 64, 128, 256]
    assert [points(k, 200_000) - 1 for k in (24_999, 25_000, 199_999, 200_000)] == [2, 4, 256, 256]
    assert {genkit.component("curriculum", "powers", q=256, stages=1)(k, 10) for k in range(10)} == {257}
    assert [genkit.component("curriculum", "powers", q=4, stages=4)(k, 4) - 1 for k in range(4)] == [4, 16, 64, 256]


@pytest.mark.parametrize("settings", [{"q": 2, "stages": 25}, {"q": 256, "stages": 4}, {"q": 3, "stages": 10**9}])
def test_steps_that_float32_cannot_see_are_refused_in_one_line(settings):
    with pytest.raises(RecipeError, match=r"is beyond 2\^24") as error:
        genkit.component("curriculum", "powers", **settings)
    assert "\n" not in str(error.value)


# q^(a + 1) for q = 2 at stages 0, 3, 7 (the last is q = 256 at stage 0), for q = 256 at stage 3; r and t - r at T.
LEVELS = {
    2: ([0.0, 0.0, 40.0], [0.01, 1.0, 40.0]),
    16: ([0.00688749989583437, 0.803029289315002, 75.0], [0.00311250010417, 0.196970710685, 5.0]),
    256: ([0.00980546874348965, 0.987689330582188, 79.6875], [0.00019453125651, 0.0123106694178, 0.3125]),
    256**4: ([0.01, 1.0, 80.0], [1.1594966442e-11, 7.33773077596e-10, 1.86264514923e-8]),
}


@pytest.mark.parametrize("power", LEVELS)
def test_r_and_the_gap_are_those_of_the_formula(power):
    r, gap = LEVELS[power]
    found = paired(T, power + 1)
    assert [x.dtype for x in found] == [torch.float32] * 3 and found[0].tolist() == pytest.approx(T.tolist())
    assert found[1].tolist() == pytest.approx(r, rel=1e-7) and found[2].tolist() == pytest.approx(gap, rel=1e-6)


def test_in_the_first_stage_of_q_2_the_target_is_the_sample_itself_up_to_level_ln_7():
    r = paired([0.5, math.log(7) - 1e-6, math.log(7) + 1e-3, 2.0], 3)[1]
    assert r[:2].tolist() == [0, 0] and (r[2:] > 0).all()


def test_levels_are_drawn_from_the_law_as_it_is_and_may_leave_the_range():
    u = torch.tensor([1e-4, 0.5, 1 - 1e-4], dtype=torch.float64)
    law = genkit.build(genkit.component("noise", "lognormal"), CONTEXT)
    t = genkit.build(genkit.component("pairs", "ect"), CONTEXT)(law, 17, lambda *i: u)[0]
    assert t.log().tolist() == pytest.approx([-1.1 - 2 * 3.719016485, -1.1, -1.1 + 2 * 3.719016485], rel=1e-5)


# ---- a whole step beside the formulas --------------------------------------------------------------


class Tiny(torch.nn.Module):
    """F(x, c) = a tanh(x) + b c + g x^2."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(weights.clone())

    def forward(self, x, c_noise, cond):
        a, b, g = self.weights
        return a * x.tanh() + b * c_noise.reshape(-1, 1, 1, 1) + g * x * x


class Given:
    """A key whose draws are given."""

    def __init__(self, u, eps):
        self.u, self.eps = u, eps

    def uniform(self, purpose, count, device):
        return self.u

    def normal(self, purpose, like):
        return self.eps

    def reseeded(self, device):
        return contextlib.nullcontext()


def ect(**slots):
    slots = {"network": "mlp", "parameterization": "edm", "pairs": "ect", "curriculum": "powers", **slots}
    return genkit.component("objective", "consistency", **{"loss": {"use": "pseudo-huber", "c": 0}, **slots})


def formulas(weights, x0, eps, t, power, c):
    """(sqrt(|f_t - f_r|^2 + c^2) - c) / (t - r) with EDM's scalings, in float64; f_r = x0 where r = 0."""
    n = torch.tensor([1 + 8 / (1 + math.exp(min(v, 700))) for v in t.tolist()], dtype=torch.float64)
    r = (t * (1 - n / power)).clamp(min=0)

    def f(sigma, w):
        s = sigma.reshape(-1, 1, 1, 1)
        x, root = x0 + s * eps, (s**2 + 0.25).sqrt()
        out = w[0] * (x / root).tanh() + w[1] * s.log() / 4 + w[2] * (x / root) ** 2
        return 0.25 / root**2 * x + 0.5 * s / root * out

    f_r = torch.stack([f(r, weights.detach())[i] if v > 0 else x0[i] for i, v in enumerate(r.tolist())])
    square = (f(t, weights) - f_r).square().sum((1, 2, 3))
    return ((square + c**2).sqrt() - c) / (t - r)


@pytest.mark.parametrize("c", [0, 0.06])
@pytest.mark.parametrize(("q", "stage"), [(2, 0), (2, 3), (2, 7), (256, 0)])
def test_a_step_has_the_losses_and_the_gradient_of_the_papers_formulas(q, stage, c):
    curriculum = {"use": "powers", "q": q, "stages": 8 if q == 2 else 1}
    program = genkit.build(ect(curriculum=curriculum, loss={"use": "pseudo-huber", "c": c}), CONTEXT)
    weights = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    program.student.network = program.student._call = made = Tiny(weights.detach())
    x0 = torch.arange(60, dtype=torch.float64).sin().reshape(5, 3, 2, 2) * 0.5
    eps = (3 * torch.arange(60, dtype=torch.float64) + 1).cos().reshape(5, 3, 2, 2)
    u = torch.tensor([0.01, 0.3, 0.55, 0.8, 0.995], dtype=torch.float64)
    exact = formulas(weights, x0, eps, program.noise.icdf(u), q ** (stage + 1), c)
    exact.mean().backward()
    found = program(Batch(x0, {}), 10 * stage, Given(u, eps)).values
    found.mean().backward()
    digits = 1e-6 * max(10, q ** (stage + 1))  # models see levels in float32, of which the gap is a small part
    assert found.tolist() == pytest.approx(exact.tolist(), rel=digits)
    gradient = weights.grad.tolist()
    assert made.weights.grad.tolist() == pytest.approx(gradient, rel=digits, abs=digits * max(map(abs, gradient)))


# ---- what training comes to ------------------------------------------------------------------------

# Standard deviation of one-step samples of data N(0, 0.5^2) under squared l2 at the stages of q = 2, from the recursion
# a' = a (s^2 + r t) / (s^2 + t^2) for f(x, t) = a' x and f(x, r) = a x, down to levels below 0.002; exact were 0.5.
STD = [0.2985, 0.3390, 0.4308, 0.4683, 0.4847, 0.4925, 0.4963, 0.4981]


def chain(n):
    """Levels from 80 down, each the r of the one before, to the last above 0.002; ascending."""
    levels = [80.0]
    for _ in range(2000):
        r = paired(levels[-1:], n)[1].item()
        if r <= 0.002:
            return levels[::-1]
        levels.append(r)
    raise AssertionError("levels do not fall")


@pytest.mark.parametrize("stage", range(8))
def test_the_levels_of_a_stage_lead_to_its_fixed_point(stage):
    a, r = 1.0, 0.0
    for t in chain(2 ** (stage + 1) + 1):
        a, r = a * (0.25 + r * t) / (0.25 + t * t), t
    assert a * math.hypot(0.5, 80) == pytest.approx(STD[stage], abs=5.1e-5)


class ByLevel(torch.nn.Module):
    """F = w x with a weight for each of some levels."""

    def __init__(self, levels):
        super().__init__()
        self.at = torch.tensor(levels).log() / 4
        self.weights = torch.nn.Parameter(torch.zeros(len(levels), dtype=torch.float64))

    def forward(self, x, c_noise, cond):
        return expand(self.weights[(self.at - c_noise[:, None]).abs().argmin(1)], x) * x


@pytest.mark.parametrize("stage", range(4))
def test_a_linear_model_that_is_trained_arrives_at_the_fixed_point(stage):
    """With the four pairs (+-0.5, +-1) for (x0, eps) moments are exact; lambda = 1 / c_out^2 makes a step Newton's."""
    context = genkit.Context(spec=genkit.Spec(channels=1, height=1, width=1), total_steps=80)
    program = genkit.build(ect(loss="l2", weighting="edm"), context)
    levels = chain(program.points(10 * stage))
    program.student.network = program.student._call = model = ByLevel(levels)
    program.noise = Listed(levels)
    x0 = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64).repeat(len(levels)).reshape(-1, 1, 1, 1)
    eps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).repeat(len(levels)).reshape(-1, 1, 1, 1)
    newton = torch.optim.SGD(model.parameters(), lr=len(levels) / 2)
    for _ in levels:
        newton.zero_grad()
        program(Batch(x0, {}), 10 * stage, Given(evenly(len(levels), 4), eps)).values.mean().backward()
        newton.step()
    sample = program.student.sampler(program.student, lambda j: torch.ones(1, 1, 1, 1), {}, 1)
    assert sample.item() == pytest.approx(STD[stage], abs=2e-4)


# ---- swaps, micro-batches, resuming ------------------------------------------------------------------------


def test_a_swap_of_the_pairs_alone_keeps_all_else_and_says_what_changed():
    ict, swapped = (genkit.load_recipe("ict_digits", swaps=swaps) for swaps in ([], ["pairs=ect"]))
    assert identity.differences(ict, swapped) == ["pairs (default there, genkit-lab-ect/ect@1 here)"]
    assert identity.identity(ict, "data") != identity.identity(swapped, "data")


@pytest.mark.parametrize("part", [1, 2, 4])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    program = genkit.build(ect(), CONTEXT).double()
    batch = Batch(torch.randn(8, *SPEC.shape, generator=torch.Generator().manual_seed(0)).double(), {})
    program(batch, 3, Key(0, 3)).values.mean().backward()
    whole = {name: p.grad.clone() for name, p in program.named_parameters() if p.grad is not None}
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
    recipe = genkit.load_recipe("ect_digits", [*small, *few, "metrics.pr=false", "metrics.fd=false"])
    folder = genkit.run(recipe, tmp_path / "run").folder
    whole, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    shutil.rmtree(folder / "checkpoints" / "step-0000012")
    genkit.run(recipe, folder)
    again, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    assert whole.keys() == again.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
