"""Claims about EDM's networks: they equal the published ones, number by number."""

from __future__ import annotations

import zlib

import attrs
import pytest
import torch
import torch.nn.functional as F

from genkit.errors import GenkitError
from genkit.kinds import Context, Spec
from genkit.levels import Levels
from genkit_unets.blocks import Attention, Block, Fourier, Style, unit
from genkit_unets.convert import _names, from_edm
from genkit_unets.edm import Adm, Ddpmpp, Ncsnpp
from genkit_unets.embeddings import Labels, Positional
from genkit_unets.resample import Resample, Shrink
from genkit_unets.unet import UNet

FIR = (1.0, 3.0, 3.0, 1.0)


def context(channels=3, size=32, classes=0, device="cpu", width=None, seed=0):
    spec = Spec(channels=channels, height=size, width=width or size, classes=classes)
    return Context(spec=spec, device=device, seed=seed)


@pytest.mark.parametrize(
    ("network", "size", "classes", "count"),
    [
        (Ncsnpp(), 32, 0, 56_395_523),
        (Ncsnpp(num_blocks=8), 32, 0, 97_610_499),
        (Ddpmpp(), 32, 0, 55_732_739),
        (Ddpmpp(), 32, 10, 55_734_147),
        (Adm(), 64, 1000, 295_899_267),
        (Adm(scale_shift_norm=False), 64, 1000, 282_168_003),
        (Adm(scale_shift_norm=False, num_blocks=6), 64, 1000, 472_767_555),
    ],
)
def test_defaults_have_as_many_weights_as_the_published_networks(network, size, classes, count):
    net = network.build(context(size=size, classes=classes, device="meta"))
    assert sum(p.numel() for p in net.parameters()) == count
    assert all(t.is_meta for t in net.state_dict().values())


# ---- equality with the published code ----------------------------------------------------------
#
# EDM's training/networks.py (github.com/NVlabs/edm, commit 008a4e5) was run on the weights that `filled`
# gives for its own names and shapes, dropout 0, on `picture`, c_noise [-1.5, 0.1, 1] and labels [0, 1, none];
# the loss was mean(out^2). Below stand out[:, 0, 2, 3], the norm of out, and the norms of gradients by EDM's
# names. `adm-ict` had adaptive_scale=False in its blocks.

PUBLISHED = {
    "ncsnpp": (
        Ncsnpp(model_channels=12, channel_mult=(1, 3, 2), num_blocks=1, attn_resolutions=(8, 16)),
        context(1, 16, 5),
        [-0.541165, -0.419783, -0.776031],
        17.16445,
        {
            "x": 0.032358,
            "map_label.weight": 0.15118,
            "map_layer0.weight": 0.52258,
            "enc.16x16_conv.weight": 0.2029,
            "enc.8x8_down.conv0.weight": 0.24837,
            "enc.8x8_aux_residual.weight": 0.014186,
            "enc.4x4_down.conv0.weight": 0.13349,
            "enc.4x4_aux_residual.weight": 0.082622,
            "dec.4x4_in0.qkv.weight": 0.036468,
            "dec.4x4_in1.affine.weight": 0.0121,
            "dec.8x8_up.skip.weight": 0.089781,
            "dec.16x16_up.skip.weight": 0.81665,
            "dec.16x16_aux_conv.weight": 3.8916,
        },
    ),
    "ddpmpp": (
        Ddpmpp(model_channels=20, channel_mult=(1, 2, 3), num_blocks=2, attn_resolutions=(8,)),
        context(3, 16),
        [-1.016855, -0.317117, -0.594721],
        30.06455,
        {
            "x": 0.02332,
            "map_layer0.weight": 0.093852,
            "enc.16x16_conv.weight": 0.13915,
            "enc.8x8_down.conv0.weight": 0.068484,
            "enc.4x4_down.conv0.weight": 0.047496,
            "dec.4x4_in0.qkv.weight": 0.010076,
            "dec.4x4_in1.affine.weight": 0.0031448,
            "dec.8x8_up.skip.weight": 0.017357,
            "dec.16x16_up.skip.weight": 0.086115,
            "dec.16x16_aux_conv.weight": 2.611,
        },
    ),
    "adm": (
        Adm(model_channels=64, channel_mult=(1, 3), num_blocks=1, attn_resolutions=(4,)),
        context(3, 8, 4),
        [-0.689969, -0.128527, -0.108822],
        12.26859,
        {
            "x": 0.042853,
            "map_layer0.weight": 0.20134,
            "map_label.weight": 0.052514,
            "enc.8x8_conv.weight": 0.15002,
            "enc.4x4_down.conv0.weight": 0.81187,
            "dec.4x4_in0.qkv.weight": 0.47567,
            "dec.4x4_in1.affine.weight": 0.14744,
            "out_conv.weight": 3.3269,
        },
    ),
    "adm-ict": (
        Adm(model_channels=32, channel_mult=(4, 2), num_blocks=1, attn_resolutions=(8,), scale_shift_norm=False),
        context(1, 8),
        [-0.157847, 0.690157, -0.224336],
        5.62334,
        {
            "x": 0.055146,
            "map_layer0.weight": 0.074729,
            "enc.8x8_conv.weight": 0.15684,
            "enc.4x4_down.conv0.weight": 0.45596,
            "dec.4x4_in0.qkv.weight": 0.0614,
            "dec.4x4_in1.affine.weight": 0.017188,
            "out_conv.weight": 1.938,
        },
    ),
}


