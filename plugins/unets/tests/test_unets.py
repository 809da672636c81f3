"""Claims about the networks."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import genkit
from genkit.denoiser import jvp
from genkit.errors import GenkitError
from genkit.keys import Key
from genkit.kinds import Context, Spec
from genkit_unets.blocks import Attention, Block, Embedding, norm
from genkit_unets.constant import Constant
from genkit_unets.edm import Adm, Ddpmpp, Ncsnpp
from genkit_unets.mlp import Mlp
from genkit_unets.unet import UNet

SMALL = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": (4,)}
NETWORKS = [
    pytest.param(Ncsnpp(**SMALL, fourier_scale=0.3), id="ncsnpp"),
    pytest.param(Ddpmpp(**SMALL), id="ddpmpp"),
    pytest.param(Adm(**SMALL, channels_per_head=8), id="adm"),
    pytest.param(Adm(**SMALL, channels_per_head=8, scale_shift_norm=False, qk_norm=True), id="adm-qk"),
    pytest.param(UNet(model_channels=8, num_blocks=1, attn_resolutions=(4,)), id="unet"),
    pytest.param(UNet(model_channels=8, num_blocks=1, attn_resolutions=(4,), double_norm=True), id="unet-double-norm"),
    pytest.param(Mlp(width=16), id="mlp"),
]


def context(channels=1, size=8, classes=0, seed=0, width=None):
    return Context(spec=Spec(channels=channels, height=size, width=width or size, classes=classes), seed=seed)


def awake(net, seed=0):
    """The network with every weight away from zero, so that nothing is hidden by a zero layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)
    return net


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "mult"), [(1, (1, 2)), (8, (1, 2)), (28, (1, 2, 2)), (32, (1, 1, 2)), (64, (1, 2))])
def test_unet_keeps_the_shape_of_its_samples(channels, size, mult):
    net = awake(UNet(model_channels=8, channel_mult=mult, num_blocks=1).build(context(channels, size)))
    x = torch.randn(2, channels, size, size)
    out = net(x, torch.tensor([-1.0, 1.0]), {})
    assert out.shape == x.shape
    assert out.std() > 0


def test_unet_levels_halve_until_a_side_is_one():
    seen = []
    net = UNet(model_channels=8, channel_mult=(1, 1, 1, 1), num_blocks=1).build(context(size=4))
    for stages in net.down:
        stages[0].register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    net(torch.randn(1, 1, 4, 4), torch.zeros(1), {})
    assert seen == [4, 2, 1, 1]


def test_unet_takes_samples_that_are_not_square():
    net = awake(UNet(model_channels=8, num_blocks=1).build(context(size=8, width=12)))
    assert net(torch.randn(2, 1, 8, 12), torch.zeros(2), {}).shape == (2, 1, 8, 12)


@pytest.mark.parametrize(
    ("settings", "size", "named"),
    [
        ({"channel_mult": (1, 2, 2, 2)}, 28, "network.channel_mult: level 4 cannot halve 7x7"),
        ({"attn_resolutions": (16,)}, 8, "network.attn_resolutions: no level is 16"),
        ({"model_channels": 9}, 8, "network.model_channels: 9 is odd"),
    ],
)
def test_unet_refuses_what_cannot_be_in_one_line_that_names_the_setting(settings, size, named):
    with pytest.raises(GenkitError, match=named) as caught:
        UNet(**settings).build(context(size=size))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"channel_mult": ()}, {"num_blocks": 0}, {"dropout": 1.0}])
def test_unet_checks_its_settings(settings):
    with pytest.raises(ValueError):
        UNet(**settings)


@pytest.mark.parametrize("network", NETWORKS)
def test_initial_weights_are_a_function_of_the_seed_alone(network):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = network.build(context(classes=3)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = network.build(context(classes=3)).state_dict()
    other = network.build(context(classes=3, seed=1)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name, t in first.items() if t.min() < t.max() and "norm" not in name]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("network", NETWORKS)
def test_network_starts_near_zero_and_all_its_weights_come_to_learn(network):
    net = network.build(context(classes=3))
    x, c, cond = torch.randn(16, 1, 8, 8), torch.randn(16), {"label": torch.arange(16) % 4}
    assert net(x, c, cond).abs().max() < 1e-4
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        (net(x, c, cond) - x).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_network_sees_noise_level_and_label_and_none_means_the_last_index(network):
    net = awake(network.build(context(classes=3))).eval()
    x, c = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1), torch.zeros(4)
    out = net(x, c, {"label": torch.arange(4)})
    assert (out[1:] - out[:-1]).flatten(1).abs().amax(1).min() > 1e-4
    assert torch.allclose(net(x, c, {})[0], out[3], atol=1e-5)
    assert (net(x, c + 1, {}) - net(x, c, {})).abs().max() > 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_c_noise_may_have_several_times_and_each_counts(network):
    told = attrs.evolve(context(), times=2)
    net = awake(attrs.evolve(network, fourier_scale=0.5).build(told)).eval()
    x, c = torch.randn(3, 1, 8, 8), torch.zeros(3, 2)
    first, second = (net(x, c + torch.tensor(by), {}) for by in ([1.0, 0.0], [0.0, 1.0]))
    assert (first - net(x, c, {})).abs().max() > 1e-4
    assert (first - second).abs().max() > 1e-4


