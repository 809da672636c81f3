"""Claims about optimizers and averages."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import genkit
import genkit_optim
from genkit.runs import planning
from genkit_optim.ema import Constant, Halflife, Power
from genkit_optim.optimizers import Adam, AdamW, RAdam
from genkit_optim.radam import FusedRAdam, rectification

ALL = [RAdam, Adam, AdamW]


def weights(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(5, 7, generator=generator)) for _ in range(count)]


def named(params):
    return [(f"p{i}", p) for i, p in enumerate(params)]


def take(optimizer, params, first, last, rate=1e-3):
    """Steps with gradients, and rates, that are functions of the step."""
    for k in range(first, last):
        generator = torch.Generator().manual_seed(1000 + k)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.param_groups[0]["lr"] = rate * (1 + math.sin(k))
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_radam_equals_torchs_radam_across_the_switch(weight_decay, eps):
    ours, theirs = weights(), weights()
    a = FusedRAdam(ours, eps=eps, weight_decay=weight_decay)
    b = torch.optim.RAdam(theirs, eps=eps, weight_decay=weight_decay)
    for k in range(200):
        take(a, ours, k, k + 1)
        take(b, theirs, k, k + 1)
        assert max((p - q).abs().max().item() for p, q in zip(ours, theirs, strict=True)) < 1e-6, f"step {k}"
    assert (ours[0] - weights()[0]).abs().max() > 1e-2


def test_radam_at_large_eps_is_not_adam_with_the_same_eps():
    """Without eps' = eps / sqrt(1 - beta2^t) the test above would see this difference."""
    ours, theirs = weights(), weights()
    a = FusedRAdam(ours, eps=1e-2)
    b = torch.optim.RAdam(theirs, eps=2e-2)
    take(a, ours, 0, 50)
    take(b, theirs, 0, 50)
    assert (ours[0] - theirs[0]).abs().max() > 1e-5


def test_rectification_starts_after_five_steps_and_tends_to_one():
    values = [rectification(t, 0.999) for t in range(1, 8)]
    assert [v is None for v in values] == [True] * 5 + [False] * 2
    assert rectification(100_000, 0.999) == pytest.approx(1, abs=1e-6)
    assert rectification(6, 0.999) < rectification(7, 0.999) < 0.1


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("pause", [3, 100])
def test_resuming_from_plain_tensors_is_exact_to_the_bit(cls, pause):
    component = cls(weight_decay=0.01, clip=1.0)
    straight = weights()
    take(component.optimizer(named(straight)), straight, 0, 120)

    before = weights()
    first = component.optimizer(named(before))
    take(first, before, 0, pause)
    saved = first.state_dict()
    for values in saved["state"].values():
        assert set(values) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(isinstance(v, torch.Tensor) for v in values.values())
    after = [torch.nn.Parameter(p.detach().clone()) for p in before]
    second = component.optimizer(named(after))
    second.load_state_dict(copy.deepcopy(saved))
    take(second, after, pause, 120)
    assert all(torch.equal(p, q) for p, q in zip(straight, after, strict=True))


def test_loading_an_older_state_into_a_used_optimizer_turns_its_clock_back():
    params = weights()
    optimizer = FusedRAdam(params)
    take(optimizer, params, 0, 2)
    saved, then = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in params]
    take(optimizer, params, 2, 20)
    once = [p.detach().clone() for p in params]
    optimizer.load_state_dict(saved)
    with torch.no_grad():
        for p, q in zip(params, then, strict=True):
            p.copy_(q)
    take(optimizer, params, 2, 20)
    assert all(torch.equal(p, q) for p, q in zip(params, once, strict=True))


def test_radam_counts_the_steps_of_each_parameter_and_skips_those_without_gradient():
    results = []
    for cls in (FusedRAdam, torch.optim.RAdam):
        params = weights(2)
        optimizer = cls(params)
        for k in range(20):
            generator = torch.Generator().manual_seed(k)
            params[0].grad = torch.randn(5, 7, generator=generator)
            params[1].grad = torch.randn(5, 7, generator=generator) if k % 3 == 0 else None
            optimizer.step()
        results.append(params)
    assert all(torch.allclose(p, q, atol=1e-6, rtol=0) for p, q in zip(*results, strict=True))