def filled(name, shape):
    """A tensor that anyone can make again: integers (i (i + phase)) mod 1009, the phase from the name."""
    i = torch.arange(torch.Size(shape).numel())
    u = ((i * (i + zlib.crc32(name.encode()) % 1000)) % 1009 / 504.5 - 1).reshape(shape)
    if len(shape) == 1:
        return (1 + 0.3 * u if name.endswith("weight") else u if name.endswith("freqs") else 0.3 * u).float()
    return (u * (2.5 / u[0].numel()) ** 0.5).float()


def published(net):
    """Weights as EDM would store them, for a network of ours."""
    names, weights = _names(net), {}
    for name, mine in net.state_dict().items():
        module, _, leaf = name.rpartition(".")
        shape = mine.shape[::-1] if name == "conditioning.label.weight" else mine.shape
        weights[f"{names[module]}.{leaf}"] = filled(f"{names[module]}.{leaf}", shape)
    return weights


def gradients(net):
    """Gradient norms by EDM's names."""
    names = _names(net)
    split = {name: name.rpartition(".") for name, _ in net.named_parameters()}
    return {f"{names[m]}.{leaf}": net.get_parameter(n).grad.norm().item() for n, (m, _, leaf) in split.items()}


@pytest.mark.parametrize("case", PUBLISHED)
def test_outputs_and_gradients_equal_those_of_the_published_code(case):
    network, told, pixels, size, norms = PUBLISHED[case]
    net = network.build(told)
    net.load_state_dict(from_edm(published(net), net), strict=True)
    shape = (3, *told.spec.shape)
    picture = (torch.arange(torch.Size(shape).numel()) ** 2 % 1009 / 504.5 - 1).float().reshape(shape)
    x, label = picture.requires_grad_(), torch.tensor([0, 1, told.spec.classes])
    out = net(x, torch.tensor([-1.5, 0.1, 1.0]), {"label": label} if told.spec.classes else {})
    out.square().mean().backward()
    assert (out[:, 0, 2, 3] - torch.tensor(pixels)).abs().max() < 2e-5
    assert out.norm().item() == pytest.approx(size, rel=1e-5)
    found = {"x": x.grad.norm().item(), **gradients(net)}
    assert {name: found[name] for name in norms} == pytest.approx(norms, rel=1e-3)


@pytest.fixture(scope="module")
def tiny():
    return Ncsnpp(model_channels=8, channel_mult=(1, 2), num_blocks=1).build(context(size=8, classes=3))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda w: w.pop("enc.8x8_block0.conv1.bias"), "enc.8x8_block0.conv1.bias: missing"),
        (lambda w: w.update({"dec.8x8_block9.skip.weight": torch.zeros(1)}), "dec.8x8_block9.skip.weight: .* no place"),
        (lambda w: w.update({"map_label.weight": torch.zeros(16, 4)}), r"map_label.weight: shape \(16, 4\)"),
        (lambda w: w.update({"map_label.bias": torch.zeros(())}), r"map_label.bias: shape \(\)"),
        (lambda w: w.update({"dec.4x4_in0.qkv.bias": torch.zeros(50)}), r"dec.4x4_in0.qkv.bias: shape \(50,\)"),
        (lambda w: w.update({"enc.4x4_down.skip.resample_filter": torch.ones(1, 1, 2, 2) / 4}), "another filter"),
    ],
)
def test_conversion_names_the_tensor_that_does_not_fit_in_one_line(tiny, spoil, named):
    weights = published(tiny)
    from_edm(weights, tiny)
    spoil(weights)
    with pytest.raises(GenkitError, match=named) as caught:
        from_edm(weights, tiny)
    assert "\n" not in str(caught.value)


