"""The objective, its scalings and its sampler, against closed forms."""

import contextlib
import math

import attrs
import pytest
import torch

import genkit
from genkit import levels
from genkit.denoiser import Denoiser
from genkit.errors import PluginError, RecipeError
from genkit.keys import Key
from genkit.kinds import Batch

SPEC = genkit.Spec(channels=1, height=8, width=8)
CONTEXT = genkit.Context(spec=SPEC, total_steps=100)


def scalings(sigma):
    return genkit.build(genkit.component("parameterization", "boundary"), CONTEXT)(sigma)


def test_at_sigma_min_a_consistency_function_is_the_identity_exactly():
    network = genkit.build(genkit.component("network", "unet"), CONTEXT)
    torch.nn.init.normal_(network.out.weight)
    f = Denoiser(network, genkit.build(genkit.component("parameterization", "boundary"), CONTEXT))
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(f(x, torch.full((4,), 0.002)), x)
    assert not torch.allclose(f(x, torch.full((4,), 0.01)), x, atol=1e-4)


def test_scalings_are_the_published_ones_with_their_roots_and_offsets():
    sigma = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64)
    s = scalings(sigma)
    assert torch.allclose(s.c_skip, 0.25 / ((sigma - 0.002) ** 2 + 0.25))
    assert torch.allclose(s.c_out, 0.5 * (sigma - 0.002) / (sigma**2 + 0.25).sqrt())
    assert torch.allclose(s.c_in, 1 / (sigma**2 + 0.25).sqrt())
    assert torch.allclose(s.c_noise, sigma.log() / 4)  # without a factor of 1000


def program(**slots):
    return genkit.build(genkit.component("objective", "consistency", **slots), CONTEXT)


def batch(n=6):
    return Batch(torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), {})


def awake(made):
    """A program with weights everywhere: the last layers of the network and of its blocks start at zero."""
    torch.manual_seed(0)
    for p in made.student.network.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    return made.train()


def at_one_level(made):
    """The same program with r = t: both passes are one, and only dropout could tell them apart."""
    made.path = lambda x_t, t, r, x0, eps, cond: x_t
    student, seen = made.student.forward, {}

    def same_level(x, sigma, cond=None, to=None):
        return student(x, seen.setdefault("sigma", sigma), cond)

    made.student.forward = same_level
    return made


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("how", "most"), [("eager", 0.0), ("bf16", 1e-6), ("fp16", 1e-6), ("compiled", 1e-6)])
def test_student_and_teacher_share_x0_eps_and_dropout_masks(how, most, recompute):
    net = {"use": "unet", "dropout": 0.5, "model_channels": 8, "num_blocks": 1, "recompute": recompute}
    made = at_one_level(awake(program(network=net, weighting="uniform", loss="l2")))
    if how == "compiled":
        made.student.compile(backend="aot_eager", fullgraph=True)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(how)
    with torch.autocast("cpu", half, enabled=half is not None):
        assert made(batch(), 3, Key(0, 3)).values.abs().max() <= most
        student = made.student.forward
        made._teacher = [lambda x, sigma, cond: student(x, sigma, cond) if torch.manual_seed(7) else None]
        assert made(batch(), 3, Key(0, 3)).values.abs().max() > 0.1  # another seed, other masks


def test_an_averaged_teacher_drops_what_the_student_drops():
    """Both passes are in training mode: a teacher that drops nothing would be another function."""
    net = {"use": "unet", "dropout": 0.5, "model_channels": 8, "num_blocks": 1}
    made = at_one_level(awake(program(network=net, weighting="uniform", loss="l2", teacher="ema")))
    made.started()
    teacher, t = made.teacher.forward, {}
    student = made.student.forward

    def told(x, sigma, cond=None, to=None):
        t["sigma"] = sigma
        return student(x, sigma, cond)

    made.student.forward = told
    made.teacher.forward = lambda x, sigma, cond=None, to=None: teacher(x, t["sigma"], cond)
    assert not made(batch(), 3, Key(0, 3)).values.any()
    made.teacher.eval()
    assert made(batch(), 3, Key(0, 3)).values.abs().max() > 0.1


class Devices:
    """A key that notes for which device masks are asked."""

    def __init__(self):
        self.asked = []

    def uniform(self, purpose, count, device):
        return torch.zeros(count, dtype=torch.float64, device=device)

    def normal(self, purpose, like):
        return torch.zeros_like(like)

    def reseeded(self, device):
        self.asked.append(torch.device(device).type)
        return contextlib.nullcontext()


def test_masks_are_asked_for_on_the_device_of_the_batch():
    objective = genkit.component("objective", "consistency")
    made, key = genkit.build(objective, attrs.evolve(CONTEXT, device="meta")).to("meta"), Devices()
    made(Batch(torch.empty(2, 1, 8, 8, device="meta"), {}), 0, key)
    assert key.asked == ["meta", "meta", "meta"]  # for the coupling, the student and the teacher


