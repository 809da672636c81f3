"""LPIPS against the packages that published it, with the same random weights; the trunk's file and its faults."""

import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models import vgg

import genkit
from genkit import Context, Spec
from genkit.errors import DataError, RecipeError
from genkit.kernel.identity import identity
from genkit.kernel.loading import load_recipe
from genkit.testing import laws
from genkit_lpips.trunk import VGG16, heads

RGB = Context(spec=Spec(channels=3, height=32, width=32), total_steps=10)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Random weights in torchvision's layout, scaled so that all depths are alive."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "trunk.pth"
    layers = vgg.make_layers(vgg.cfgs["D"])
    torch.save({f"features.{name}": t for name, t in layers.state_dict().items()}, path)
    return path


def distance(weights, context=RGB, **settings):
    settings = {"precision": "float32", "resize": 64, **settings}
    return genkit.build(genkit.component("loss", "lpips", weights=str(weights), **settings), context)


def images(channels=3, side=32):
    torch.manual_seed(1)
    return torch.rand(2, 4, channels, side, side) * 2 - 1


@pytest.mark.filterwarnings("ignore")  # of torchvision, about how that package calls it
def test_it_is_the_lpips_package_with_maximum_pooling(weights):
    lpips = pytest.importorskip("lpips", reason="the package that published LPIPS is not installed")
    peer = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    convolutions = torch.load(weights, weights_only=True)
    slices = {f"{s}.{n}": i for s, i, n in _convolutions(peer.net)}
    peer.net.load_state_dict({name: convolutions[f"features.{i}"] for name, i in slices.items()})
    x, y = images(side=64)
    assert torch.allclose(distance(weights, pooling="max", resize=0)(x, y), peer(x, y).flatten(), rtol=1e-5, atol=1e-7)


def _convolutions(net):
    """(slice, index and name in torchvision, name in the slice): the package keeps torchvision's indices."""
    for name in net.state_dict():
        part, index, kind = name.split(".")
        yield f"{part}.{index}", f"{index}.{kind}", kind


@pytest.mark.filterwarnings("ignore")
def test_average_pooling_and_resizing_are_those_of_the_pytorch_code(weights, monkeypatch):
    """`piq` is what that code calls, on images that it has resized to 224 and moved to [0, 1]."""
    piq = pytest.importorskip("piq", reason="the package that the PyTorch code used is not installed")
    layers = vgg.make_layers(vgg.cfgs["D"])
    layers.load_state_dict({n.removeprefix("features."): t for n, t in torch.load(weights, weights_only=True).items()})
    monkeypatch.setattr(piq.perceptual, "vgg16", lambda **how: SimpleNamespace(features=layers))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *what, **how: heads())
    peer = piq.LPIPS(replace_pooling=True, reduction="none")
    x, y = images()
    theirs = peer(*((interpolate(image, size=224, mode="bilinear") + 1) / 2 for image in (x, y)))
    assert torch.allclose(distance(weights, resize=224)(x, y), theirs, rtol=1e-5, atol=1e-7)


def test_grey_images_are_repeated_to_three_channels(weights):
    grey = distance(weights, Context(spec=Spec(channels=1, height=8, width=8), total_steps=10))
    x, y = images(1, 8)
    rgb = [image.expand(-1, 3, -1, -1) for image in (x, y)]
    assert torch.equal(grey(x, y), distance(weights)(*rgb))


def test_bfloat16_convolutions_move_the_value_little(weights):
    x, y = images()
    exact, fast = distance(weights)(x, y), distance(weights, precision="bf16")(x, y)
    assert fast.dtype == torch.float32 and torch.allclose(fast, exact, rtol=0.05)


def test_the_gradient_is_finite_where_all_features_are_zero(weights, tmp_path):
    dead = {name: torch.zeros_like(t) for name, t in torch.load(weights, weights_only=True).items()}
    torch.save(dead, tmp_path / "dead.pth")
    x, y = images()
    distance(tmp_path / "dead.pth")(x.requires_grad_(), y).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_it_obeys_the_laws_of_losses(weights):
    laws.check(genkit.component("loss", "lpips", weights=str(weights), precision="float32", resize=32))