def test_conversion_takes_the_filters_and_the_unused_augmentation_of_published_files(tiny):
    line = torch.tensor(FIR) / 8
    extra = {"enc.4x4_down.conv0.resample_filter": torch.outer(line, line)[None, None]}
    state = from_edm({**published(tiny), **extra, "map_augment.weight": torch.zeros(16, 9)}, tiny)
    tiny.load_state_dict(state, strict=True)


# ---- embeddings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embed", "expected"),
    [
        (lambda: Fourier(256, 16.0, 1, torch.Generator().manual_seed(0)), 1.1e-1),
        (lambda: Fourier(256, 1.0, 1, torch.Generator().manual_seed(0)), 6.3e-3),
        (lambda: Fourier(256, 0.02, 1, torch.Generator().manual_seed(0)), 1.1e-4),
        (lambda: Positional(192, 1, endpoint=False), 1.5e-4),
    ],
    ids=["fourier-16", "fourier-1", "fourier-0.02", "positional"],
)
def test_embedding_tells_neighbouring_levels_apart_as_much_as_its_scale_says(embed, expected):
    emb = embed().double()(Levels().sigmas(1281).log() / 4)  # c_noise
    assert emb.diff(dim=0).abs().mean().item() == pytest.approx(expected, rel=0.2)