class Nothing(torch.nn.Module):
    """F = 0 as a network under autocast gives it."""

    def forward(self, x, c_noise, cond):
        return torch.zeros_like(x, dtype=torch.bfloat16)


def test_scalings_and_distances_keep_their_digits_in_the_finest_stage_under_autocast():
    """With F = 0 only f = c_skip x is left: at N = 1281 its steps are too small for half precision."""
    made = program(loss="l2")
    made.student._call = Nothing()
    key, x0 = Key(0, 99), batch(64).x
    with torch.autocast("cpu", torch.bfloat16):
        found = made(batch(64), 99, key).values
    sigmas = CONTEXT.levels.sigmas(1281)
    i = levels.grid(CONTEXT.levels, made.points(99), made.noise).draw(key.uniform("level", 64))
    assert made.points(99) == 1281 and found.dtype == torch.float32
    eps = key.normal("eps", x0).double()
    f_t, f_r = (
        levels.expand(0.25 / ((s - 0.002) ** 2 + 0.25), x0) * levels.add_noise(x0, s, eps)
        for s in (sigmas[i + 1], sigmas[i])
    )
    exact = (f_t - f_r).square().flatten(1).mean(1) / sigmas.diff()[i]
    assert torch.allclose(found.double(), exact, rtol=2e-3)


def test_the_loss_is_lambda_d_at_neighbours_of_the_grid():
    made = awake(program(loss="l2"))
    key, x0 = Key(0, 3), batch().x
    grid = levels.grid(CONTEXT.levels, made.points(3), made.noise)
    i = grid.draw(key.uniform("level", len(x0)))
    eps = key.normal("eps", x0)
    t, r = grid.sigmas[i + 1], grid.sigmas[i]
    f_t = made.student(x0 + t.reshape(-1, 1, 1, 1) * eps, t)
    f_r = made.student(x0 + r.reshape(-1, 1, 1, 1) * eps, r)
    expected = (f_t - f_r).square().flatten(1).mean(1) / grid.gaps[i]
    assert torch.allclose(made(batch(), 3, Key(0, 3)).values, expected, rtol=1e-5)


def test_where_r_is_0_the_target_is_x_r():
    made, x0, eps = awake(program(loss="l2")), batch().x, Key(0, 3).normal("eps", batch().x)
    t, r = torch.tensor([0.01, 0.5, 1, 2, 9, 80]), torch.tensor([0, 0.4, 0, 1, 3, 70])
    made.pairs, told = lambda noise, n, draw: (t, r, t - r), []
    made.student.network.register_forward_pre_hook(lambda _, given: told.append(given[1]))
    found = made(batch(), 3, Key(0, 3)).values
    assert torch.stack(told).isfinite().all()
    f_t = made.student(levels.add_noise(x0, t, eps), t)
    f_r = made.student(levels.add_noise(x0, r, eps), r.clamp(min=0.3))  # at 0 it would not be finite
    f_r[r == 0] = x0[r == 0]
    assert torch.allclose(found, (f_t - f_r).square().flatten(1).mean(1) / (t - r), rtol=1e-5)
    found.mean().backward()
    assert all(p.grad.isfinite().all() for p in made.student.parameters() if p.grad is not None)


def test_pairs_draw_numbers_of_their_own_beside_the_first_ones():
    made, asked = program(), []
    grid = made.pairs
    made.pairs = lambda noise, n, draw: asked.extend([draw(), draw(1), draw()]) or grid(noise, n, draw)
    made(batch(), 3, Key(0, 3))
    assert torch.equal(asked[0], asked[2]) and not torch.equal(asked[0], asked[1])
    assert torch.equal(asked[0], Key(0, 3).uniform("level", 6)) and torch.equal(
        asked[1], Key(0, 3).uniform("level", 6, "cpu", 1)
    )


def test_pairs_of_a_wrong_shape_are_named_as_such():
    made = program()
    made.pairs = lambda noise, n, draw: (draw()[:, None].float(),) * 3
    with pytest.raises(
        PluginError,
        match=r"pairs 'grid' of genkit-lab-consistency: gave t, r and gap of shapes \[\(6, 1\), .*; owed are 6 of each",
    ):
        made(batch(), 3, Key(0, 3))