def test_a_recipe_from_when_networks_were_set_to_one_time_is_read_as_before():
    assert genkit.component("network", "unet", times=1) == UNet()
    with pytest.raises(GenkitError, match="unknown key 'times' of unet"):
        genkit.component("network", "unet", times=2)


@pytest.mark.parametrize("network", NETWORKS)
def test_samples_do_not_mix(network):
    net = awake(network.build(context())).eval()
    x, c = torch.randn(4, 1, 8, 8), torch.randn(4)
    assert torch.allclose(net(x, c, {})[2:3], net(x[2:3], c[2:3], {}), atol=1e-5)


class Along:
    """A network in training, half of its features dropped by one key's masks, and its derivative in x and c_noise."""

    def __init__(self, network, dtype=torch.float32):
        settings = {"dropout": 0.5} if hasattr(network, "dropout") else {}
        self.net = awake(attrs.evolve(network, **settings).build(context(channels=3))).train().to(dtype)
        generator = torch.Generator().manual_seed(0)
        (x, dx), (c, dc) = (torch.randn(2, 4, *shape, generator=generator).to(dtype) for shape in ((3, 8, 8), ()))
        self.at, self.along, self.key = (x, c), (dx, dc), Key(0)

    def __call__(self, x, c):
        with self.key.reseeded("cpu"):
            return self.net(x, c, {})

    def forward(self):
        return jvp(self, self.at, self.along)

    def alone(self):
        with sdpa_kernel(SDPBackend.MATH):
            return self(*self.at)


ALL = [*NETWORKS, pytest.param(Constant(), id="constant")]
DROP = [network for network in NETWORKS if network.id != "mlp"]


@pytest.mark.parametrize("network", ALL)
def test_forward_mode_is_a_finite_difference_with_features_dropped(network):
    net, h = Along(network, torch.float64), 1e-5
    ahead, behind = (net(*(t + s * h * d for t, d in zip(net.at, net.along, strict=True))) for s in (1, -1))
    _, along = net.forward()
    assert torch.allclose(along, (ahead - behind) / (2 * h), atol=1e-6)
    assert along.abs().max() > 1e-3 or isinstance(network, Constant)


@pytest.mark.parametrize("network", ALL)
def test_forward_mode_in_one_argument_alone_is_its_share(network):
    net = Along(network, torch.float64)
    (x, c), (dx, dc) = net.at, net.along
    in_x, in_c = jvp(lambda x: net(x, c), (x,), (dx,))[1], jvp(lambda c: net(x, c), (c,), (dc,))[1]
    assert torch.allclose(in_x + in_c, net.forward()[1], atol=1e-9)


@pytest.mark.parametrize("network", ALL)
def test_forward_mode_gives_the_value_of_a_plain_call_under_the_same_key(network):
    net = Along(network)
    value, _ = net.forward()
    assert torch.allclose(value, net.alone(), atol=1e-5)  # bit for bit from torch 2.14 on
    assert torch.allclose(value, net(*net.at), atol=1e-5)


@pytest.mark.parametrize("network", DROP)
def test_forward_mode_under_another_key_drops_other_features(network):
    net = Along(network)
    value, _ = net.forward()
    net.key = Key(1)
    assert (net.forward()[0] - value).abs().max() > 0.01


@pytest.mark.parametrize("network", ALL)
def test_forward_mode_under_bf16_is_the_plain_value_with_a_derivative_within_6_percent(network):
    net = Along(network)
    value, exact = net.forward()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            low, along = net.forward()
        plain = net.alone()
    assert (low - plain).norm() < 0.01 * plain.norm()
    assert (low - value).norm() < 0.05 * value.norm()
    assert (along - exact).norm() <= 0.06 * exact.norm()
    plain.float().square().mean().backward()  # what was cast to bf16 without gradient is not what is trained
    assert all(p.grad is not None for p in net.net.parameters())


@pytest.mark.parametrize("network", ALL)
def test_forward_mode_of_a_micro_batch_is_its_rows_of_the_whole(network):
    net = Along(network)
    net.net.eval()  # masks are a micro-batch's own
    whole = net.forward()
    part = jvp(net, tuple(t[:2] for t in net.at), tuple(t[:2] for t in net.along))
    assert all(torch.allclose(few, all_[:2], atol=1e-5) for few, all_ in zip(part, whole, strict=True))


