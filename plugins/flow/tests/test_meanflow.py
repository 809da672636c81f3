"""MeanFlow, improved MeanFlow and alpha-Flow against closed forms."""

import math

import attrs
import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import expand
from genkit.testing import laws

POINT = genkit.Context(spec=genkit.Spec(channels=1, height=1, width=1), total_steps=100)
CONTEXT = genkit.Context(spec=genkit.Spec(channels=2, height=8, width=8), total_steps=100)
SMALL = {"use": "unet", "model_channels": 8, "num_blocks": 1, "attn_resolutions": [4]}
PLAIN = {"imf": {"head": False}}


def program(name, context=CONTEXT, **slots):
    slots = {"network": SMALL if context is not POINT else "mlp", **slots}
    return genkit.build(genkit.component("objective", name, **slots), context)


def awake(made):
    """A program with weights everywhere: the last layers of a network start at zero."""
    torch.manual_seed(0)
    for p in made.student.network.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    return made.train()


def batch(count=6, **cond):
    return Batch(torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1)), cond)


@pytest.mark.parametrize("settings", [{}, {"p": 1.0, "eps": 0.01}, {"p": 0.0}, {"q": "mean"}])
def test_the_laws_of_losses_and_weightings(settings):
    laws.check(genkit.component("loss", "adaptive", **settings))
    laws.check(genkit.component("weighting", "velocity"))


@pytest.mark.parametrize(("q", "size"), [("sum", 1), ("mean", 128)])
def test_the_metric_divides_by_one_number_per_image_and_not_per_element(q, size):
    """d = q / (q + eps)^p, and its gradient is that of q over the same number."""
    d = genkit.build(genkit.component("loss", "adaptive", p=0.75, eps=1e-3, q=q), CONTEXT)
    x, y = batch().x.requires_grad_(), batch().x.flip(0)
    square = (x - y).square().sum((1, 2, 3)).detach() / size
    assert torch.allclose(d(x, y), square / (square + 1e-3) ** 0.75)
    d(x, y).sum().backward()
    exact = 2 * (x - y) / size / expand((square + 1e-3) ** 0.75, x)
    assert torch.allclose(x.grad, exact.detach(), rtol=1e-5)


# ---- Gaussian data: what the targets come to -------------------------------------------------------

T, R, COUNT = 0.8, 0.3, 400_000


def seen(made, gaussian, k=50, t=T, r=R, count=COUNT):
    """What the metric is asked about at t and r: z, and the two sides of the comparison."""
    made.student.network = gaussian
    asked = []
    made.loss = lambda a, b: asked.extend([a, b]) or a.flatten(1).sum(1)
    draw = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, count, 1, 1, 1, dtype=torch.float64, generator=draw)
    x0 = gaussian.s * x0
    t, r = (torch.full((count,), time, dtype=torch.float64) for time in (t, r))
    z = x0 + t[0] * (eps - x0)
    made.compared(z, t, r, eps - x0, {}, k, Key(0))
    return z, *asked


def slope(z, y):
    return ((z * y).mean() / z.square().mean()).item()


def test_the_target_of_mean_flow_is_the_average_velocity_on_average(gaussian):
    z, u, target = seen(program("meanflow", POINT), gaussian)
    assert slope(z, u) == pytest.approx(1.01338, abs=1e-5)
    assert slope(z, target) == pytest.approx(1.01338, abs=2.5e-3)  # 4 standard errors


def test_the_compound_velocity_of_improved_mean_flow_is_the_velocity_itself(gaussian):
    """V = u + (t - r) du/dt along the model's own velocity: no sampling error at all."""
    z, compound, v = seen(program("imf", POINT, head=False), gaussian, count=1000)
    t = torch.tensor([T], dtype=torch.float64)
    assert torch.allclose(compound, gaussian.velocity(z, t), rtol=1e-10)
    assert (v - gaussian.velocity(z, t)).std() > 0.3  # what it is compared with is a draw


