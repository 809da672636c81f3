"""Claims about couplings: transport against sorting and all permutations, VCT against its formulas, its training."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from torch import nn

import genkit
from genkit.errors import RecipeError
from genkit.kernel import identity, registry
from genkit.keys import Key
from genkit.kinds import Batch, Coupled, slots
from genkit.training import checkpoint
from genkit_coupling.variational import divergence

SPEC = genkit.Spec(channels=2, height=3, width=3)
CONTEXT = genkit.Context(spec=SPEC, total_steps=80)


def coupling(name, spec=SPEC, **settings):
    return genkit.build(genkit.component("coupling", name, **settings), genkit.Context(spec=spec))


# ---- optimal transport ---------------------------------------------------------------------------


def test_on_a_line_transport_is_sorting():
    x0, eps = torch.randn(2, 200, 1, 1, 1)
    paired = coupling("optimal-transport")(x0, eps, {}).eps
    assert torch.equal(paired.flatten()[x0.flatten().argsort()], eps.flatten().sort().values)


@pytest.mark.parametrize("scale", [0.01, 1.0, 80.0])
def test_no_other_permutation_moves_less_whatever_the_scale_of_the_noise(scale):
    x0, eps = torch.randn(2, 6, 2, 3, 3, dtype=torch.float64)
    paired = coupling("optimal-transport")(x0, eps, {}).eps
    cost = [(x0 - scale * eps[list(p)]).square().sum() for p in itertools.permutations(range(6))]
    assert (x0 - scale * paired).square().sum() == pytest.approx(min(cost).item(), rel=1e-12)


def test_the_noise_of_a_batch_stays_what_it_was():
    x0, eps = torch.randn(64, 2, 3, 3) + 5, torch.randn(64, 2, 3, 3)
    paired = coupling("optimal-transport")(x0, eps, {})
    rows = {tuple(row.flatten().tolist()) for row in eps}
    assert {tuple(row.flatten().tolist()) for row in paired.eps} == rows and paired.loss == 0.0
    assert not torch.equal(paired.eps, eps)


def test_micro_batches_would_cut_it_and_are_one_line():
    given = ["coupling.use=optimal-transport", "train.micro_batch=8"]
    with pytest.raises(
        RecipeError, match=r"pairs within whole batches, and train.micro_batch = 8 cuts them; leave"
    ) as e:
        genkit.load_recipe("ict_digits", given)
    assert "\n" not in str(e.value)
    assert genkit.load_recipe("ict_digits", [given[0], "train.micro_batch=32"])


# ---- a learnt coupling ---------------------------------------------------------------------------


class Told(nn.Module):
    """An encoder whose two outputs are given."""

    def __init__(self, mu, u):
        super().__init__()
        self.out, self.seen = nn.Parameter(torch.cat([mu, u], 1)), []

    def forward(self, x, c_noise, cond):
        self.seen.append((x, c_noise, cond))
        return self.out


@pytest.mark.parametrize(("n", "gap"), [(0, 1.0), (2, 79.998), (11, 34.6863)])
def test_noise_and_price_are_those_of_the_formulas(n, gap):
    mu, u, x0, eps = torch.randn(4, 5, 2, 3, 3, dtype=torch.float64)
    made = coupling("variational", kl=30.0, network="mlp")
    made.network = Told(mu, u)
    found = made(x0, eps, {"label": torch.arange(5)}, n)
    s = (1 + u.exp()).log() + 1e-8
    assert torch.allclose(found.eps, mu + s * eps, atol=1e-12)
    unit, drawn = (
        torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu)),
        torch.distributions.Normal(mu, s),
    )
    kl = torch.distributions.kl_divergence(drawn, unit).flatten(1).sum(1)
    assert torch.allclose(found.loss, 30 / gap * kl, rtol=2e-6)
    ((x, c_noise, cond),) = made.network.seen
    assert torch.equal(x, x0 / SPEC.sigma_data) and not c_noise.any() and torch.equal(cond["label"], torch.arange(5))


def test_the_divergence_is_nothing_for_unit_normals_alone():
    zero, one = torch.zeros(3, 2, 3, 3), torch.ones(3, 2, 3, 3)
    assert torch.equal(divergence(zero, one), torch.zeros(3))
    assert (divergence(zero + 0.1, one) > 0).all() and (divergence(zero, 0.9 * one) > 0).all()


def program(context=CONTEXT, **slots):
    given = {"network": {"use": "mlp", "width": 16}, "coupling": {"use": "variational", "network": "mlp"}, **slots}
    made = genkit.build(genkit.component("objective", "consistency", **given), context)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    return made


def batch(count=8, **like):
    return Batch(torch.randn(count, *SPEC.shape, generator=torch.Generator().manual_seed(0)).to(**like), {})


def test_the_encoder_learns_by_the_students_loss_and_by_the_price():
    for kl, weighting in ((0.0, "inverse-step"), (30.0, "inverse-step")):
        made = program(coupling={"use": "variational", "network": "mlp", "kl": kl}, weighting=weighting)
        made(batch(), 3, Key(0, 3)).values.mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in made.coupling.parameters()])
        assert gradient.abs().max() > 1e-6
    assert {name for name, _ in made.groups()["student"]} >= {
        f"coupling.{n}" for n, _ in made.coupling.named_parameters()
    }


def test_the_noise_of_both_levels_is_the_encoders():
    made, seen = program(teacher="stop-grad"), []
    made.student.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    made.student.parameterization = genkit.build(genkit.component("parameterization", "edm"), CONTEXT)
    key, x0 = Key(0, 3), batch().x
    made(batch(), 3, key)
    t, r, _ = made.drawn(made.points(3), x0, key)
    with key.reseeded("cpu"):
        eps = made.coupling(x0, key.normal("eps", x0), {}, made.points(3)).eps
    for level, given in zip((t, r), seen, strict=True):
        scaled = made.student.parameterization(level).c_in.reshape(-1, 1, 1, 1) * (
            x0 + level.reshape(-1, 1, 1, 1) * eps
        )
        assert torch.allclose(given, scaled, rtol=1e-5, atol=1e-6)


def test_samples_start_from_unit_normals_as_without_it():
    plain, learnt = program(coupling="independent"), program()
    learnt.student.load_state_dict(plain.student.state_dict())
    ours, theirs = (genkit.sample(made.student.eval(), 5, steps=2, seed=3) for made in (learnt, plain))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("part", [1, 2, 4])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    made = program().double()
    made(batch(dtype=torch.float64), 3, Key(0, 3)).values.mean().backward()
    whole = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    for micro, start in enumerate(range(0, 8, part)):
        key = Key(0, 3).part(micro, start, start + part, 8)
        (made(batch(dtype=torch.float64).rows(start, start + part), 3, key).values.sum() / 8).backward()
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (dict(made.named_parameters())[name].grad - gradient).abs().max() < 1e-6 * largest, name


# ---- in every objective that has the slot --------------------------------------------------------

NET = {"use": "mlp", "width": 16}
PAIRING = {
    "consistency": {},
    "imm": {"parameterization": "imm", "group": 4},
    "scm": {},
    "diffusion": {},
    "meanflow": {},
    "imf": {},
    "alpha-flow": {},
    "shortcut": {},
}


def test_all_objectives_that_have_the_slot_are_known_here():
    offered = {name: registry.load(info) for (kind, name), info in registry.components().items() if kind == "objective"}
    assert {name for name, cls in offered.items() if "coupling" in slots(cls)} == set(PAIRING)


@pytest.mark.parametrize("name", PAIRING)
def test_samples_are_moved_towards_the_noise_that_the_coupling_gives_and_its_price_is_owed(name):
    """Noise that is the sample itself: networks are asked about multiples of it, whatever the scalings."""
    made = genkit.build(genkit.component("objective", name, network=NET, **PAIRING[name]), CONTEXT)
    x0, asked = torch.rand(8, 2, 3, 3) + 0.1, []
    for module in made.modules():
        if type(module).__name__ == "MlpModule":
            module.register_forward_pre_hook(lambda _, given: asked.append(given[0].detach()))
    values = []
    for price in (0.0, 5.0):
        made.coupling = lambda x0, eps, cond, n, price=price: Coupled(x0, price)
        values.append(made(Batch(x0, {}), 40, Key(0, 40)).values)
    torch.testing.assert_close(values[1] - values[0], torch.full((8,), 5.0), rtol=0, atol=1e-3)
    alike = torch.nn.functional.cosine_similarity(asked[0].flatten(1), x0.flatten(1))
    torch.testing.assert_close(alike.abs(), torch.ones(8))


# ---- in a recipe ---------------------------------------------------------------------------------


def test_a_swap_of_the_coupling_alone_keeps_all_else_and_the_default_is_what_runs_were_before():
    ict, swapped = (genkit.load_recipe("ict_digits", swaps=s) for s in ([], ["coupling=optimal-transport"]))
    assert identity.differences(ict, swapped) == [
        "coupling (default there, genkit-lab-coupling/optimal-transport@1 here)"
    ]
    assert "coupling" not in identity.essence(ict.objective)
    named = genkit.load_recipe("ict_digits", ["coupling.use=independent"])
    assert identity.identity(named, "data") == identity.identity(ict, "data")


def test_a_run_that_goes_on_from_its_middle_ends_with_the_same_bits_and_its_average_is_of_the_student(tmp_path):
    small = ["network.model_channels=4", "network.num_blocks=1", "coupling.network.dropout=0.2", "train.batch_size=8"]
    few = ["train.steps=8", "train.save_every_steps=4", "evaluate.samples=20", "train.sample_every_steps=0"]
    recipe = genkit.load_recipe("vct_digits", [*small, *few, "metrics.pr=false", "metrics.fd=false"])
    folder = genkit.run(recipe, tmp_path / "run").folder
    whole, _ = checkpoint.load(folder / "checkpoints" / "step-0000008")
    assert any(name.startswith("program/coupling.network.") for name in whole)
    assert not any("coupling" in name for name in whole if name.startswith("ema/"))
    shutil.rmtree(folder / "checkpoints" / "step-0000008")
    genkit.run(recipe, folder)
    again, _ = checkpoint.load(folder / "checkpoints" / "step-0000008")
    assert whole.keys() == again.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
    assert genkit.sample(genkit.load(folder), 2).shape == (2, 1, 8, 8)