@pytest.mark.parametrize("network", ALL)
def test_all_weights_learn_from_the_derivative(network):
    net = Along(network, torch.float64)
    value, along = net.forward()
    (value + along).square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in net.net.parameters())


def test_a_compiled_network_runs_uncompiled_in_forward_mode():
    net = Along(UNet(model_channels=8, num_blocks=1, attn_resolutions=(4,)))
    eager, bare = net.forward(), net.net
    net.net = torch.compile(bare, backend="aot_eager", fullgraph=True)
    for _ in range(2):  # before it was compiled, and after
        assert all(torch.equal(a, b) for a, b in zip(net.forward(), eager, strict=True))
        assert torch.allclose(net(*net.at), eager[0], atol=1e-5)


def test_forward_mode_takes_numbers_that_share_memory():
    one = torch.ones(1)
    value, along = jvp(lambda t, r: t * r, (2 * one.expand(3), one.expand(3)), (one.expand(3), torch.zeros(3)))
    assert torch.equal(value, torch.full((3,), 2.0)) and torch.equal(along, torch.ones(3))


SMALLEST = {"model_channels": 8, "channel_mult": (1, 1), "num_blocks": 1, "attn_resolutions": ()}


@pytest.mark.parametrize(
    ("network", "labels"),
    [
        pytest.param(UNet(model_channels=8, num_blocks=1, attn_resolutions=(4,)), ([], [0, 3]), id="unet"),
        pytest.param(Mlp(width=16), ([], [0, 3]), id="mlp"),
        pytest.param(Ncsnpp(**SMALLEST, scale_shift_norm=True, qk_norm=True), ([0, 3],), id="ncsnpp"),
    ],
)
def test_compiles_without_a_graph_break(network, labels):
    net = awake(network.build(context(classes=3)))
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x, c = torch.randn(2, 1, 8, 8), torch.randn(2)
    for label in labels:
        cond = {"label": torch.tensor(label)} if label else {}
        assert torch.allclose(compiled(x, c, cond), net(x, c, cond), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_bf16_autocast_is_finite_and_within_3_percent_at_all_levels(network):
    net = awake(network.build(context())).eval()
    sigma = torch.logspace(-2.7, 1.91, 16)  # 0.002 to 81
    x = torch.randn(16, 1, 8, 8)  # as c_in makes it
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x, sigma.log() / 4, {}).float()
    exact = net(x, sigma.log() / 4, {})
    assert low.isfinite().all()
    assert (low - exact).norm() < 0.03 * exact.norm()


def test_dropout_is_on_in_training_only():
    net = awake(UNet(model_channels=8, num_blocks=1, dropout=0.3).build(context()))
    x, c = torch.randn(2, 1, 8, 8), torch.zeros(2)
    assert not torch.equal(net(x, c, {}), net(x, c, {}))
    net.eval()
    assert torch.equal(net(x, c, {}), net(x, c, {}))


def test_embedding_is_of_the_c_noise_that_float32_gives_whatever_the_autocast():
    embedding = Embedding(16, 16, 0.02, context()).fourier
    c = torch.tensor([1.0, 1.0001])
    with torch.autocast("cpu", torch.bfloat16):
        out = embedding(c)
    angles = 2 * torch.pi * c[:, None] * embedding.freqs
    assert torch.allclose(out, torch.cat([angles.cos(), angles.sin()], 1))
    assert not torch.equal(out[0], out[1])


@pytest.mark.parametrize(("channels", "groups"), [(6, 1), (14, 2), (16, 4), (48, 12), (140, 28), (256, 32)])
def test_norm_has_at_most_32_groups_that_divide_the_channels(channels, groups):
    assert norm(channels).num_groups == groups


def test_fresh_block_is_its_skip_over_the_root_of_two():
    x = torch.randn(2, 8, 4, 4)
    assert torch.allclose(Block(8, 8, 16)(x, torch.randn(2, 16)), x / 2**0.5)


def test_attention_is_the_published_formula():
    layer = awake(Attention(8))
    x = torch.randn(2, 8, 3, 3)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).chunk(3, 1)
    weights = (q.transpose(1, 2) @ k / 8**0.5).softmax(2)
    expected = (x + layer.out((v @ weights.transpose(1, 2)).reshape(x.shape))) / 2**0.5
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_attention_of_several_heads_lets_each_see_its_own_channels():
    layer = awake(Attention(128))
    x = torch.randn(1, 128, 2, 2)
    qkv = layer.qkv(layer.norm(x)).flatten(2)
    heads = []
    for i in range(2):
        q, k, v = (qkv[:, 128 * j + 64 * i : 128 * j + 64 * (i + 1)] for j in range(3))
        heads.append(v @ (q.transpose(1, 2) @ k / 8.0).softmax(2).transpose(1, 2))
    expected = (x + layer.out(torch.cat(heads, 1).reshape(x.shape))) / 2**0.5
    assert torch.allclose(layer(x), expected, atol=1e-4)
