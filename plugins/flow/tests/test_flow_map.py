"""The parameterization and the sampler of flow maps, against closed forms."""

import attrs
import pytest
import torch

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.levels import expand
from genkit.testing import laws

CONTEXT = genkit.Context(spec=genkit.Spec(channels=1, height=2, width=2))
SIGMA = torch.tensor([0.002, 0.3, 1.0, 7.0, 80.0], dtype=torch.float64)
TO = torch.tensor([0.001, 0.0, 0.5, 7.0, 0.02], dtype=torch.float64)


def scalings(times):
    return genkit.build(genkit.component("parameterization", "flow"), attrs.evolve(CONTEXT, times=times))


def flow_map(network):
    return Denoiser(network, scalings(2))


def sampler(**settings):
    return genkit.build(genkit.component("sampler", "flow-map", **settings), CONTEXT)


@pytest.mark.parametrize("settings", [{}, {"spacing": "time", "gamma": 0.6}, {"levels": [3.0, 0.2]}])
def test_the_laws_of_samplers_and_parameterizations(settings):
    laws.check(genkit.component("sampler", "flow-map", **settings))
    laws.check(genkit.component("parameterization", "flow"))


def noisy(count=5):
    return torch.randn(count, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_velocity_becomes_the_jump_that_it_means(gaussian):
    """G of the exact u is the exact map in the units of x = x0 + sigma eps; at to = sigma it is the identity."""
    x = noisy()
    assert torch.allclose(flow_map(gaussian)(x, SIGMA, {}, TO), gaussian.jump(x, SIGMA, TO), rtol=1e-12)
    assert torch.equal(flow_map(gaussian)(x, SIGMA, {}, SIGMA), x)
    assert torch.allclose(flow_map(gaussian)(x, SIGMA), gaussian.jump(x, SIGMA, 0 * SIGMA), rtol=1e-12)


def test_jumps_from_jumps_are_jumps(gaussian):
    x, g = noisy(), flow_map(gaussian)
    between = (SIGMA + TO) / 2
    assert torch.allclose(g(g(x, SIGMA, {}, between), between, {}, TO), g(x, SIGMA, {}, TO), rtol=1e-12)


def test_average_velocities_over_parts_of_a_way_add_up(gaussian):
    z, t, m, r = noisy(1), *torch.tensor([[0.9], [0.6], [0.1]], dtype=torch.float64)
    there = z - (t - m) * gaussian.average_velocity(z, t, m)
    whole = (t - m) * gaussian.average_velocity(z, t, m) + (m - r) * gaussian.average_velocity(there, m, r)
    assert torch.allclose(whole, (t - r) * gaussian.average_velocity(z, t, r), rtol=1e-12)
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    assert torch.allclose(z - gaussian.average_velocity(z, one, zero), gaussian.s * z, rtol=1e-12)


def test_of_one_time_it_is_the_mean_of_the_clean_data(gaussian):
    """D = z - t v, with c_noise = t alone; with it EDM's samplers need nothing new."""
    denoiser = Denoiser(lambda z, t, cond: gaussian.velocity(z, t), scalings(1))  # type: ignore[arg-type]
    x = noisy()
    assert torch.allclose(denoiser(x, SIGMA), x * expand(0.37**2 / (0.37**2 + SIGMA**2), x), rtol=1e-12)


def test_the_network_is_told_both_times_and_sees_the_scaled_sample():
    c = scalings(2)(SIGMA, TO)
    t, r = SIGMA / (1 + SIGMA), TO / (1 + TO)
    assert torch.allclose(c.c_noise, torch.stack([t, t - r], 1)) and torch.allclose(c.c_in, 1 - t)
    assert torch.allclose(c.c_skip, (1 - t) / (1 - r)) and torch.allclose(c.c_out, -(t - r) / (1 - r))
    near = scalings(2)(torch.tensor([80.0]), torch.tensor([79.9]))  # in float32 the gap keeps its digits
    assert near.c_noise[0, 1].item() == pytest.approx(0.1 / 81 / 80.9, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5, [3.0, 0.4]])
def test_sampling_the_exact_map_of_gaussian_data_gives_the_data(gaussian, steps, gamma):
    z = [torch.randn(100_000, 1, 1, 1, generator=torch.Generator().manual_seed(i)) for i in range(7)]
    x = sampler(gamma=gamma)(flow_map(gaussian), lambda j: z[j], {}, steps)
    assert x.std().item() == pytest.approx(gaussian.s, rel=0.01)
    if not gamma:  # nothing is added: the path of the first draw
        assert torch.allclose(x, gaussian.jump(80 * z[0], torch.tensor([80.0]), torch.tensor([0.0])), atol=1e-5)


def chain(steps, **settings):
    """(level, next level) of each jump."""
    seen = []

    def jump(x, s, cond, to):
        seen.append((s.item(), to.item()))
        return x

    sampler(**settings)(jump, lambda j: torch.ones(1), {}, steps)
    return seen


def test_each_jump_starts_where_the_last_one_ended_and_the_last_one_ends_at_0():
    assert chain(3, levels=[5.0, 0.5]) == [(80.0, 5.0), (5.0, 0.5), (0.5, 0.0)]
    karras = CONTEXT.levels.sigmas(5).flip(0)[:4].tolist()
    assert [s for s, _ in chain(4)] == pytest.approx(karras)
    even = [s / (1 + s) for s, _ in chain(4, spacing="time")]
    assert even == pytest.approx([80 / 81 * share for share in (1, 0.75, 0.5, 0.25)])


def test_with_new_noise_a_jump_goes_below_the_next_level_by_as_much_as_is_added():
    (_, first), (second, last) = chain([5.0], gamma=0.6)
    assert (first, second, last) == (pytest.approx(0.8 * 5), 5.0, 0.0)
    out = sampler(gamma=0.6)(lambda x, s, cond, to: x, lambda j: torch.full((1,), 1.0 + j), {}, [5.0])
    assert out.item() == pytest.approx(80 * 1 + 0.6 * 5 * 2)


@pytest.mark.parametrize("steps", [[90.0], [0.5, 0.8], [0.001], 0])
def test_levels_that_rise_or_leave_the_range_are_refused(steps):
    with pytest.raises(RecipeError):
        sampler().nfe(steps)
