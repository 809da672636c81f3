"""Published files: faithful look-alikes of EDM's and ECT's pickles and OpenAI's tables become networks of ours."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import sys
import tomllib
import types
from collections import OrderedDict
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch import nn

import genkit
from genkit import cli
from genkit.data import weights
from genkit.denoiser import Denoiser, Program
from genkit.errors import DataError
from genkit.kinds import Context, Source, Spec
from genkit.runs import models
from genkit_unets.convert import _names, _names_openai, from_openai
from genkit_unets.edm import Adm, Ddpmpp, Ncsnpp
from genkit_unets.mlp import Mlp
from genkit_unets.published import openai_cm
from genkit_unets.unet import UNet
from genkit_weights.convert import convert, recipe_of

_spec = importlib.util.spec_from_file_location("edm_numbers", Path(__file__).with_name("test_edm.py"))
edm_numbers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(edm_numbers)
filled = edm_numbers.filled


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- files as EDM and ECT write them -------------------------------------------------------------


@pytest.fixture
def persistence(monkeypatch):
    """A module in the place of EDM's, so that pickles name its function; it would fail if it were called."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("executed")

    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    return _reconstruct_persistent_obj


class Persistent:
    """Pickles as an object of a persistent class: a call with the class's source, its name, and the state."""

    def __init__(self, function, name, parameters=(), modules=(), arguments=None):
        state = nn.Module().__dict__ | {
            "_parameters": OrderedDict(parameters),
            "_modules": OrderedDict(modules),
            "_init_args": (),
            "_init_kwargs": arguments or {"init_weight": np.sqrt(0.2)},
        }
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": name, "state": state}
        self.parts = function, (meta,), None

    def __reduce__(self):
        return self.parts


def container(modules):
    """A ModuleDict whose modules need not be modules."""
    made = nn.ModuleDict()
    made.__dict__["_modules"] = OrderedDict(modules)
    return made


def tree(function, table, name="Conv2d"):
    """Tensors by dotted names as nested persistent objects; `enc` and `dec` are containers as they are there."""
    below, own = {}, []
    for key, tensor in table.items():
        head, dot, rest = key.partition(".")
        below.setdefault(head, {})[rest] = tensor if dot else None
        own += [] if dot else [(head, nn.Parameter(tensor, requires_grad=False))]
    modules = []
    for head, inner in below.items():
        if head in ("enc", "dec"):
            blocks = {}
            for key, tensor in inner.items():
                block, _, rest = key.partition(".")
                blocks.setdefault(block, {})[rest] = tensor
            modules.append((head, container((b, tree(function, t, "UNetBlock")) for b, t in blocks.items())))
        elif None not in inner.values():
            modules.append((head, tree(function, inner)))
    return Persistent(function, name, own, [*modules, ("nothing", None)])


def snapshot(path, function, network, spec, arguments, kind="SongUNet", outer="EDMPrecond", protocol=4, own=None):
    """Write a network of ours as EDM would have written its own; gives the tensors by EDM's names."""
    net = network.build(Context(spec=spec))
    names, table = _names(net), {}
    for name, mine in net.state_dict().items():
        module, _, leaf = name.rpartition(".")
        shape = mine.shape[::-1] if name == "conditioning.label.weight" else mine.shape
        table[f"{names[module]}.{leaf}"] = filled(f"{names[module]}.{leaf}", shape)
    inner = tree(function, table, kind)
    inner.parts[1][0]["state"]["_init_kwargs"] = {
        "img_resolution": spec.height,
        "in_channels": spec.channels,
        "out_channels": spec.channels,
        "label_dim": spec.classes,
        **arguments,
    }
    whole = Persistent(function, outer, modules=[("model", inner)])
    whole.parts[1][0]["state"].update(own or {})
    loss = Persistent(function, "EDMLoss")
    with path.open("wb") as file:
        pickle.dump({"ema": whole, "loss_fn": loss, "augment_pipe": None, "dataset_kwargs": {}}, file, protocol)
    return table


