"""Claims about Inception's features: those of torch-fidelity, TensorFlow's resizing, and which weights are taken."""

from __future__ import annotations

import hashlib

import attrs
import numpy as np
import pytest
import torch

from genkit.errors import DataError
from genkit.kinds import Context, Sampled, Spec
from genkit.testing import laws
from genkit_metrics import inception
from genkit_metrics.inception import WEIGHTS, Extractor, Inception
from genkit_metrics.inception_net import Network, resized
from genkit_metrics.metrics import FrechetDistance
from genkit_metrics.rows import InceptionScore

SPEC = Spec(channels=3, height=32, width=32)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights in the published layout, with statistics that no layer could ignore."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = Network().state_dict()
    for name, values in found.items():
        if name.endswith(("bn.bias", "running_mean", "fc.bias")):
            values.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 1.5, generator=generator)
    return found


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory):
    """A file of them, and its description as a published one."""
    path = tmp_path_factory.mktemp("weights") / WEIGHTS.name
    torch.save(state, path)
    content = path.read_bytes()
    return path, attrs.evolve(WEIGHTS, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@pytest.fixture
def published(weights, monkeypatch, tmp_path):
    """As if these were the published ones, and no network."""
    monkeypatch.setattr(inception, "WEIGHTS", weights[1])
    monkeypatch.setenv("GENKIT_WEIGHTS", str(weights[0].parent))
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("GENKIT_OFFLINE", "1")


def images(n: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    shape = (n, channels, side, side)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def extract(state) -> Extractor:
    return Extractor(state, SPEC, "")


def test_features_are_those_of_torch_fidelity(state, weights):
    why = "torch-fidelity is not installed: pip install torch-fidelity"
    oracle = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason=why)
    with torch.random.fork_rng(devices=[]):
        theirs = oracle.FeatureExtractorInceptionV3(
            "oracle", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights[0])
        )
    hooked = []
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda module, given, out: hooked.append(out.clone()))
    for side in (32, 350):
        x = images(1, side=side)
        got = Extractor(state, Spec(channels=3, height=side, width=side), "")(x)
        pool, logits = theirs(x)
        place = [hooked[-1][:, :7, i, j] for i in range(17) for j in range(17)]  # NHWC, as TensorFlow has it
        for name, expected in {"pool": pool, "logits": logits, "spatial": torch.cat(place, 1)}.items():
            assert got[name].shape == expected.shape and deviation(got[name], expected) < 1e-5


def test_fixed_features(extract):
    """Sums of what torch-fidelity 0.4.0 gives for these weights: where it is absent, changes show all the same."""
    sums = {name: float(values.double().abs().sum()) for name, values in extract(images(1)).items()}
    assert sums == pytest.approx(
        {"pool": 125.7556251856451, "spatial": 38.89071888265062, "logits": 48.1975140060531}, rel=1e-4
    )


def by_hand(x: torch.Tensor) -> torch.Tensor:
    """TensorFlow 1's bilinear interpolation of (H, W) at every 13th pixel: corners at i H / 299, in float32."""
    height, width = x.shape
    x, out = x.tolist(), torch.empty(299, 299, dtype=torch.float64)
    for i in range(0, 299, 13):
        for j in range(0, 299, 13):
            (a, s), (b, t) = (
                divmod(float(np.float32(k) * np.float32(n / 299)), 1) for k, n in ((i, height), (j, width))
            )
            a, b, below, right = int(a), int(b), min(int(a) + 1, height - 1), min(int(b) + 1, width - 1)
            upper = x[a][b] * (1 - t) + x[a][right] * t
            out[i, j] = upper * (1 - s) + (x[below][b] * (1 - t) + x[below][right] * t) * s
    return out[::13, ::13]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 64), (320, 40)])
def test_resizing_is_that_of_tensorflow_1(height, width):
    x = torch.randint(256, (height, width), generator=torch.Generator().manual_seed(0)).float()
    assert float((resized(x[None, None])[0, 0, ::13, ::13] - by_hand(x)).abs().max()) < 1e-4
    assert torch.allclose(resized(torch.full((1, 3, height, width), 77.0)), torch.tensor(77.0), rtol=1e-6)
    same = torch.rand(1, 1, 299, 299)
    assert torch.equal(resized(same), same)


