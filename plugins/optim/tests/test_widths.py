"""The power-function average is the profile that it says, and of two any width is made afterwards."""

import json
from pathlib import Path

import pytest
import torch

import genkit
from genkit.data import weights
from genkit.ema import Average
from genkit.kernel.loading import load_recipe
from genkit.runs import models, planning
from genkit.training import checkpoint
from genkit_optim.ema import gamma_of
from genkit_optim.widths import Profile, fitted, product

WIDTHS = [0.01, 0.05, 0.1, 0.2, 0.28]


class Marked(torch.nn.Module):
    """Its weights at step s are the s-th unit vector, so that an average of them is its own profile."""

    def __init__(self, steps):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((steps,), 1e6, dtype=torch.float64))


def profiles(steps, every, *widths):
    """After each `every` steps, how averages of these widths weigh the steps: {(width, t): (steps,)}."""
    module, kept = Marked(steps), {}
    averages = {width: Average(module, genkit.component("ema", "power", sigma_rel=width)) for width in widths}
    for k in range(steps):
        module.weight.data.zero_()[k] = 1.0
        for width, average in averages.items():
            average.update(average.rule.beta(k, 64))
            if (k + 1) % every == 0:
                kept[width, k + 1] = average.weights["weight"].clone()
    return kept


@pytest.mark.parametrize("width", WIDTHS)
def test_the_power_has_the_width_that_is_asked_for(width):
    gamma = gamma_of(width)
    assert (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5 == pytest.approx(width, rel=1e-12) and gamma >= 0


@pytest.mark.parametrize("width", WIDTHS)
def test_steps_count_as_the_formula_says_and_the_first_weights_not_at_all(width):
    steps, power = 400, gamma_of(width) + 1
    (found,) = profiles(steps, steps, width).values()  # the weights before step 0 are 10^6
    edges = torch.arange(steps + 1, dtype=torch.float64) / steps
    assert torch.allclose(found, (edges**power).diff(), rtol=1e-9, atol=1e-15)
    middle = (edges[1:] + edges[:-1]) / 2
    mean = (found * middle).sum()
    assert ((found * (middle - mean) ** 2).sum() ** 0.5).item() == pytest.approx(width, rel=0.02)


@pytest.mark.parametrize(("one", "other"), [((0.0, 100), (0.0, 50)), ((6.9, 100), (17.0, 80)), ((3.0, 60), (96.9, 60))])
def test_products_are_integrals(one, other):
    a, b = Profile(*one), Profile(*other)
    s = torch.linspace(0, min(a.t, b.t), 200_001, dtype=torch.float64)
    p, q = ((x.gamma + 1) * (s / x.t) ** x.gamma / x.t for x in (a, b))
    assert product(a, b) == product(b, a) == pytest.approx(torch.trapezoid(p * q, s).item(), rel=1e-6)


@pytest.mark.parametrize("width", [0.05, 0.06, 0.075, 0.1, 0.15, 0.2])
def test_a_width_that_was_tracked_is_made_again_of_two_others(width):
    steps, kept = 1000, profiles(1000, 50, 0.05, 0.1, width)
    parts = {key: p for key, p in kept.items() if key[0] in (0.05, 0.1)}
    x, error = fitted([Profile(gamma_of(w), t) for w, t in parts], Profile(gamma_of(width), steps))
    made = sum(share * p for share, p in zip(x, parts.values(), strict=True))
    tracked = kept[width, steps]
    off = ((made - tracked).norm() / tracked.norm()).item()
    assert off < 0.03 and off == pytest.approx(error, abs=2e-3)  # what is told of the profile holds for the average


def test_one_snapshot_does_not_do_and_is_told():
    x, error = fitted([Profile(gamma_of(0.05), 1000)], Profile(gamma_of(0.1), 1000))
    assert len(x) == 1 and error > 0.3


def test_the_widest_counts_all_steps_alike_and_wider_ones_are_refused():
    (found,) = profiles(50, 50, 0.2886).values()
    assert torch.allclose(found, torch.full((50,), 1 / 50, dtype=torch.float64), rtol=0.01)
    for wrong in (0.3, 0.0, -1.0):
        with pytest.raises(genkit.GenkitError, match="sigma_rel"):
            genkit.component("ema", "power", sigma_rel=wrong)


# ---- through the command line --------------------------------------------------------------------

POWERS = [
    f"averages.{n}.{k}={v}"
    for n, s in (("narrow", 0.05), ("wide", 0.1))
    for k, v in (("use", "power"), ("sigma_rel", s))
]
TINY = ["network.width=16", "train.batch_size=16", "train.steps=200", "train.keep_every_steps=10", "metrics.fd=false"]


def run(call, *words):
    return Path(json.loads(call("run", "ict_ring", *TINY, *words, "--json")[0])["folder"])


def off(one, other):
    """How far weights are apart, over the size of the second ones."""
    far = sum(float((one[n] - t).double().square().sum()) for n, t in other.items())
    return (far / sum(float(t.double().square().sum()) for t in other.values())) ** 0.5


def test_a_width_is_made_of_a_runs_checkpoints_sampled_and_started_from(call):
    folder = run(call, *POWERS)
    tracked = run(call, *POWERS, "averages.third.use=power", "averages.third.sigma_rel=0.075")
    out, err = call("weights", "average", folder, "--sigma-rel", "0.075")
    file = Path(out.strip())
    assert "made of 40 averages; its profile is 0.2" in err and "--weights power-0.075" in err
    wanted = models.load(tracked, "third").network.state_dict()
    made = models.load(folder, "power-0.075").network.state_dict()
    apart = {name: off(models.load(folder, name).network.state_dict(), wanted) for name in ("narrow", "wide")}
    assert off(made, wanted) < 0.1 * min(apart.values())
    assert weights.load(file).keys() == wanted.keys()
    assert "power-0.075.png" in call("sample", folder, "--weights", "power-0.075", "--count", "4")[0]
    for start in (["init.from=" + str(file)], ["init.from=" + str(folder), "init.weights=power-0.075"]):
        program = planning.plan(load_recipe("ict_ring", [*TINY, *start])).program()
        assert all(torch.equal(t, made[n]) for n, t in program.student.network.state_dict().items())
    told = call("sample", folder, "--weights", "power-0.075", "--checkpoint", "100", code=2)[1]
    assert told.endswith("has none named 'power-0.075'; it has ema, narrow, raw, wide\n")


def test_it_is_that_of_the_step_that_is_asked_for(call):
    folder = run(call, *POWERS)
    call("weights", "average", folder, "--sigma-rel", "0.1", "--checkpoint", "100")
    made = models.load(folder, "power-0.1", at="100").network.state_dict()
    assert off(made, models.load(folder, "wide", at="100").network.state_dict()) < 1e-6
    assert off(made, models.load(folder, "wide").network.state_dict()) > 1e-3


def test_what_cannot_be_made_is_one_line(call):
    plain = run(call)
    told = call("weights", "average", plain, "--sigma-rel", "0.1", code=2)[1]
    assert told.startswith(f"genkit: {plain}: keeps no averages of kind power; ") and told.count("\n") == 1
    named = run(call, "averages.power-0_1.use=power", "averages.power-0_1.sigma_rel=0.1", "train.steps=20")
    assert "sigma_rel" in call("weights", "average", named, "--sigma-rel", "0.5", code=2)[1]
    few = call("weights", "average", named, "--sigma-rel", "0.28")[1]
    assert "more checkpoints come closer" in few and checkpoint.present(named / "checkpoints")