SONG = {"model_channels": 12, "channel_mult": [1, 3], "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.13}
CASES = {
    "ddpmpp": (Ddpmpp(model_channels=12, channel_mult=(1, 3), num_blocks=1, attn_resolutions=(4,)), SONG, "SongUNet"),
    "ncsnpp": (
        Ncsnpp(model_channels=12, channel_mult=(1, 3), num_blocks=1, attn_resolutions=(4,)),
        {
            **SONG,
            "embedding_type": "fourier",
            "encoder_type": "residual",
            "channel_mult_noise": 2,
            "resample_filter": [1, 3, 3, 1],
            "augment_dim": 9,
        },
        "SongUNet",
    ),
    "adm": (
        Adm(model_channels=32, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,)),
        {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]},
        "DhariwalUNet",
    ),
}
SPEC = Spec(channels=3, height=8, width=8, classes=4)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # how tensors were pickled when these were made
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_a_snapshot_gives_its_network_and_all_its_numbers(tmp_path, monkeypatch, persistence, case, protocol):
    network, arguments, kind = CASES[case]
    spec = attrs.evolve(SPEC, augment=arguments.get("augment_dim", 0))
    table = snapshot(tmp_path / "net.pkl", persistence, network, spec, arguments, kind, protocol=protocol)
    monkeypatch.delitem(sys.modules, "torch_utils.persistence")
    told = convert(tmp_path / "net.pkl", tmp_path / "net.safetensors", "edm")
    made = json.loads(told["network"])
    assert made.pop("use") == case and made["dropout"] == arguments.get("dropout", 0.1)
    assert Spec(**json.loads(told["spec"])) == spec
    component = genkit.component("network", case, **made)
    net = genkit.build(component, Context(spec=spec))
    net.load_state_dict(weights.load(tmp_path / "net.safetensors"), strict=True)
    expected = network.build(Context(spec=spec))
    expected.load_state_dict(edm_numbers.from_edm(table, expected))
    x, c, cond = torch.randn(2, 3, 8, 8), torch.tensor([-1.0, 0.5]), {"label": torch.tensor([1, 4])}
    assert torch.equal(net.eval()(x, c, cond), expected.eval()(x, c, cond))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("wanted", [0, 9])
def test_published_weights_start_networks_with_and_without_augmentation(tmp_path, monkeypatch, persistence, wanted):
    network, arguments, kind = CASES["ncsnpp"]
    spec, source = attrs.evolve(SPEC, augment=9), Source(origin=str(tmp_path / "net.safetensors"))
    snapshot(tmp_path / "net.pkl", persistence, network, spec, arguments, kind)
    monkeypatch.delitem(sys.modules, "torch_utils.persistence")
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors", "edm")
    program, start = Program(), network.build(Context(spec=attrs.evolve(SPEC, augment=wanted)))
    program.student = Denoiser(start, None)
    models.start_from(program, source)
    given, mine = weights.load(tmp_path / "net.safetensors"), start.state_dict()
    assert all(torch.equal(t, given[name]) for name, t in mine.items())
    assert set(given) - set(mine) == (set() if wanted else {"conditioning.augment.weight"})
    assert len(program.notices) == (not wanted) and all("augmentation is left out" in n for n in program.notices)


@pytest.mark.parametrize("network", [UNet(model_channels=8, num_blocks=1), Mlp(width=8), CASES["adm"][0]])
def test_weights_without_augmentation_start_a_network_that_has_it_and_is_told_nothing_by_it(network):
    spec = Spec(channels=3, height=8, width=8)
    plain, told = (network.build(Context(spec=attrs.evolve(spec, augment=n), seed=n)) for n in (0, 9))
    state, lines = told.adapted(plain.state_dict())
    told.load_state_dict(state)
    x, c, cond = torch.randn(2, 3, 8, 8), torch.zeros(2), {"augment": torch.randn(2, 9)}
    assert torch.equal(told.eval()(x, c, cond), plain.eval()(x, c, {})) and len(lines) == 1