def test_positional_frequencies_reach_a_ten_thousandth_with_endpoint_only():
    ends = [Positional(8, 1, endpoint).freqs for endpoint in (True, False)]
    assert torch.allclose(ends[0], torch.tensor([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4]))
    assert torch.allclose(ends[1], torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_labels_are_a_linear_layer_on_one_hot_vectors_and_none_is_the_zero_vector():
    layer = Labels(4, 6, scale=2.0, bias=True)
    torch.nn.init.normal_(layer.bias)
    label = torch.tensor([2, 0, 4])
    one_hot = 2.0 * F.one_hot(label, 5)[:, :4].float()
    assert torch.allclose(layer(label, 3), one_hot @ layer.weight + layer.bias)
    assert torch.equal(layer(None, 2), layer(torch.tensor([4, 4]), 2))
    with pytest.raises(IndexError):
        layer(torch.tensor([5]), 1)


def test_conditioning_sees_neighbouring_levels_under_bf16(tiny):
    c = torch.tensor([-1.0, -1.0 + 1e-3])
    with torch.autocast("cpu", torch.bfloat16):
        emb = tiny.conditioning(c, {})
    assert emb.dtype == torch.float32
    assert torch.equal(emb, tiny.conditioning(c, {}))
    assert not torch.equal(emb[0], emb[1])


# ---- resampling --------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [(1, 1), FIR, (1, 2, 3, 3, 2, 1)])
def test_halving_is_the_filter_at_every_second_pixel_and_doubling_is_its_transpose(taps):
    x, y = torch.randn(2, 3, 8, 12).double(), torch.randn(2, 3, 4, 6).double()
    down, up = Resample(taps).double()(x), Resample(taps, up=True).double()(y)
    line, margin = torch.tensor(taps) / sum(taps), len(taps) // 2 - 1
    slow = F.conv2d(x.reshape(6, 1, 8, 12), torch.outer(line, line)[None, None].double(), padding=margin)
    assert torch.allclose(down, slow[:, :, ::2, ::2].reshape(2, 3, 4, 6), atol=1e-6)
    assert (down * y).sum() == pytest.approx((x * up).sum().item() / 4, rel=1e-5)


def test_box_filter_is_the_mean_of_pixels_and_their_repetition():
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(Resample((2.0, 2.0), up=True)(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(Resample((1.0, 1.0))(x), x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))


@pytest.mark.parametrize("taps", [(1.0, 1.0), FIR])
def test_filters_keep_constant_pictures_away_from_the_edges(taps):
    x = torch.full((1, 1, 8, 8), 3.0)
    for up in (False, True):
        assert torch.allclose(Resample(taps, up)(x)[:, :, 1:-1, 1:-1], torch.tensor(3.0))


def test_shrink_convolves_pictures_surrounded_by_zeros_and_filters_what_comes_out():
    layer = Shrink(2, 5, FIR, Style())
    x, line = torch.randn(1, 2, 8, 8), torch.tensor(FIR) / 8
    wide = F.conv2d(F.pad(x, (2, 2, 2, 2)), layer.conv.weight, layer.conv.bias)
    kernel = torch.outer(line, line).expand(5, 1, 4, 4)
    assert torch.allclose(layer(x), F.conv2d(wide, kernel, stride=2, groups=5), atol=1e-6)
    assert layer(x).shape == (1, 5, 4, 4)


# ---- blocks and settings -----------------------------------------------------------------------


def test_scale_and_shift_act_after_the_second_norm():
    block = Block(8, 8, 4, scale_shift=True, style=Style(sum=1.0, quiet=1.0))
    x, emb = torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    scale, shift = block.shift(emb)[:, :, None, None].chunk(2, 1)
    h = block.norm1(block.conv0(F.silu(block.norm0(x)))) * (1 + scale) + shift
    assert torch.allclose(block(x, emb), x + block.conv1(F.silu(h)), atol=1e-6)


def test_double_norm_bounds_scale_and_shift_whatever_the_weights():
    block = Block(8, 8, 4, double_norm=True, style=Style(sum=1.0, quiet=1.0))
    with torch.no_grad():
        block.shift.weight.mul_(1e3)
    x, emb = torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    scale, shift = block.shift(emb).chunk(2, 1)
    by, to = ((v / v.square().mean(1, keepdim=True).sqrt())[:, :, None, None] for v in (1 + scale, shift))
    h = block.norm1(block.conv0(F.silu(block.norm0(x)))) * by + to
    assert torch.allclose(block(x, emb), x + block.conv1(F.silu(h)), atol=1e-5)


@pytest.mark.parametrize("network", [UNet(model_channels=8), Ddpmpp(model_channels=8), Adm(model_channels=8)])
def test_double_norm_is_in_every_block_where_it_is_asked_for(network):
    for asked in (False, True):
        blocks = [
            m for m in attrs.evolve(network, double_norm=asked).build(context()).modules() if isinstance(m, Block)
        ]
        assert len(blocks) > 5 and {block.double_norm for block in blocks} == {asked}
        assert {block.scale_shift for block in blocks} == {asked or isinstance(network, Adm)}


def test_query_key_norm_bounds_the_logits_whatever_the_weights():
    x = torch.randn(3, 5, 16)
    assert torch.allclose(unit(1e3 * x), unit(x), atol=1e-5)
    assert torch.allclose(unit(x).square().mean(-1), torch.ones(3, 5), atol=1e-5)
    plain, normed = (Attention(8, qk_norm=on, style=Style(quiet=1.0)) for on in (False, True))
    normed.load_state_dict(plain.state_dict())
    x = torch.randn(1, 8, 4, 4)
    before = plain(x), normed(x)
    with torch.no_grad():
        for layer in (plain, normed):
            layer.qkv.weight[:16] *= 5.0  # queries and keys
    assert not torch.allclose(plain(x), before[0], atol=1e-3)
    assert torch.allclose(normed(x), before[1], atol=1e-5)


@pytest.mark.parametrize(("limit", "dropped"), [(None, {8, 4, 2}), (4, {4, 2}), (1, set())])
def test_dropout_is_at_the_resolutions_asked_for_only(limit, dropped, monkeypatch):
    network = Adm(model_channels=8, channel_mult=(1, 1, 1), num_blocks=1, dropout=0.5, dropout_max_resolution=limit)
    net, seen, true = network.build(context(size=8)), set(), torch.native_dropout

    def spy(x, p, training):
        seen.add(x.shape[2])
        return true(x, p, training)

    monkeypatch.setattr(torch, "native_dropout", spy)
    net(torch.randn(1, 3, 8, 8), torch.zeros(1), {})
    assert seen == dropped


@pytest.mark.parametrize(("cls", "heights"), [(Ncsnpp, [8, 4, 8]), (Adm, [8, 8, 4, 8, 8, 8])])
def test_attention_stands_where_the_published_networks_have_it(cls, heights):
    # on the way down after each block at 8, in the middle once, on the way up after the last or after each
    blocks = {Ncsnpp: 1, Adm: 2}[cls]
    net = cls(model_channels=8, channel_mult=(1, 1), num_blocks=blocks, attn_resolutions=(8,)).build(context(size=8))
    seen = []
    for module in net.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda module, args, out: seen.append(out.shape[2]))
    net(torch.randn(1, 3, 8, 8), torch.zeros(1), {})
    assert seen == heights


@pytest.mark.parametrize(("channels", "per_head", "heads"), [(128, 64, 2), (96, 64, 1), (32, 64, 1), (160, 64, 2)])
def test_channels_per_head_give_the_published_number_of_heads(channels, per_head, heads):
    assert channels // Adm(channels_per_head=per_head).head(channels) == heads


@pytest.mark.parametrize(
    ("network", "size", "named"),
    [
        (Ncsnpp(channel_mult=(1, 1, 1, 1)), 28, "network.channel_mult: level 4 cannot halve 7x7"),
        (Ddpmpp(model_channels=9), 8, "network.model_channels: 9 channels of c_noise are odd"),
        (Adm(model_channels=200, channel_mult=(1,)), 8, "network.channels_per_head: 64 .* 3 heads of 200"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_that_names_the_setting(network, size, named):
    with pytest.raises(GenkitError, match=named) as caught:
        network.build(context(size=size))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"resample_filter": (1.0, 2.0, 1.0)}, {"resample_filter": ()}, {"encoder": "skip"}, {"decoder": "skip"}],
)
def test_settings_are_checked(settings):
    with pytest.raises(ValueError):
        Ncsnpp(**settings)


@pytest.mark.parametrize(("dtype", "within"), [(torch.bfloat16, 3e-2), (torch.float16, 5e-3)])
@pytest.mark.parametrize("cls", [Ncsnpp, Ddpmpp, Adm])
def test_outputs_and_gradients_are_finite_and_close_at_all_levels_under_autocast(cls, dtype, within):
    net = cls(model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,), channels_per_head=8)
    net = net.build(context(size=8))
    net.load_state_dict(from_edm(published(net), net))
    sigma = torch.tensor([0.002, 0.5, 80.0])
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype):
        out = net(x, sigma.log() / 4, {})
    out.float().square().mean().backward()
    assert out.dtype == dtype
    assert all(p.grad.isfinite().all() for p in net.parameters())
    exact = net(x, sigma.log() / 4, {})
    assert (out.float() - exact).norm() < within * exact.norm()