def test_no_gradient_reaches_the_teachers_pass():
    made = awake(program(loss="l2", weighting="uniform"))
    made(batch(), 3, Key(0, 3)).values.mean().backward()
    with_stop = [p.grad.clone() for p in made.student.parameters() if p.grad is not None]
    made.zero_grad()
    key, x0 = Key(0, 3), batch().x
    grid = levels.grid(CONTEXT.levels, made.points(3), made.noise)
    i = grid.draw(key.uniform("level", len(x0)))
    eps, t, r = key.normal("eps", x0), grid.sigmas[i + 1], grid.sigmas[i]
    through = made.student(levels.add_noise(x0, t, eps), t) - made.student(levels.add_noise(x0, r, eps), r)
    through.square().flatten(1).mean(1).mean().backward()
    without = [p.grad for p in made.student.parameters() if p.grad is not None]
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(with_stop, without, strict=True))


@pytest.mark.parametrize("part", [1, 2, 4])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    made = awake(program())
    made(batch(8), 3, Key(0, 3)).values.mean().backward()
    whole = {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    for micro, start in enumerate(range(0, 8, part)):
        key = Key(0, 3).part(micro, start, start + part, 8)
        (made(batch(8).rows(start, start + part), 3, key).values.sum() / 8).backward()
    for name, gradient in whole.items():
        assert torch.allclose(dict(made.named_parameters())[name].grad, gradient, rtol=1e-4, atol=1e-4), name


def test_dropped_labels_become_the_null_class():
    spec = attrs.evolve(SPEC, classes=10)
    made = genkit.build(genkit.component("objective", "consistency", label_drop=0.5), attrs.evolve(CONTEXT, spec=spec))
    seen = []
    made.student.network.register_forward_pre_hook(lambda _, given: seen.append(given[2]["label"]))
    label = torch.arange(300) % 10
    made(Batch(torch.randn(300, 1, 8, 8), {"label": label}), 3, Key(0, 3))
    student, teacher = seen
    assert torch.equal(student, teacher) and set(student[student != label].tolist()) == {10}
    assert (student == 10).float().mean().item() == pytest.approx(0.5, abs=0.1)


# ---- the oracle: for data N(0, s^2) the consistency function is known ------------------------------


def oracle(s=0.5):
    """f(x, sigma) = x sqrt((s^2 + sigma_min^2) / (s^2 + sigma^2))."""

    def f(x, sigma, cond=None, to=None):
        return x * levels.expand(((s * s + 0.002**2) / (s * s + sigma**2)).sqrt(), x)

    return f


@pytest.mark.parametrize("steps", [1, 2, 5, [3.0, 0.4]])
def test_sampling_the_exact_consistency_function_of_gaussian_data_gives_the_data(steps):
    sampler = genkit.build(genkit.component("sampler", "consistency"), CONTEXT)
    z = [torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    x = sampler(oracle(), lambda j: z[j], {}, steps)
    assert x.std().item() == pytest.approx(0.5, rel=0.01)


def test_the_exact_consistency_function_is_a_fixed_point_of_distillation():
    """Following the exact ODE from t to r changes nothing that f says."""
    t, r = torch.tensor([2.0]), torch.tensor([0.7])
    x_t = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    ode = x_t * math.sqrt((0.25 + 0.49) / (0.25 + 4))
    assert torch.allclose(oracle()(x_t, t), oracle()(ode, r), rtol=1e-6)


def test_the_objective_is_least_at_the_exact_function_for_fine_grids():
    """On Gaussian data the expected squared step of the exact f is smaller than that of wrong ones."""
    x0 = 0.5 * torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
    eps = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(1))
    t, r = torch.full((100_000,), 1.0), torch.full((100_000,), 0.9)

    def value(s):
        f = oracle(s)
        pinned = [f(levels.add_noise(x0, a, eps), a) for a in (t, r)]
        return (pinned[0] - pinned[1]).square().mean() / pinned[0].square().mean()

    assert value(0.5) < min(value(0.3), value(0.8))


def test_noise_between_steps_leaves_out_what_the_smallest_level_has():
    asked = []

    def f(x, sigma, cond):
        asked.append(x)
        return torch.ones_like(x)

    genkit.build(genkit.component("sampler", "consistency"), CONTEXT)(f, lambda j: torch.full((1,), 3.0), {}, [0.003])
    assert asked[0].item() == 240
    assert asked[1].item() - 1 == pytest.approx(3 * math.sqrt(0.003**2 - 0.002**2), rel=1e-4)


@pytest.mark.parametrize(("steps", "nfe"), [(1, 1), (2, 2), (4, 4), ([0.8], 2), ([5.0, 1.0], 3)])
def test_nfe_counts_network_calls(steps, nfe):
    assert genkit.build(genkit.component("sampler", "consistency"), CONTEXT).nfe(steps) == nfe


@pytest.mark.parametrize("steps", [[90.0], [0.5, 0.8], [0.001]])
def test_levels_that_rise_or_leave_the_range_are_refused(steps):
    with pytest.raises(RecipeError, match="do not fall"):
        genkit.build(genkit.component("sampler", "consistency"), CONTEXT).nfe(steps)