def test_radam_of_tensors_of_two_dtypes_equals_torchs():
    results = []
    for cls in (FusedRAdam, torch.optim.RAdam):
        params = [weights(1)[0], torch.nn.Parameter(weights(1)[0].detach().double())]
        optimizer = cls(params)
        for k in range(10):
            for p in params:
                p.grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(k)).to(p.dtype)
            optimizer.step()
        results.append(params)
    assert all(torch.allclose(p, q, atol=1e-6, rtol=0) for p, q in zip(*results, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_radam_on_cuda_never_waits_and_equals_torchs():
    ours = [torch.nn.Parameter(p.detach().cuda()) for p in weights()]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    a, b = RAdam(lr=1e-3, clip=1e9).optimizer(named(ours)), torch.optim.RAdam(theirs)
    grads = [[torch.randn(5, 7, device="cuda") for _ in ours] for _ in range(50)]
    for k, each in enumerate(grads):
        for p, q, g in zip(ours, theirs, each, strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        if k:
            torch.cuda.set_sync_debug_mode("error")
        try:
            a.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        b.step()
    assert all(torch.allclose(p, q, atol=1e-6, rtol=0) for p, q in zip(ours, theirs, strict=True))
    a.load_state_dict(copy.deepcopy(a.state_dict()))
    assert all(s["step"].device.type == "cuda" for s in a.state.values())


@pytest.mark.parametrize("cls", ALL)
def test_clip_limits_the_norm_of_all_gradients_together(cls):
    params = weights()
    optimizer = cls(clip=0.5).optimizer(named(params))
    for size, expected in ((10.0, 0.5), (0.001, None)):
        for p in params:
            p.grad = torch.full_like(p, size)
        before = torch.cat([p.grad.flatten() for p in params]).norm()
        optimizer.step()
        after = torch.cat([p.grad.flatten() for p in params]).norm().item()
        assert after == pytest.approx(expected or before.item(), rel=1e-4)


def test_adamw_decays_weights_and_adam_their_gradients():
    for cls, expected in ((AdamW, 1 - 1e-2 * 0.1), (Adam, None)):
        (p,) = params = weights(1)
        start = p.detach().clone()
        optimizer = cls(lr=1e-2, weight_decay=0.1).optimizer(named(params))
        p.grad = torch.zeros_like(p)
        optimizer.step()
        target = start * expected if expected else start - 1e-2 * start.sign()
        assert torch.allclose(p, target, atol=1e-6)


@pytest.mark.parametrize("cls", ALL)
def test_settings_reach_the_torch_optimizer(cls):
    settings = {"lr": 0.3, "beta1": 0.5, "beta2": 0.7, "eps": 0.1, "weight_decay": 0.2}
    group = cls(**settings).optimizer(named(weights())).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.3, (0.5, 0.7), 0.1, 0.2)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": 0.0}, {"clip": 0.0}, {"warmup_steps": -1}, {"decay": "step"}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError):
        RAdam(**wrong)


def test_rate_rises_to_one_and_falls_to_zero():
    scale = RAdam(warmup_steps=4, decay="linear").lr_scale
    assert [scale(k, 14) for k in (0, 1, 3, 4, 9, 14, 15)] == pytest.approx([0.25, 0.5, 1, 1, 0.5, 0, 0])
    scale = RAdam(decay="cosine").lr_scale
    assert [scale(k, 100) for k in (0, 25, 50, 100)] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, 0])
    assert {RAdam().lr_scale(k, 10) for k in range(11)} == {1.0}


def test_rate_falls_by_the_root_of_steps_from_a_step_on():
    scale = RAdam(decay="inverse-sqrt", decay_steps=100, warmup_steps=10).lr_scale
    assert [scale(k, 500) for k in (4, 10, 100, 400, 900)] == pytest.approx([0.5, 1, 1, 1 / 2, 1 / 3])


def test_warm_up_longer_than_the_training_still_gives_a_rate():
    scale = RAdam(warmup_steps=10, decay="cosine").lr_scale
    assert [scale(k, 5) for k in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_constant_average_warms_up_only_if_asked():
    assert [Constant(decay=0.99).beta(k, 32) for k in (0, 5000)] == [0.99, 0.99]
    warm = Constant(decay=0.99, warmup=True)
    assert [warm.beta(k, 32) for k in (0, 10, 5000)] == pytest.approx([0.1, 11 / 20, 0.99])


def test_weights_count_half_after_the_half_life():
    ema = Halflife(halflife_kimg=1.0)
    assert ema.beta(0, 100) ** 10 == pytest.approx(0.5)


def test_ramp_up_limits_the_half_life_to_a_share_of_the_images_seen():
    ema = Halflife(halflife_kimg=1.0, rampup_ratio=0.05)
    assert ema.beta(0, 100) == 0.0
    assert ema.beta(40, 100) == pytest.approx(0.5 ** (100 / 200))
    assert ema.beta(10_000, 100) == pytest.approx(0.5 ** (100 / 1000))


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_decay_of_the_average_lies_between_zero_and_one(decay):
    with pytest.raises(ValueError):
        Constant(decay=decay)


def test_summaries_are_the_first_lines_of_the_docstrings():
    offered = [*genkit_optim.genkit_optimizer().values(), *genkit_optim.genkit_ema().values()]
    for offer, cls in zip(offered, (*ALL, Constant, Halflife, Power), strict=True):
        assert offer.target == f"{cls.__module__}:{cls.__name__}"
        assert offer.summary == cls.__doc__.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ema.decay=0.99993", "train.steps=400"], "after 400 steps the average still keeps 97% of the weights before"),
        (["ema.decay=0.99", "train.steps=200"], "keeps 13%"),
        (["ema.decay=0.99", "train.steps=240"], ""),  # 0.99^240 = 0.09
        (["ema.decay=0.99993", "train.steps=400", "ema.warmup=true"], ""),
        (["ema.decay=0.99993", "train.steps=400", "evaluate.weights=raw"], ""),
    ],
)
def test_an_average_that_hardly_moves_is_told_before_the_training(words, told):
    """decay^steps of the first weights is left: 0.99993^400 = 0.97."""
    recipe = genkit.load_recipe("ict_digits", ["ema.warmup=false", "evaluate.samples=300", *words])
    found = planning.plan(recipe, device="cpu").notes()
    assert len(found) == bool(told) and all(told in line and "shorten its memory in [ema]" in line for line in found)