@pytest.mark.parametrize(
    ("alpha", "bias"), [(1.0, 1.1968), (0.5, 1.0333), (0.1, 1.01382), (0.01, 1.01338), (0.0, 1.01338)]
)
def test_the_target_of_alpha_flow_is_the_less_biased_the_smaller_alpha(gaussian, monkeypatch, alpha, bias):
    made = program("alpha-flow", POINT)
    monkeypatch.setattr(type(made.settings), "alpha", lambda self, k, total: alpha)
    z, _, target = seen(made, gaussian)
    assert slope(z, target) == pytest.approx(bias, abs=2.5e-3)


def test_alpha_falls_as_a_sigmoid_and_ends_in_exactly_0():
    schedule = genkit.component("objective", "alpha-flow", start=0.2, end=0.8)
    alphas = [schedule.alpha(k, 1000) for k in range(1000)]
    assert alphas == sorted(alphas, reverse=True) and alphas[500] == pytest.approx(0.5)
    assert alphas[400] == pytest.approx(1 / (1 + math.exp(-25 / 6)))
    assert alphas[0] == 1.0 and alphas[999] == 0.0 and not any(0 < a < 0.005 or 0.995 < a < 1 for a in alphas)
    with pytest.raises(RecipeError, match="start must be below end"):
        genkit.component("objective", "alpha-flow", start=0.5, end=0.5)
    with pytest.raises(RecipeError, match="is not told"):
        program("alpha-flow", attrs.evolve(CONTEXT, total_steps=0))


def test_the_weight_alpha_is_for_samples_with_two_times_alone(monkeypatch):
    made = awake(program("alpha-flow", loss="l2"))
    monkeypatch.setattr(type(made.settings), "alpha", lambda self, k, total: 0.25)
    z, v = batch().x, batch().x.flip(0)
    t, r = torch.full((6,), 0.8), torch.tensor([0.8, 0.2, 0.8, 0.2, 0.2, 0.2])
    found = made.compared(z, t, r, v, {}, 0, Key(0)).values
    u = made.outputs(z, t, r, {})
    m = t - 0.25 * (t - r)
    target = 0.25 * v + 0.75 * made.outputs(z - expand(t - m, v) * v, m, r, {})
    target[t == r] = v[t == r]
    weight = torch.where(t == r, 1.0, 0.25)
    assert torch.allclose(found, weight * (u - target).square().flatten(1).mean(1), rtol=1e-5)


def test_clipped_targets_stay_within_the_limit(monkeypatch, gaussian):
    made = program("alpha-flow", POINT, clip=0.5)
    _, _, target = seen(made, gaussian, count=100)
    assert target.abs().max() == 0.5


# ---- with one time it is flow matching ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["meanflow", "imf", "alpha-flow"])
def test_where_r_is_t_the_loss_is_that_of_flow_matching(name):
    made = awake(program(name, loss="l2", ratio=0.0, **PLAIN.get(name, {})))
    key, x0 = Key(0, 3), batch().x
    t, r = made.times(6, x0.device, key)
    assert torch.equal(t, r)
    eps = key.normal("eps", x0)
    v = made.student.network((1 - expand(t, x0)) * x0 + expand(t, x0) * eps, torch.stack([t, 0 * t], 1), {})
    exact = (v - (eps - x0)).square().flatten(1).mean(1)
    assert torch.allclose(made(batch(), 3, key).values, exact, rtol=1e-5)


def test_flow_matching_is_denoising_with_other_scalings_and_weights():
    """The objective `diffusion` with `flow` and `velocity` is |v - (eps - x0)|^2 at logit-normal times."""
    slots = {"network": SMALL, "parameterization": "flow", "weighting": "velocity", "noise": "lognormal"}
    made = awake(genkit.build(genkit.component("objective", "diffusion", **slots), CONTEXT))
    key, x0 = Key(0, 3), batch().x
    logit = made.noise.icdf(key.uniform("level", 6)).log()  # of t, as t = sigma / (1 + sigma)
    t, eps = logit.sigmoid().float(), key.normal("eps", x0)
    v = made.student.network((1 - expand(t, x0)) * x0 + expand(t, x0) * eps, t, {})
    exact = (v - (eps - x0)).square().flatten(1).sum(1)
    assert torch.allclose(made(batch(), 3, key).values, exact, rtol=1e-4)


# ---- times -------------------------------------------------------------------------------------------


