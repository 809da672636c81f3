"""IMM against what is known for Gaussian data, and against its formulas, worked out apart from this code."""

import copy
import math
import shutil

import pytest
import torch

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.kinds import Batch, Coupled
from genkit.levels import add_noise, expand
from genkit.testing import laws
from genkit.training import checkpoint

SPEC = genkit.Spec(channels=2, height=1, width=1, dtype="float32")
CONTEXT = genkit.Context(spec=SPEC, total_steps=100, times=2)
S = torch.tensor([0.37, 0.9], dtype=torch.float64).reshape(1, 2, 1, 1)  # the data are N(0, S^2), each number for itself
SIGMA = torch.tensor([80.0, 7.0, 0.5, 0.003, 0.9], dtype=torch.float64)
TO = torch.tensor([0.002, 0.5, 0.5, 0.002, 0.3], dtype=torch.float64)


def scalings(**settings):
    return genkit.build(genkit.component("parameterization", "imm", **settings), CONTEXT)


def noisy(count=5):
    return torch.randn(count, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def program(spec=SPEC, **slots):
    context = genkit.Context(spec=spec, total_steps=100)
    return genkit.build(genkit.component("objective", "imm", **{"network": "mlp", **slots}), context).double()


def time(sigma):
    """The paper's t of z = (1 - t) x0 + t 0.5 eps."""
    return sigma / (sigma + 0.5)


def ddim(z_t, x0, s, t):
    """The paper's interpolant: from z_t at t to s, by the clean data x0."""
    s, t = expand(s, z_t), expand(t, z_t)
    return ((1 - s) - s / t * (1 - t)) * x0 + s / t * z_t


# ---- scalings, levels, weights ---------------------------------------------------------------------


def test_the_laws_of_its_components():
    for kind, name in (("parameterization", "imm"), ("pairs", "imm"), ("noise", "uniform-time"), ("weighting", "imm")):
        laws.check(genkit.component(kind, name))
    laws.check(genkit.component("objective", "imm"))


def test_the_scalings_are_the_papers_in_its_units():
    """z_s = c_skip z_t + c_out F(c_in z_t, 1000 t, 1000 s) with a = 1 - t, b = t; x is z over 1 - t."""
    t, s = time(SIGMA), time(TO)
    root = ((1 - t) ** 2 + t**2).sqrt()
    skip = ((1 - t) * (1 - s) + t * s) / root**2
    out = -((1 - s) * t - (1 - t) * s) * 0.5 / root
    found = scalings(scale=1000.0)(SIGMA, TO)
    assert torch.allclose(found.c_skip * (1 - s), skip * (1 - t), rtol=1e-12)
    assert torch.allclose(found.c_out * (1 - s), out, rtol=1e-12, atol=1e-15)
    assert torch.allclose(found.c_in / (1 - t), 1 / (0.5 * root), rtol=1e-12)
    assert torch.allclose(found.c_noise, 1000 * torch.stack([t, s], 1), rtol=1e-12)


def test_they_are_those_of_ctm_but_for_the_sign_of_the_network():
    ctm = genkit.build(genkit.component("parameterization", "ctm"), CONTEXT)(SIGMA, TO)
    imm = scalings()(SIGMA, TO)
    assert torch.allclose(imm.c_skip, ctm.c_skip, rtol=1e-12) and torch.allclose(imm.c_in, ctm.c_in, rtol=1e-12)
    assert torch.allclose(imm.c_out, -ctm.c_out, rtol=1e-12, atol=1e-15)


def test_a_jump_to_where_it_starts_is_the_identity_to_the_bit():
    x, model = noisy().float(), Denoiser(lambda x, c_noise, cond: x.sin(), scalings())
    assert torch.equal(model(x, SIGMA.float(), {}, SIGMA.float()), x)
    assert not torch.allclose(model(x, SIGMA.float(), {}, 0.9 * SIGMA.float()), x)


def test_below_sigma_min_the_network_is_told_sigma_min():
    for below in (scalings()(SIGMA), scalings()(SIGMA, 0 * SIGMA + 0.001)):
        assert torch.allclose(below.c_noise[:, 1], torch.full_like(SIGMA, 0.002 / 0.502))


def test_ddim_with_the_clean_data_is_the_same_noise_at_another_level():
    """To the last bits; with its two times in the wrong order it is another point."""
    x0, eps = noisy(), noisy().flip(0)
    path = genkit.build(genkit.component("path", "same-noise"), CONTEXT)
    r = 0.7 * SIGMA
    x_r = path(add_noise(x0, SIGMA, eps), SIGMA, r, x0, eps, {})
    z_t = expand(1 - time(SIGMA), x0) * x0 + expand(time(SIGMA), x0) * 0.5 * eps
    right, wrong = ddim(z_t, x0, time(r), time(SIGMA)), ddim(z_t, x0, time(SIGMA), time(r))
    assert torch.allclose(right, expand(1 - time(r), x0) * x_r, rtol=0, atol=1e-15)
    assert (wrong - right).abs().amin(0).max() > 1e-6


def test_levels_are_uniform_in_time_within_the_range_and_pairs_are_one_step_apart():
    law = genkit.build(genkit.component("noise", "uniform-time"), CONTEXT)
    pairs = genkit.build(genkit.component("pairs", "imm"), CONTEXT)
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    t, r, gap = pairs(law, 4097, lambda *i: u)
    ends = time(torch.tensor([0.002, 80.0]))
    assert torch.allclose(time(t.double()), ends[0] + u * (ends[1] - ends[0]), rtol=1e-6)
    step = (80 - 0.002) / 4096
    assert torch.allclose(gap[t > step], torch.tensor(step)) and torch.allclose(t - r, gap, rtol=1e-3)
    assert (r[t < step] == 0).all() and torch.equal(gap[t < step], t[t < step])


def test_the_weights_are_the_papers():
    """w(t) = sigmoid(b - l) (-dl/dt) a_t^a / (a_t^2 + s_t^2) / 2, the slope by central differences."""
    t = torch.tensor([0.01, 0.3, 0.5, 0.99], dtype=torch.float64)

    def log_snr(t):
        return 2 * ((1 - t) / t).log()

    slope = (log_snr(t + 1e-6) - log_snr(t - 1e-6)) / 2e-6
    for a, b in ((1.0, 5.0), (2.0, 4.0)):
        weigh = genkit.build(genkit.component("weighting", "imm", a=a, b=b), CONTEXT)
        exact = torch.sigmoid(b - log_snr(t)) * -slope * (1 - t) ** a / ((1 - t) ** 2 + t**2) / 2
        assert torch.allclose(weigh(0.5 * t / (1 - t)), exact, rtol=1e-6)


# ---- the loss on Gaussian data ---------------------------------------------------------------------


class Exact(torch.nn.Module):
    """The network with which jumps are those of the paths of N(0, s^2), but for a factor at the end."""

    def __init__(self, s, wide=1.0):
        super().__init__()
        self.s, self.wide = s, wide

    def forward(self, x, c_noise, cond):
        sigma, to = (expand(0.5 * t / (1 - t), x) for t in c_noise.double().unbind(1))
        x = x * (sigma**2 + 0.25).sqrt()
        there = self.wide * x * ((self.s**2 + to**2) / (self.s**2 + sigma**2)).sqrt()
        f = (there - (0.25 + sigma * to) / (0.25 + sigma**2) * x) / (-0.5 * (sigma - to))
        return f * (0.25 + sigma**2).sqrt()


def test_with_the_exact_network_jumps_are_those_of_the_path_and_add_up():
    x, model = noisy(), Denoiser(Exact(S), scalings())
    sigma, to = SIGMA[[0, 1, 4]], TO[[0, 1, 4]]
    x, between = x[[0, 1, 4]], (sigma + to) / 2
    path = x * ((S**2 + expand(to, x) ** 2) / (S**2 + expand(sigma, x) ** 2)).sqrt()
    assert torch.allclose(model(x, sigma, {}, to), path, rtol=1e-9)
    assert torch.allclose(model(model(x, sigma, {}, between), between, {}, to), path, rtol=1e-9)


M, WIDTH, LEVELS = 2000, 0.37, (2.0, 0.6, 0.2)


def discrepancy(wide):
    """The program's, of one group from N(0, 0.37^2): the teacher is exact, and the student but for a factor."""
    made = program(genkit.Spec(channels=1, height=1, width=1, dtype="float32"), group=M, weighting="uniform")
    t, r, s = (torch.full((M,), level, dtype=torch.float64) for level in LEVELS)
    made.grouped = lambda n, x0, key: (t, r, t - r, s)
    made.student.network = made.student._call = Exact(WIDTH, wide)
    made._teacher = [Denoiser(Exact(WIDTH), made.student.parameterization)]
    x0 = WIDTH * torch.randn(M, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = made(Batch(x0, {}), 0, Key(0)).values
    assert values.shape == (M,) and torch.equal(values, values[:1].expand(M))
    return values[0].item()


def of_the_laws(wide):
    """What it is for N(0, (wide a)^2) and N(0, a^2), and by how much M samples may miss it.

    E exp(-|x - y|) is erfcx of the deviation of x - y over sqrt(2). The diagonal adds 2 / M at most. The deviation is
    that of twice the mean of M numbers h = E [k(y, y') + k(z, z') - k(y, z') - k(z, y')]: four of them, by quadrature.
    """
    t, _, s = LEVELS
    a = math.hypot(WIDTH, s) / (0.5 * (t - s) / math.hypot(t, 0.5))

    def like(b, c):
        return torch.special.erfcx(torch.tensor(math.hypot(b, c) / math.sqrt(2), dtype=torch.float64)).item()

    exact = like(wide * a, wide * a) + like(a, a) - 2 * like(wide * a, a)
    z = torch.linspace(-5, 5, 401, dtype=torch.float64)
    mass = torch.softmax(-z.square() / 2, 0)

    def near(x, b):
        return (-(x[:, None] - b * z).abs()).exp() @ mass

    h = near(wide * a * z, wide * a) + near(a * z, a) - near(wide * a * z, a) - near(a * z, wide * a)
    return exact, 2 / M + 4 * 2 * ((mass * (h - (mass * h).sum()).square()).sum() / M).sqrt().item()


@pytest.mark.parametrize("wide", [1.0, 0.9, 1.1, 1.3])
def test_the_discrepancy_of_many_samples_is_that_of_the_distributions(wide):
    exact, slack = of_the_laws(wide)
    assert discrepancy(wide) == pytest.approx(exact, abs=slack)


def test_a_student_that_is_10_percent_too_wide_is_told_from_an_exact_one():
    """By the same draws: the exact one is off by what its diagonal adds, at most."""
    exact, wide = discrepancy(1.0), discrepancy(1.1)
    assert abs(exact) < 2 / M and wide > 4 * abs(exact) and of_the_laws(1.1)[0] > 1e-3


def test_with_one_sample_a_group_it_is_a_consistency_loss():
    """2 (1 - exp(-d / h)), d the pseudo-Huber metric of the pair over c_out, row by row."""
    made = program(group=1, bandwidth=3.0, weighting="inverse-step", loss={"use": "pseudo-huber", "c": 0.01})
    torch.nn.init.normal_(made.student.network.last.weight, std=0.3)
    key, x0 = Key(0, 3), noisy(6)
    t, r, gap, s = made.grouped(made.points(3), x0, key)
    assert len(set(t.tolist())) == 6 and (s <= r).all() and (r < t).all() and (s >= 0.0019).all()
    eps = key.normal("eps", x0)
    y = made.student(add_noise(x0, t, eps), t, {}, s)
    z = made.student(add_noise(x0, r, eps), r, {}, s).detach()
    c = 0.5 * (t - s) / (t**2 + 0.25).sqrt()
    d = (((y - z) / expand(c, y)).square().sum((1, 2, 3)) + 0.01**2).sqrt() - 0.01
    exact = 2 * (1 - (-d / 3).exp()) / gap
    found = made(Batch(x0, {}), 3, key).values
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-5, abs=1e-9)
    wanted = torch.autograd.grad(exact.mean(), made.student.network.last.weight)[0]
    given = torch.autograd.grad(found.mean(), made.student.network.last.weight)[0]
    assert torch.allclose(given, wanted, rtol=1e-5, atol=1e-9)


def test_a_groups_value_is_that_of_all_its_pairs():
    made = program(group=3, bandwidth=1.5, loss="l1")
    y, z = noisy(6), noisy(7)[1:]

    def mean(a, b):
        return sum(math.exp(-(p - q).abs().mean().item() / 1.5) for p in a for q in b) / 9

    exact = [mean(a, a) + mean(b, b) - 2 * mean(a, b) for a, b in ((y[:3], z[:3]), (y[3:], z[3:]))]
    found = made.discrepancy(y, z)
    assert found.tolist() == pytest.approx([v for v in exact for _ in range(3)], rel=1e-9)


def test_noise_is_paired_as_the_coupling_says_and_its_price_is_owed():
    class Negative(Key):
        def normal(self, purpose, like, *i):
            return -super().normal(purpose, like, *i)

    made = program()
    torch.nn.init.normal_(made.student.network.last.weight, std=0.3)
    plain = made(Batch(noisy(8), {}), 3, Negative(0, 3)).values
    made.coupling = lambda x0, eps, cond, n: Coupled(-eps, 5.0)
    assert torch.allclose(made(Batch(noisy(8), {}), 3, Key(0, 3)).values, plain + 5, rtol=1e-9)


# ---- groups ----------------------------------------------------------------------------------------


def test_a_group_shares_its_levels_and_groups_differ():
    t, r, gap, s = program().grouped(4097, noisy(16), Key(0, 3))
    for level in (t, r, gap, s):
        assert (level.reshape(4, 4) == level[::4, None]).all()
    assert len(set(t.tolist())) == len(set(s.tolist())) == 4


def test_a_pair_that_reaches_below_s_ends_there():
    """There z is x_s itself, which the student's jump from t is held against."""
    t, r, gap, s = program(group=1).grouped(11, noisy(200), Key(0))
    assert (s <= r).all() and (r < t).all()
    assert torch.allclose(r, torch.maximum(t - gap, s)) and 10 < (r == s).sum() < 190


def test_s_is_uniform_in_time_below_t():
    x0 = torch.zeros(20_000, 2, 1, 1, dtype=torch.float64)
    t, _, _, s = program(group=1).grouped(4097, x0, Key(0))
    low = time(torch.tensor(0.002))
    share = ((time(s) - low) / (time(t) - low))[t > 0.1]
    quarters = torch.histc(share.double(), 4, 0, 1) / len(share)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.parametrize("train", [{"batch_size": 30}, {"batch_size": 32, "micro_batch": 6}])
def test_a_batch_that_would_cut_a_group_is_refused_in_one_line(train):
    with pytest.raises(RecipeError, match=r"objective.group: train\.\w+ = \d+ cuts a group of 4; take a") as error:
        genkit.recipe_of(dataset="ring", objective={"use": "imm", "network": "mlp"}, train={"steps": 1, **train})
    assert "\n" not in str(error.value)
    genkit.recipe_of(
        dataset="ring", objective={"use": "imm", "network": "mlp", "group": 2}, train={"steps": 1, **train}
    )


def test_a_process_whose_share_cuts_a_group_is_told_so():
    with pytest.raises(RecipeError, match="6 samples make no whole groups of 4"):
        program()(Batch(noisy(6), {}), 0, Key(0))


@pytest.mark.parametrize("part", [4, 8])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    made = program()
    torch.nn.init.normal_(made.student.network.last.weight, std=0.1)
    made(Batch(noisy(16), {}), 3, Key(0, 3)).values.mean().backward()
    whole = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    for micro, start in enumerate(range(0, 16, part)):
        key = Key(0, 3).part(micro, start, start + part, 16)
        (made(Batch(noisy(16), {}).rows(start, start + part), 3, key).values.sum() / 16).backward()
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (dict(made.named_parameters())[name].grad - gradient).abs().max() < 1e-6 * largest, name


def test_both_passes_share_masks_and_no_gradient_goes_to_r():
    """At r = t both are one function of one point: the value is 0, which another mask would show."""
    made = genkit.build(
        genkit.component("objective", "imm", network={"use": "unet", "model_channels": 4, "dropout": 0.5}),
        genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8), total_steps=100),
    ).train()
    torch.manual_seed(0)
    for p in made.student.network.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    grouped = made.grouped

    def at_one_level(n, x0, key):
        t, _, gap, s = grouped(n, x0, key)
        return t, t, gap, s

    made.grouped = at_one_level
    batch = Batch(torch.randn(8, 1, 8, 8), {})
    loss = made(batch, 3, Key(0, 3)).values
    assert loss.abs().max() < 1e-5
    student = copy.copy(made.student)
    made._teacher = [lambda x, t, cond, s: torch.manual_seed(7) and student(x, t, cond, s)]
    assert made(batch, 3, Key(0, 3)).values.abs().max() > 1e-3


def test_a_run_that_goes_on_from_its_middle_ends_with_the_same_bits(tmp_path):
    small = ["network.model_channels=4", "network.num_blocks=1", "network.dropout=0.2", "train.batch_size=8"]
    few = ["train.steps=12", "train.save_every_steps=6", "evaluate.samples=20", "train.sample_every_steps=0"]
    recipe = genkit.load_recipe("imm_digits", [*small, *few, "metrics.pr=false", "metrics.fd=false"])
    folder = genkit.run(recipe, tmp_path / "run").folder
    whole, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    shutil.rmtree(folder / "checkpoints" / "step-0000012")
    genkit.run(recipe, folder)
    again, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    assert whole.keys() == again.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