def test_the_component(published, extract, capsys):
    """Found by the environment variable; features of an image do not depend on its neighbours; grey is said."""
    whole = extract(images(2))
    rgb = Inception().build(Context(spec=SPEC))
    assert rgb.identity == inception.WEIGHTS.sha256 and capsys.readouterr().err == ""
    assert all(deviation(values, whole[name][1:]) < 1e-5 for name, values in rgb(images(2)[1:]).items())
    laws.check(Inception())
    capsys.readouterr()
    grey = Inception().build(Context(spec=attrs.evolve(SPEC, channels=1)))
    assert capsys.readouterr().err.count("grey, and are repeated to three channels") == 1
    x = images(1, channels=1)
    assert torch.equal(grey(x)["pool"], extract(x.repeat(1, 3, 1, 1))["pool"])


def test_it_is_float32_whatever_a_training_has_set(state):
    extract, x = Extractor(state, SPEC, ""), images(1)
    switch, inside = torch.backends.cuda.matmul, []
    extract.network.register_forward_pre_hook(lambda *given: inside.append(switch.fp32_precision))
    plain, before, switch.fp32_precision = extract(x)["pool"], switch.fp32_precision, "tf32"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(extract(x)["pool"], plain)
        assert inside == ["ieee", "ieee"] and switch.fp32_precision == "tf32"
    finally:
        switch.fp32_precision = before


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (images(1).float() / 255, "images are torch.float32"),
        (torch.full((1, 3, 32, 32), torch.nan), "images are torch.float32"),
        (images(1)[0], "shape (3, 32, 32)"),
        (images(1, side=33), "images are 3x33x33, the data are 3x32x32"),
        (images(1, channels=1), "images are 1x32x32, the data are 3x32x32"),
    ],
)
def test_refuses_images_in_one_line(extract, x, said):
    with pytest.raises(DataError) as refused:
        extract(x)
    assert said in str(refused.value) and refused.value.hint


@pytest.mark.parametrize(
    ("damage", "said"), [("truncated", "bytes, not"), ("other", "sha256"), ("none", "no such file")]
)
def test_refuses_other_weights_in_one_line(monkeypatch, tmp_path, damage, said):
    """Before anything of them is read as weights, and before a training starts."""
    content = b"0123456789"
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(inception, "WEIGHTS", attrs.evolve(WEIGHTS, sha256=digest, size=len(content)))
    path = tmp_path / "weights.pth"
    if damage != "none":
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"?")
    for refuse in (Inception(weights=path).require, Inception(weights=path).build):
        with pytest.raises(DataError, match=said) as refused:
            refuse(Context(spec=SPEC, cache_dir=tmp_path))
        assert "\n" not in str(refused.value)


def test_refuses_images_of_two_channels():
    with pytest.raises(DataError, match="images have 2 channels"):
        Inception().require(Context(spec=attrs.evolve(SPEC, channels=2)))


def test_without_weights_all_that_is_needed_to_get_them_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("GENKIT_WEIGHTS", raising=False)
    monkeypatch.setenv("GENKIT_OFFLINE", "1")
    with pytest.raises(DataError) as refused:
        Inception().require(Context(spec=SPEC, cache_dir=tmp_path))
    for part in (WEIGHTS.url, str(WEIGHTS.size), WEIGHTS.sha256, str(tmp_path / "files" / WEIGHTS.name)):
        assert part in refused.value.hint


def test_metrics_choose_among_its_features(extract):
    context, x = Context(spec=SPEC), images(3)
    found = extract(x)
    score = InceptionScore(features=Inception(), splits=1).build(context)
    spatial = FrechetDistance(features=Inception(), feature="spatial", floor=False).build(context)
    for accumulator in (score, spatial):
        accumulator.update(Sampled(x, found, {}), True)
        accumulator.update(Sampled(x, found, {}), False)
    assert score.compute()["is"] == pytest.approx(score.floors()["is_floor"]) and score.compute()["is"] >= 1
    assert spatial.reference()["spatial/mean"].shape == (2023,)