@pytest.mark.parametrize("augment", [0, 9])
@pytest.mark.parametrize(
    "network",
    [UNet(model_channels=8, num_blocks=1), Mlp(width=8), CASES["ddpmpp"][0], CASES["ncsnpp"][0], CASES["adm"][0]],
)
def test_weights_of_one_time_start_a_network_of_two_that_is_told_nothing_by_the_other_and_can_learn_it(
    network, augment
):
    spec = Spec(channels=3, height=8, width=8, classes=4, augment=augment)
    one, two = (network.build(Context(spec=spec, times=n, seed=n)) for n in (1, 2))
    for p in one.parameters():
        torch.nn.init.normal_(p, std=0.1)
    state, lines = two.adapted(one.state_dict())
    two.load_state_dict(state)
    x, c = torch.randn(2, 3, 8, 8), torch.tensor([[-1.0, 0.3], [0.5, 0.1]])
    cond = {"label": torch.tensor([1, 4]), "augment": torch.randn(2, augment)}
    cond = cond if augment else {"label": cond["label"]}
    given = two.eval()(x, c, cond)
    assert torch.allclose(given, one.eval()(x, c[:, 0], cond), rtol=1e-4, atol=1e-5) and len(lines) == 1
    given.square().sum().backward()
    inner = next(p for name, p in two.named_parameters() if name.endswith("inner.weight"))
    assert (inner[:, inner.shape[1] // 2 :] == 0).all() and inner.grad[:, inner.shape[1] // 2 :].abs().max() > 0
    assert one.adapted(one.state_dict())[1] == []


@pytest.fixture
def ready(tmp_path, persistence):
    """`ready(**changes)`: a snapshot is written, in a way that the test chooses."""

    def write(outer="EDMPrecond", kind="SongUNet", own=None, **arguments):
        network = CASES["ddpmpp"][0]
        snapshot(tmp_path / "net.pkl", persistence, network, SPEC, SONG | arguments, kind, outer, own=own)
        return tmp_path / "net.pkl"

    return write


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"outer": "VPPrecond"}, "has a VPPrecond where a EDMPrecond should be"),
        ({"outer": "ECMPrecond"}, "has a ECMPrecond"),
        ({"kind": "UNet"}, "class 'UNet'"),
        ({"num_blocks": 2}, "enc.8x8_block1.norm0.weight: missing"),
        ({"model_channels": 24}, "shape .* does not suit"),
        ({"decoder_type": "skip"}, "'decoder' must be in"),
        ({"skip_mode": 1}, "'skip_mode', which is unknown"),
        ({"img_resolution": "large"}, "does not tell the size"),
    ],
)
def test_a_network_of_another_kind_is_one_line_and_nothing_is_written(tmp_path, ready, changes, says):
    with pytest.raises(DataError, match=says) as caught:
        convert(ready(**changes), tmp_path / "net.safetensors", "edm")
    assert "\n" not in str(caught.value) and str(tmp_path / "net.pkl") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pkl"]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_ect_is_the_same_with_another_name_around_it(tmp_path, ready):
    told = convert(ready(outer="ECMPrecond"), tmp_path / "net.safetensors", "ect")
    assert json.loads(told["network"])["fourier_scale"] == 0.02 and told["form"] == "ect"


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(("given", "least"), [(None, 0.003), (0.004, 0.004)])
def test_ects_weights_come_with_the_sigma_min_of_their_scalings(tmp_path, ready, given, least):
    source = ready(outer="ECMPrecond", own={} if given is None else {"sigma_min": given})
    recipe = tomllib.loads(recipe_of(convert(source, tmp_path / "net.safetensors", "ect")))
    assert recipe["levels"] == {"sigma_min": least}
    built = genkit.load_recipe("ict_cifar10", overrides=[f"levels.sigma_min={recipe['levels']['sigma_min']}"])
    context = Context(spec=Spec(channels=3, height=32, width=32), levels=built.levels)
    scalings = genkit.build(built.objective.parameterization, context)(torch.tensor([least]))
    assert scalings.c_skip.item() == 1 and scalings.c_out.item() == 0  # f(x, sigma_min) = x, where ECT has it
    told = convert(ready(), tmp_path / "edm.safetensors", "edm")
    assert "levels" not in tomllib.loads(recipe_of(told))  # EDM's scalings have none


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_an_ect_file_without_a_usable_sigma_min_is_one_line(tmp_path, ready):
    with pytest.raises(DataError, match="no sigma_min between 0 and 1"):
        convert(ready(outer="ECMPrecond", own={"sigma_min": 7.0}), tmp_path / "net.safetensors", "ect")


