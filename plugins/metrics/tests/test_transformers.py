"""DINOv2 and CLIP, small and with fixed random weights: equal to the published programs; what else files may hold."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import genkit
from genkit.errors import DataError
from genkit.kinds import Context, Spec
from genkit.testing import laws

W, HIDDEN = 128, 512
CONTEXT = Context(spec=Spec(channels=3, height=64, width=64))


def filled(shapes):
    """Tensors by name from one stream of numbers; scales are about 1."""
    rng = np.random.default_rng(0)
    about = {n: float(len(s) == 1 and n.endswith(("weight", "gamma"))) for n, s in shapes.items()}
    return {
        n: torch.from_numpy((rng.standard_normal(s) * 0.2 + about[n]).astype(np.float32)) for n, s in shapes.items()
    }


def affine(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def dinov2(depth=2):
    """Of 5x5 learnt places, in the order of the published files."""
    shapes = {"cls_token": (1, 1, W), "pos_embed": (1, 26, W), "mask_token": (1, W)}
    shapes |= affine("patch_embed.proj", W, 3, 14, 14)
    for b in (f"blocks.{i}." for i in range(depth)):
        shapes |= affine(f"{b}norm1", W) | affine(f"{b}attn.qkv", 3 * W, W) | affine(f"{b}attn.proj", W, W)
        shapes |= {f"{b}ls1.gamma": (W,), f"{b}ls2.gamma": (W,)} | affine(f"{b}norm2", W)
        shapes |= affine(f"{b}mlp.fc1", HIDDEN, W) | affine(f"{b}mlp.fc2", W, HIDDEN)
    return filled(shapes | affine("norm", W))


def clip(depth=2):
    """For 70x70 pixels, in Hugging Face's layout."""
    top = "vision_model.embeddings."
    shapes = {f"{top}class_embedding": (W,), f"{top}patch_embedding.weight": (W, 3, 14, 14)}
    shapes |= {f"{top}position_embedding.weight": (26, W)} | affine("vision_model.pre_layrnorm", W)
    for b in (f"vision_model.encoder.layers.{i}." for i in range(depth)):
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= affine(f"{b}self_attn.{part}", W, W)
        shapes |= affine(f"{b}layer_norm1", W) | affine(f"{b}mlp.fc1", HIDDEN, W)
        shapes |= affine(f"{b}mlp.fc2", W, HIDDEN) | affine(f"{b}layer_norm2", W)
    return filled(shapes | affine("vision_model.post_layernorm", W) | {"visual_projection.weight": (48, W)})


def picture(side=64):
    i, c = torch.arange(side), torch.arange(3)[:, None, None]
    return ((i[:, None] * (3 + c) + i * i % (17 + c) * 5) % 256).to(torch.uint8)[None]


@pytest.fixture
def weights(tmp_path):
    torch.save(dinov2(), tmp_path / "dinov2.pth")
    torch.save(clip(), tmp_path / "clip.bin")
    save_file({**clip(), "text_model.x": torch.zeros(2), "logit_scale": torch.zeros(())}, tmp_path / "clip.safetensors")
    return tmp_path


def pool(name, path, images=None, context=CONTEXT):
    extract = genkit.build(genkit.component("features", name, weights=str(path)), context)
    return extract(picture() if images is None else images)["pool"]


def test_dinov2_is_the_published_program(weights):
    """`DinoVisionTransformer` of facebookresearch/dinov2, with these weights, on `picture` as EDM2's code resizes it:
    16x16 places, to which the 5x5 learnt ones are interpolated."""
    found = pool("dinov2", weights / "dinov2.pth")
    assert found.shape == (1, W) and float(found.norm()) == pytest.approx(10.801623344421387, rel=1e-5)
    assert found[0, :6].tolist() == pytest.approx([-0.50665, -0.35257, 1.61043, -1.16826, 2.04889, 1.72246], abs=2e-4)


@pytest.mark.parametrize("file", ["clip.bin", "clip.safetensors"])
def test_clip_is_the_published_program(weights, file):
    """`CLIPVisionModelWithProjection` of transformers 5.24.0, with these weights, on `picture` as CMMD resizes it."""
    found = pool("clip", weights / file)
    assert found.shape == (1, 48) and float(found.norm()) == pytest.approx(1)
    recorded = [-0.19096, -0.125602, -0.01352, -0.189351, -0.008432, 0.117203]
    assert found[0, :6].tolist() == pytest.approx(recorded, abs=1e-5)


@pytest.mark.parametrize(("name", "file"), [("dinov2", "dinov2.pth"), ("clip", "clip.bin")])
def test_they_obey_the_laws_of_features_and_repeat_grey(weights, name, file):
    laws.check(genkit.component("features", name, weights=str(weights / file)))
    grey = Context(spec=Spec(channels=1, height=64, width=64))
    one = pool(name, weights / file, picture()[:, :1], grey)
    assert torch.allclose(one, pool(name, weights / file, picture()[:, :1].repeat(1, 3, 1, 1)), atol=1e-5)


def test_features_of_other_weights_are_other_features(weights):
    first = genkit.build(genkit.component("features", "clip", weights=str(weights / "clip.bin")), CONTEXT)
    other = genkit.build(genkit.component("features", "clip", weights=str(weights / "clip.safetensors")), CONTEXT)
    assert first.identity != other.identity and len(first.identity) == 64


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        (
            "dinov2",
            {n: t for n, t in dinov2().items() if n != "blocks.1.attn.proj.bias"},
            "has other tensors.*attn.proj",
        ),
        ("dinov2", clip(), "has other tensors"),
        ("dinov2", [1, 2], "is no state dict"),
        ("clip", dinov2(), "no CLIP vision tower"),
    ],
    ids=["missing", "another", "no-dict", "no-clip"],
)
def test_a_file_of_something_else_is_one_line(tmp_path, name, broken, said):
    torch.save(broken, tmp_path / "file.pth")
    component = genkit.component("features", name, weights=str(tmp_path / "file.pth"))
    with pytest.raises(DataError, match=said):
        component.require(CONTEXT)


def test_no_file_and_a_damaged_one_are_one_line(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        genkit.component("features", "dinov2", weights=str(tmp_path / "none.pth")).require(CONTEXT)
    for name in ("half.pth", "half.safetensors"):
        (tmp_path / name).write_bytes(b"\x00" * 100)
        with pytest.raises(DataError, match="cannot be read"):
            genkit.component("features", "clip", weights=str(tmp_path / name)).require(CONTEXT)