def test_times_are_logit_normal_and_a_share_of_them_is_equal():
    made = program("meanflow", POINT)
    t, r = made.times(100_000, torch.device("cpu"), Key(0))
    assert t.dtype == r.dtype == torch.float32 and (r <= t).all() and (r > 0).all() and (t < 1).all()
    logit = t.double().logit()
    assert logit.mean().item() == pytest.approx(-0.6, abs=0.03) and logit.std().item() == pytest.approx(1.6, abs=0.03)
    crossed = 0.5 * math.erfc(3.4 / math.hypot(1.6, 1.6) / math.sqrt(2))  # r is drawn above t
    assert (r == t).float().mean().item() == pytest.approx(0.25 + 0.75 * crossed, abs=0.01)


def test_pairs_drawn_the_wrong_way_round_are_swapped_if_asked():
    key, device = Key(0), torch.device("cpu")
    laws = {law: {"use": "lognormal", "p_mean": -2.0, "p_std": 2.0} for law in ("noise", "noise_r")}
    t, r = program("meanflow", POINT, order="swap", ratio=1.0, **laws).times(100_000, device, key)
    t_, r_ = program("meanflow", POINT, order="equal", ratio=1.0, **laws).times(100_000, device, key)
    right = t_ > r_
    assert torch.equal(t[right], t_[right]) and torch.equal(r[right], r_[right])
    assert torch.equal(r[~right], t_[~right]) and (t > r).all() and right.float().mean() < 0.51