class Calls:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def inner_file(path):
    """What a pickled tensor has inside, made malicious."""
    torch.save(Calls(os.system, f"touch {path}"), path.with_name("inner.pt"))
    return path.with_name("inner.pt").read_bytes()


EVIL = {
    "system": (lambda mark: {"ema": Calls(os.system, f"touch {mark}")}, r"wants posix\.system"),
    "eval": (lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"), r"wants builtins\.eval"),
    "inside a tensor": (
        lambda mark: Calls(torch.storage._load_from_bytes, inner_file(mark)),
        "Weights only load failed",
    ),
    "torch.load": (lambda mark: Calls(torch.load, str(mark)), r"wants torch\.serialization\.load"),
    "nothing": (lambda mark: {"ema": 3}, "has a int where"),
    "empty": (lambda mark: [], "has a list where"),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_malicious_snapshot_is_one_line_and_executes_nothing(tmp_path, name):
    make, says = EVIL[name]
    mark = tmp_path / "executed"
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(make(mark)))
    with pytest.raises(DataError, match=says) as caught:
        convert(tmp_path / "net.pkl", tmp_path / "net.safetensors", "edm")
    assert "\n" not in str(caught.value) and not mark.exists()
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_truncated_snapshot_is_one_line(tmp_path, ready):
    raw = ready().read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.pkl").write_bytes(raw[: int(part * len(raw))])
        with pytest.raises(DataError, match="is no readable pickle"):
            convert(tmp_path / "cut.pkl", tmp_path / "net.safetensors", "edm")


# ---- OpenAI's tables -----------------------------------------------------------------------------
#
# UNetModel of github.com/openai/consistency_models (commit e32b69e), resblock_updown, num_head_channels 64, was run
# in float32 on the weights that `filled` gives for its own names and shapes, on `picture`, timesteps 1000 times
# [-1.5, 0.1, 1] and labels [0, 1, 3]; its attention was called in its plain form, since the fused one needs a GPU.
# Below stand out[:, 0, 2, 3] and the norm of out.

UNET_MODEL = {
    "scale-shift": (
        {"channel_mult": (1, 2), "scale_shift_norm": True, "attn_resolutions": (8,)},
        Spec(channels=3, height=16, width=16, classes=4),
        [-0.101425, -0.000198, -0.344345],
        28.36823,
    ),
    "plain": (
        {"channel_mult": (1, 1, 1), "scale_shift_norm": False, "attn_resolutions": (8,)},
        Spec(channels=3, height=32, width=32),
        [-0.546408, -1.182128, 0.05926],
        58.85014,
    ),
}


def table_of(case, fill=filled):
    settings, spec, *_ = UNET_MODEL[case]
    component = Adm(model_channels=128, num_blocks=1, positional_scale=1000.0, **settings)
    net = component.build(Context(spec=spec, device="meta"))
    names, table = _names_openai(net), {}
    for name, mine in net.state_dict().items():
        module, _, leaf = name.rpartition(".")
        table[f"{names[module]}.{leaf}"] = fill(f"{names[module]}.{leaf}", mine.shape)
    return table, component


@pytest.mark.parametrize("case", UNET_MODEL)
def test_outputs_equal_those_of_openai_s_code(tmp_path, case):
    table, component = table_of(case)
    torch.save(table, tmp_path / "net.pt")
    made = openai_cm(tmp_path / "net.pt")
    _, spec, pixels, size = UNET_MODEL[case]
    assert (made.network, made.spec) == (component, spec)
    net = genkit.build(made.network, Context(spec=spec))
    net.load_state_dict(made.state, strict=True)
    shape = (3, *spec.shape)
    i = torch.arange(torch.Size(shape).numel())
    picture = ((i * (i + 7)) % 1009 / 504.5 - 1).float().reshape(shape)
    cond = {"label": torch.tensor([0, 1, 3])} if spec.classes else {}
    with torch.no_grad():
        out = net.eval()(picture, torch.tensor([-1.5, 0.1, 1.0]), cond)
    assert (out[:, 0, 2, 3] - torch.tensor(pixels)).abs().max() < 2e-5
    assert out.norm().item() == pytest.approx(size, rel=1e-5)


@pytest.fixture(scope="module")
def zeros():
    """The names and shapes of a table; one number stands for all."""
    return table_of("scale-shift", lambda name, shape: torch.zeros(1).expand(shape))[0]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: w.pop("out.2.bias"), r"out\.2\.bias: missing"),
        (lambda w: w.update({"extra.weight": torch.zeros(1)}), r"extra\.weight: the network has no place"),
        (lambda w: w.update({"out.2.weight": torch.zeros(6, 128, 3, 3)}), r"out\.2\.weight: shape \(6, 128, 3, 3\)"),
        (lambda w: w.pop("time_embed.0.weight"), r"has not the tensors of a UNetModel .*time_embed\.0\.weight"),
        (lambda w: w.clear(), "has not the tensors of a UNetModel"),
        (lambda w: w.update({"epoch": 3}), "is no table of tensors by name"),
        (lambda w: w.update({"x": Calls(os.system, "touch executed")}), r"wants posix\.system, which is not data"),
    ],
)
def test_a_table_that_is_not_a_unet_model_is_one_line(tmp_path, zeros, spoil, says):
    table = dict(zeros)
    spoil(table)
    torch.save(table, tmp_path / "net.pt")
    with pytest.raises(DataError, match=says) as caught:
        convert(tmp_path / "net.pt", tmp_path / "net.safetensors", "openai-cm")
    assert "\n" not in str(caught.value) and not Path("executed").exists()
    assert not (tmp_path / "net.safetensors").exists()