@pytest.mark.parametrize("cls", [Ncsnpp, Adm])
def test_conditioning_compiles_without_a_graph_break(cls):
    layer = cls(model_channels=8, channel_mult=(1,), num_blocks=1).build(context(size=8, classes=3)).conditioning
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    cond = {"label": torch.tensor([0, 3])}
    assert torch.allclose(compiled(torch.zeros(2), cond), layer(torch.zeros(2), cond), atol=1e-6)


@pytest.mark.parametrize("cls", [Ncsnpp, Ddpmpp, Adm])
def test_samples_need_not_be_square(cls):
    net = cls(model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,), channels_per_head=8)
    net = net.build(context(size=8, width=12)).eval()
    x = torch.randn(2, 3, 8, 12)
    assert net(x, torch.zeros(2), {}).shape == x.shape


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cls", [Ncsnpp, Ddpmpp, Adm, UNet])
def test_layers_compute_with_channels_last_and_pictures_leave_as_they_came(cls, channels):
    net = cls(model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,))
    net = net.build(Context(spec=Spec(channels=channels, height=8, width=8))).eval()
    orders = []
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.GroupNorm):
            layer.register_forward_hook(lambda _layer, _in, out: orders.append(out.stride(1)))
    with torch.no_grad():
        net.out.weight.normal_()
        x, c = torch.randn(2, channels, 8, 8), torch.zeros(2)
        out = net(x, c, {})
        assert set(orders) == {1}
        assert out.is_contiguous()
        assert torch.equal(net(x.to(memory_format=torch.channels_last), c, {}), out)


def test_without_the_residual_encoder_the_picture_enters_at_the_top_only():
    made = {
        e: Ncsnpp(model_channels=8, num_blocks=1, encoder=e).build(context(size=8)) for e in ("standard", "residual")
    }
    assert [len(net.pictures) for net in made.values()] == [0, 2]
    net = made["residual"]
    with torch.no_grad():
        net.stem.weight.zero_()
        net.out.weight.normal_()
    x = torch.randn(1, 3, 8, 8)
    assert (net(x, torch.zeros(1), {}) - net(0 * x, torch.zeros(1), {})).abs().max() > 1e-3