# ---- derivatives and masks ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["meanflow", "imf"])
def test_the_derivative_is_that_of_central_differences(name):
    made = awake(program(name, network={**SMALL, "dropout": 0.3, "fourier_scale": 0.2})).double()
    z, v = (torch.randn(3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    t, r = torch.tensor([0.9, 0.5, 0.2]).double(), torch.tensor([0.1, 0.5, 0.15]).double()
    _, found = made.along(v, z, t, r, {}, Key(0))

    def at(h):
        with Key(0).reseeded("cpu"):
            return made.outputs(z + h * v, t + h, r, {})

    exact = (at(1e-5) - at(-1e-5)) / 2e-5
    assert found.shape[1] == (4 if name == "imf" else 2) and exact.abs().max() > 0.1
    assert torch.allclose(found, exact, rtol=1e-5, atol=1e-7)


def test_both_passes_of_alpha_flow_share_their_masks(monkeypatch):
    """As alpha goes to 0 they become one pass; other masks would be another function."""
    made = awake(program("alpha-flow", network={**SMALL, "dropout": 0.5}, loss="l2", ratio=1.0))
    monkeypatch.setattr(type(made.settings), "alpha", lambda self, k, total: 1e-7)
    assert made(batch(), 3, Key(0, 3)).figures["error"] < 1e-8
    monkeypatch.setattr(made, "target", lambda *given: torch.manual_seed(7) and type(made).target(made, *given))
    assert made(batch(), 3, Key(0, 3)).figures["error"] > 0.01


def test_improved_mean_flow_goes_along_what_it_predicts_under_the_same_masks(monkeypatch):
    made = awake(program("imf", network={**SMALL, "dropout": 0.5}, head=False, ratio=0.0))
    along, told = made.along, []

    def spied(v, *given):
        out = along(v, *given)
        told.extend([v, out[0]])
        return out

    monkeypatch.setattr(made, "along", spied)
    made(batch(), 3, Key(0, 3))
    assert not told[0].requires_grad and torch.allclose(told[0], told[1], atol=1e-4)


@pytest.mark.parametrize("name", ["meanflow", "imf"])
def test_no_gradient_reaches_the_derivative(name):
    """The gradient is that of |u - v + (t - r) du/dt|^2 with du/dt held."""
    made = awake(program(name, loss="l2", ratio=1.0, network="mlp", **PLAIN.get(name, {}))).double()
    key, x0 = Key(0, 3), batch().x.double()
    made(Batch(x0, {}), 3, key).values.mean().backward()
    found = torch.cat([p.grad.flatten() for p in made.student.parameters()])
    t, r = made.times(6, x0.device, key)
    v = key.normal("eps", x0) - x0
    z, t, r = x0 + expand(t, x0) * v, t.double(), r.double()
    direction = v if name == "meanflow" else made.outputs(z, t, t, {}).detach()
    error = made.outputs(z, t, r, {}) - v
    made.zero_grad()
    held = made.along(direction, z, t, r, {}, key)[1].detach()
    (error + expand(t - r, v) * held).square().flatten(1).mean(1).mean().backward()
    exact = torch.cat([p.grad.flatten() for p in made.student.parameters()])
    assert (found - exact).norm() < 1e-6 * exact.norm()


# ---- the second head ---------------------------------------------------------------------------------


def test_the_second_head_predicts_v_and_is_not_part_of_what_is_sampled():
    made = awake(program("imf", ratio=1.0, loss="l2"))
    z, t = batch().x, torch.full((6,), 0.7)
    heads = made.student.network.heads(z, torch.stack([t, 0 * t], 1), {})
    assert torch.equal(made.velocity(z, t, {}), heads[:, 2:]) and made.student(z, t, {}, 0 * t).shape == z.shape
    assert torch.equal(made.student.network(z, torch.stack([t, 0 * t], 1), {}), heads[:, :2])
    key, x0 = Key(0, 3), batch().x
    values = made(batch(), 3, key).values
    t, r = made.times(6, x0.device, key)
    v = key.normal("eps", x0) - x0
    z = x0 + expand(t, x0) * v
    out, slope = made.along(made.velocity(z, t, {}), z, t, r, {}, key)
    compound = out[:, :2] + expand(t - r, v) * slope[:, :2]
    exact = ((compound - v).square() + (out[:, 2:] - v).square()).flatten(1).mean(1)
    assert torch.allclose(values, exact, rtol=1e-4)


# ---- guidance ------------------------------------------------------------------------------------------

LABELLED = attrs.evolve(CONTEXT, spec=attrs.evolve(CONTEXT.spec, classes=3))


class ByLabel(torch.nn.Module):
    """The number of the label everywhere."""

    def forward(self, x, c_noise, cond):
        return torch.ones_like(x) * expand(cond["label"].to(x.dtype), x)


def test_targets_are_guided_by_the_networks_own_velocities():
    made = program("meanflow", LABELLED, omega=0.2, kappa=0.7, label_drop=0.1, interval=[0.0, 0.75])
    made.student.network = ByLabel()
    v, t = batch(4).x, torch.tensor([0.5, 0.5, 0.9, 0.5])
    found = made.guided(v, v, t, {"label": torch.tensor([0, 2, 2, 3])}, Key(0))  # 3 is "none"
    assert torch.allclose(found[0], 0.2 * v[0] + 0.7 * 0 + 0.1 * 3)
    assert torch.allclose(found[1], 0.2 * v[1] + 0.7 * 2 + 0.1 * 3)
    assert torch.equal(found[2:], v[2:])  # beyond the interval, and without a label


def test_guided_targets_are_what_is_trained_on():
    made = program("meanflow", LABELLED, kappa=0.5, label_drop=0.1, loss="l2", ratio=0.0)
    made.student.network = ByLabel()
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    key, x0 = Key(0, 3), batch().x
    found = made(batch(label=label), 3, key).values
    told = torch.where(key.uniform("label", 6) < 0.1, 3, label)
    v = key.normal("eps", x0) - x0
    guided = torch.where(expand(told < 3, v), v + 0.5 * expand(told - 3, v), v)
    assert torch.allclose(found, (expand(told, v) - guided).square().flatten(1).mean(1), rtol=1e-5)


class Backward:
    """A network component that cannot be differentiated forwards."""

    jvp = False


@pytest.mark.parametrize("name", ["meanflow", "imf", "alpha-flow"])
def test_a_network_without_a_forward_mode_is_refused(name):
    objective = genkit.component("objective", name)
    objective.fits(None)
    with pytest.raises(RecipeError, match="no forward mode"):
        attrs.evolve(objective, network=Backward()).fits(None)


@pytest.mark.parametrize(("context", "drop"), [(CONTEXT, 0.1), (LABELLED, 0.0)])
def test_guidance_without_labels_or_without_a_null_class_is_refused(context, drop):
    with pytest.raises(RecipeError, match="guidance needs labels"):
        program("meanflow", context, kappa=0.5, label_drop=drop)