def test_it_compiles_as_one_graph(weights):
    x, y = images()
    d = distance(weights)
    compiled = torch.compile(d, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, y), d(x, y), rtol=1e-4)


def test_a_program_neither_trains_nor_saves_it(weights):
    objective = genkit.component(
        "objective", "consistency", network="mlp", loss={"use": "lpips", "weights": str(weights), "resize": 32}
    )
    program = genkit.build(objective, Context(spec=Spec(channels=1, height=8, width=8), total_steps=10))
    assert not [name for name in program.state_dict() if not name.startswith("student.")]


def test_other_channels_are_refused(weights):
    with pytest.raises(RecipeError, match="2 channels"):
        distance(weights, Context(spec=Spec(channels=2, height=8, width=8), total_steps=10))


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda t: {n: v for n, v in t.items() if n != "features.28.bias"}, "nothing for features.28.bias"),
        (lambda t: {**t, "features.0.weight": torch.zeros(64, 1, 3, 3)}, r"\(64, 1, 3, 3\) for features.0.weight"),
        (lambda t: [1, 2], "is no state dict"),
    ],
    ids=["missing", "misshapen", "no-dict"],
)
def test_a_file_of_something_else_is_one_line(weights, tmp_path, broken, told):
    torch.save(broken(torch.load(weights, weights_only=True)), tmp_path / "other.pth")
    with pytest.raises(DataError, match=told):
        distance(tmp_path / "other.pth")


def test_a_truncated_file_is_one_line(weights, tmp_path):
    (tmp_path / "half.pth").write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(DataError, match="cannot be read"):
        distance(tmp_path / "half.pth")


def test_without_a_file_one_line_says_which_from_where_and_where_to(tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_OFFLINE", "1")
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "genkit", "run", "ict_digits", "--swap", "loss=lpips", "--out", "r"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert not (tmp_path / "r" / "recipe.toml").exists()
    assert done.returncode == 4 and done.stderr.count("genkit:") == 1
    for part in (VGG16.url, VGG16.sha256, str(VGG16.size), str(tmp_path / "files" / VGG16.name)):
        assert part in done.stderr
    assert not list((tmp_path / "files").glob("*.pth"))


def test_the_content_of_the_weights_is_part_of_the_id_and_their_path_is_not(weights, tmp_path):
    def id_of(path):
        swap = f'loss={{use="lpips", weights="{path}"}}'
        return identity(load_recipe("ict_digits", swaps=[swap]), "data")

    same, other = tmp_path / "same.pth", tmp_path / "other.pth"
    same.write_bytes(weights.read_bytes())
    other.write_bytes(weights.read_bytes() + b" ")
    assert id_of(same) == id_of(weights) != id_of(other)


@pytest.fixture
def pictures(tmp_path):
    """Images of CIFAR-10's shape: what is under test is the shape, so noise will do."""
    with h5py.File(tmp_path / "pictures.h5", "w") as file:
        x = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
        file.create_dataset("images", data=x, chunks=True, fletcher32=True)
    return tmp_path / "pictures.h5"


@pytest.mark.parametrize("recipe", ["ict_digits", "ict_cifar10"])
def test_an_ablation_of_the_loss_runs_as_soon_as_the_trunk_is_there(weights, pictures, tmp_path, recipe):
    swap = f'loss={{use="lpips", weights="{weights}", resize=32}}'
    few = ["train.steps=2", "train.batch_size=4", "network.model_channels=8", "network.num_blocks=1"]
    few += ["train.sample_every_steps=0", *(f"metrics.{name}=false" for name in load_recipe(recipe).metrics)]
    few += ["dataset.use=hdf5", f"dataset.path={pictures}"] if recipe == "ict_cifar10" else []
    command = [sys.executable, "-m", "genkit", "ablate", recipe, *few, "--swap", swap, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout and "lpips" in done.stdout
