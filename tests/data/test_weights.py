"""Weights in files: told about, and started from exactly or not at all."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import genkit
from genkit import cli
from genkit.data import weights
from genkit.errors import DataError
from genkit.kernel.loading import load_recipe
from genkit.kinds import Context, Spec
from genkit.runs import planning, store

SMALL = ["network.model_channels=8", "network.num_blocks=1", "train.batch_size=4", "evaluate.samples=20"]


@pytest.fixture
def state():
    network = genkit.component("network", "unet", model_channels=8, num_blocks=1)
    net = genkit.build(network, Context(spec=Spec(channels=1, height=8, width=8), seed=7))
    return {name: tensor + 0.1 for name, tensor in net.state_dict().items()}


def start(path, *more):
    """What a recipe's student has before the first step."""
    recipe = load_recipe("ict_digits", [*SMALL, "train.steps=1", f"init.from={path}", *more])
    return planning.plan(recipe, Path("out")).program()


def test_a_run_starts_from_the_numbers_of_a_file(state):
    save_file(state, "start.safetensors")
    found = start("start.safetensors").student.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_teacher_that_is_a_model_of_its_own_starts_there_too(state):
    save_file(state, "start.safetensors")
    program = start("start.safetensors", "teacher.use=ema")
    found = program.teacher.network.state_dict()
    assert program.teacher is not program.student
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.pop("stem.bias"), "'stem.bias' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' is surplus"),
        (lambda s: s.update({"stem.bias": torch.zeros(9)}), r"'stem\.bias' has shape \(9,\), not \(8,\)"),
    ],
    ids=["missing", "surplus", "misshapen"],
)
def test_weights_that_do_not_fit_are_one_line_and_nothing_is_loaded(state, spoil, says):
    spoil(state)
    save_file(state, "start.safetensors")
    with pytest.raises(DataError, match=says) as caught:
        start("start.safetensors")
    assert "start.safetensors: does not fit the network" in str(caught.value) and "\n" not in str(caught.value)
    network = genkit.component("network", "unet", model_channels=8, num_blocks=1)
    net = genkit.build(network, Context(spec=Spec(channels=1, height=8, width=8)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(DataError):
        weights.fit(net, state, "here")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_damaged_file_is_one_line_wherever_it_is_damaged(state):
    save_file(state, "start.safetensors")
    raw = Path("start.safetensors").read_bytes()
    for content in (b"", b"junk", raw[:6], raw[:200], raw[:-1], b"\xff" * 8 + raw[8:]):
        Path("start.safetensors").write_bytes(content)
        for call in (start, lambda path: weights.info(Path(path)), lambda path: weights.load(Path(path))):
            with pytest.raises(DataError, match="is no readable safetensors file") as caught:
                call("start.safetensors")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("gone.safetensors", "no such weights file"),
        ("net.pkl", "genkit weights convert"),
        ("net.pt", "weights convert"),
    ],
)
def test_the_command_line_says_what_a_start_needs(capsys, origin, says):
    Path("net.pkl").write_bytes(b"\x80\x04N.")
    Path("net.pt").write_bytes(b"PK")
    with pytest.raises(SystemExit) as done:
        cli.main(["run", "ict_digits", *SMALL, "train.steps=1", f"init.from={origin}"])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("genkit: ")]
    assert done.value.code == 4 and out == "" and len(lines) == 1 and says in lines[0]


def test_info_counts_and_tells_what_the_maker_wrote(state, capsys):
    save_file(state, "start.safetensors", {"network": json.dumps({"use": "unet", "model_channels": 8}), "form": "mine"})
    with pytest.raises(SystemExit):
        cli.main(["weights", "info", "start.safetensors"])
    out = capsys.readouterr().out
    assert str(sum(t.numel() for t in load_file("start.safetensors").values())) in out and "mine" in out
    assert out.endswith('[network]\nuse = "unet"\nmodel_channels = 8\n')


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "network."])
def test_a_common_prefix_is_left_out_and_told(state, capsys, prefix):
    save_file({prefix + name: tensor for name, tensor in state.items()}, "start.safetensors")
    program = start("start.safetensors")
    found = program.student.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    (told,) = program.notices
    assert told.endswith(f"start.safetensors: every name begins with {prefix!r}, which is left out")
    with pytest.raises(SystemExit):
        cli.main(["run", "ict_digits", *SMALL, "train.steps=1", "init.from=start.safetensors", "--out", "out"])
    assert told in [e.get("text") for e in store.events(Path("out"))] and told in capsys.readouterr().err


@pytest.mark.parametrize("spoil", [lambda s: s.pop("module.stem.bias"), lambda s: s.update(extra=torch.zeros(1))])
def test_a_prefix_stays_where_the_rest_does_not_fit(state, spoil):
    state = {f"module.{name}": tensor for name, tensor in state.items()}
    spoil(state)
    save_file(state, "start.safetensors")
    with pytest.raises(DataError, match="does not fit the network: '.*' is missing"):
        start("start.safetensors")


def test_no_prefix_is_no_notice_and_an_empty_file_is_one_line(state):
    save_file(state, "start.safetensors")
    assert start("start.safetensors").notices == ()
    save_file({}, "empty.safetensors")
    with pytest.raises(DataError, match="is missing"):
        start("empty.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_told_before_training(state, value):
    state["stem.bias"][1] = value
    save_file(state, "start.safetensors")
    with pytest.raises(DataError, match=r"'stem\.bias' holds NaN or infinite numbers") as caught:
        start("start.safetensors")
    assert "optimizer" not in str(caught.value) and "start.safetensors: " in str(caught.value)


@pytest.mark.parametrize("name", ["net.npz", "net.gguf", "net.h5", "net.ckpt", "net"])
def test_a_file_with_a_foreign_suffix_is_told(name):
    Path(name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"{name}: is no \.safetensors file; genkit weights convert makes one of"):
        start(name)