def test_a_truncated_or_foreign_table_is_one_line(tmp_path, zeros):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "net.pt")
    raw = (tmp_path / "net.pt").read_bytes()
    for content in (raw[:100], raw[: len(raw) // 2], b"", b"hello", pickle.dumps(3)):
        (tmp_path / "net.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"net\.pt: (is no|has not|wants)") as caught:
            convert(tmp_path / "net.pt", tmp_path / "net.safetensors", "openai-cm")
        assert "\n" not in str(caught.value)


def test_few_channels_or_another_time_are_refused():
    narrow = Adm(model_channels=64, num_blocks=1, channel_mult=(1, 2), positional_scale=1000.0)
    net = narrow.build(Context(spec=SPEC, device="meta"))
    with pytest.raises(genkit.errors.GenkitError, match="16 groups, OpenAI's 32"):
        from_openai({}, net)
    with pytest.raises(genkit.errors.GenkitError, match="positional_scale 1000"):
        from_openai({}, CASES["adm"][0].build(Context(spec=SPEC, device="meta")))


# ---- the command line ----------------------------------------------------------------------------


def run(capsys, *argv):
    with pytest.raises(SystemExit) as done:
        cli.main([*argv])
    return done.value.code, *capsys.readouterr()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_the_commands_convert_tell_and_refuse(tmp_path, ready, capsys):
    source = ready()
    code, out, err = run(capsys, "weights", "convert", str(source), "net.safetensors", "--as", "edm")
    assert (code, err) == (0, "") and 'use = "ddpmpp"' in out and "model_channels = 12" in out
    code, out, _ = run(capsys, "weights", "info", "net.safetensors")
    assert code == 0 and "source_sha256" in out and 'use = "ddpmpp"' in out
    code, out, _ = run(capsys, "weights", "info", "net.safetensors", "--json")
    assert json.loads(out)["form"] == "edm"
    for argv, expected, says in [
        (["convert", str(source), "net.safetensors", "--as", "edmm"], 2, "nothing reads 'edmm'"),
        (["convert", str(source), "net.pt", "--as", "edm"], 2, "is no .safetensors file"),
        (["convert", "gone.pkl", "net.safetensors", "--as", "edm"], 4, "no such file"),
        (["convert", str(source), "no/where.safetensors", "--as", "edm"], 4, "cannot be written"),
        (["info", str(source)], 4, "genkit weights convert makes one"),
    ]:
        code, out, err = run(capsys, "weights", *argv)
        assert (code, out) == (expected, "") and says in err and err.count("\n") == 1
