"""Claims about the components: their figures, floors, merging and errors."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import subprocess
import sys

import attrs
import pytest
import torch

import genkit_metrics
from genkit.errors import DataError
from genkit.hookspecs import API
from genkit.kinds import Context, Sampled, Spec
from genkit_metrics import frechet
from genkit_metrics.features import Pixels
from genkit_metrics.frechet import factor, frechet_distance
from genkit_metrics.inception_score import inception_score
from genkit_metrics.kernels import KernelDistance
from genkit_metrics.kid import kid
from genkit_metrics.manifold import density_coverage, precision_recall
from genkit_metrics.metrics import FrechetDistance, _draws
from genkit_metrics.rows import DensityCoverage, InceptionScore, PrecisionRecall

OFFERS = genkit_metrics.genkit_features() | genkit_metrics.genkit_metric()
CONTEXT = Context(spec=Spec(channels=1, height=2, width=3))


def images(n: int, seed: int, spread: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    level = torch.randint(spread // 2, (n, 1, 1, 1), generator=generator)  # correlates the pixels
    return (level + torch.randint(spread // 2, (n, 1, 2, 3), generator=generator)).to(torch.uint8)


def feed(accumulator, x: torch.Tensor, real: bool | str, batch: int = 64) -> None:
    extract = Pixels().build(CONTEXT)
    for part in x.split(batch):
        accumulator.update(Sampled(part, extract(part), {}), real)


def figures(metric, train, fake, held_out=None, batch: int = 64) -> dict[str, float]:
    accumulator = metric.build(CONTEXT)
    feed(accumulator, train, True, batch)
    if held_out is not None:
        feed(accumulator, held_out, "held-out", batch)
    feed(accumulator, fake, False, batch)
    return accumulator.compute() | accumulator.floors()


TRAIN, FAKE, HELD_OUT = images(500, 0), images(400, 1, spread=200), images(80, 2)
METRICS = [
    FrechetDistance(features=Pixels()),
    PrecisionRecall(features=Pixels(), max_samples=300),
    DensityCoverage(features=Pixels(), max_samples=300),
    KernelDistance(features=Pixels(), subset_size=100, subsets=3, max_samples=300),
    InceptionScore(features=Pixels(), feature="pool", max_samples=450),  # pixels as if they were logits
]
by_metric = pytest.mark.parametrize("metric", METRICS, ids=["fd", "pr", "dc", "kid", "is"])


def pool(x: torch.Tensor) -> torch.Tensor:
    return (x.double() / 127.5 - 1).flatten(1)


def law(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pool(x).mean(0), torch.cov(pool(x).T)


def test_pixels():
    got = Pixels().build(CONTEXT)(torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 3))
    assert got["pool"].tolist() == [[-1.0, 1.0, pytest.approx(-0.6)]]
    with pytest.raises(DataError, match="float32"):
        Pixels().build(CONTEXT)(torch.zeros(1, 1, 2, 2))


def test_fd_is_the_distance_of_moments():
    got = figures(METRICS[0], TRAIN, FAKE, HELD_OUT)
    assert list(got) == ["fd", "fd_held_out", "fd_floor", "fd_held_out_floor"]
    assert got["fd"] == pytest.approx(frechet_distance(*law(TRAIN), *law(FAKE)), rel=1e-5)  # features are float32
    assert got["fd_held_out"] == pytest.approx(frechet_distance(*law(HELD_OUT), *law(FAKE)), rel=1e-5)


def test_the_floor_is_what_resampled_training_images_score():
    def resampled(seed: int) -> torch.Tensor:
        return TRAIN[torch.randint(500, (400,), generator=torch.Generator().manual_seed(seed))]

    scores = [figures(METRICS[0], TRAIN, resampled(seed), HELD_OUT) for seed in range(8)]
    floor, held_out_floor = (scores[0][name] for name in ("fd_floor", "fd_held_out_floor"))
    assert all(s["fd_floor"] == floor for s in scores)
    assert 0.5 * floor < sum(s["fd"] for s in scores) / 8 < 2 * floor
    assert 0.7 * held_out_floor < sum(s["fd_held_out"] for s in scores) / 8 < 1.4 * held_out_floor
    other = figures(METRICS[0], TRAIN, FAKE, HELD_OUT)
    assert 0 < floor < other["fd"] / 10
    assert 0 < held_out_floor < other["fd_held_out"]


def test_the_floor_is_a_mean_over_draws():
    drawn = [law(TRAIN.repeat_interleave(times, 0)) for times in _draws(500, 400)]
    got = figures(METRICS[0], TRAIN, FAKE, HELD_OUT)
    for name, x in (("fd_floor", TRAIN), ("fd_held_out_floor", HELD_OUT)):
        assert got[name] == pytest.approx(sum(frechet_distance(*law(x), *d) for d in drawn) / 3, rel=1e-4)


def test_the_floor_falls_with_the_number_of_samples():
    few, many = (figures(METRICS[0], TRAIN, images(n, 3))["fd_floor"] for n in (100, 10_000))
    assert 30 < few / many < 300


def test_the_floor_of_a_part_of_the_training_images():
    whole = figures(METRICS[0], TRAIN, FAKE)
    part = figures(FrechetDistance(features=Pixels(), floor_max=200), TRAIN, FAKE)
    assert part["fd"] == whole["fd"]
    assert part["fd_floor"] == pytest.approx(whole["fd_floor"], rel=0.8)
    assert figures(FrechetDistance(features=Pixels(), floor=False), TRAIN, FAKE) == {"fd": whole["fd"]}


def test_precision_recall_is_that_of_the_features():
    got = figures(PrecisionRecall(features=Pixels(), k=5), TRAIN, FAKE, HELD_OUT)
    assert list(got) == ["precision", "recall", "precision_floor", "recall_floor"]
    assert (got["precision"], got["recall"]) == precision_recall(pool(TRAIN), pool(FAKE), 5)
    assert (got["precision_floor"], got["recall_floor"]) == precision_recall(pool(TRAIN), pool(HELD_OUT), 5)
    assert list(figures(PrecisionRecall(features=Pixels()), TRAIN, FAKE)) == ["precision", "recall"]


def test_density_coverage_is_that_of_the_features():
    got = figures(DensityCoverage(features=Pixels(), k=4), TRAIN, FAKE, HELD_OUT)
    assert list(got) == ["density", "coverage", "density_floor", "coverage_floor"]
    assert (got["density"], got["coverage"]) == density_coverage(pool(TRAIN), pool(FAKE), 4)
    assert (got["density_floor"], got["coverage_floor"]) == density_coverage(pool(TRAIN), pool(HELD_OUT), 4)


def test_kid_is_that_of_subsets():
    """One subset of all is the definition, whatever the order; the floor is noise about 0."""
    got = figures(KernelDistance(features=Pixels(), subset_size=400, subsets=1), TRAIN[:400], FAKE)
    assert got == {"kid": pytest.approx(kid(pool(TRAIN[:400]), pool(FAKE), [(range(400), range(400))]), rel=1e-5)}
    got = figures(METRICS[3], TRAIN, FAKE)
    assert abs(got["kid_floor"]) < got["kid"] / 5
    same = figures(METRICS[3], TRAIN, TRAIN.flip(0))
    assert abs(same["kid"]) < got["kid"] / 5


def test_the_inception_score_of_real_images_is_its_floor():
    metric = InceptionScore(features=Pixels(), feature="pool", splits=1)
    got = figures(metric, TRAIN, FAKE)
    assert got["is"] == pytest.approx(inception_score(pool(FAKE), 1), rel=1e-6)
    assert figures(metric, TRAIN, TRAIN)["is_floor"] == pytest.approx(inception_score(pool(TRAIN), 1), rel=1e-6)
    assert list(figures(metric, TRAIN[:399], FAKE)) == ["is"]


def test_splits_of_images_that_come_class_by_class():
    """Unshuffled, each part would be of one class."""
    logits = 50 * torch.eye(5).repeat_interleave(200, 0)
    accumulator = InceptionScore(features=Pixels(), splits=5).build(CONTEXT)
    accumulator.update(Sampled(TRAIN, {"logits": logits}, {}), False)
    assert accumulator.compute()["is"] > 4.5


def test_figures_of_features_made_for_some_data_carry_their_name():
    @attrs.frozen
    class Own(Pixels):
        def label(self, context):
            return "digits-1a2b"

    got = figures(FrechetDistance(features=Own()), TRAIN, FAKE, HELD_OUT)
    names = ["fd-digits-1a2b", "fd-digits-1a2b_held_out", "fd-digits-1a2b_floor", "fd-digits-1a2b_held_out_floor"]
    assert list(got) == names
    assert list(figures(attrs.evolve(METRICS[3], features=Own()), TRAIN, FAKE)) == [
        "kid-digits-1a2b",
        "kid-digits-1a2b_floor",
    ]


def test_a_reference_is_factored_once(monkeypatch):
    """Copies of an accumulator share the factor, and a changed reference gets its own."""
    made = []
    monkeypatch.setattr(frechet, "factor", lambda cov: (made.append(1), factor(cov))[1])
    accumulator = FrechetDistance(features=Pixels(), floor=False).build(CONTEXT)
    feed(accumulator, TRAIN, True)
    for fake in (FAKE, FAKE[:300]):
        one = copy.deepcopy(accumulator)
        feed(one, fake, False)
        assert one.compute()["fd"] == figures(FrechetDistance(features=Pixels(), floor=False), TRAIN, fake)["fd"]
    assert len(made) == 3  # that of the reference, and those of two accumulators of their own
    feed(one, TRAIN[:100], True)
    assert one.compute()["fd"] == pytest.approx(
        frechet_distance(*law(torch.cat((TRAIN, TRAIN[:100]))), *law(FAKE[:300])), rel=1e-5
    )


@by_metric
def test_batches_do_not_matter(metric):
    reference = figures(metric, TRAIN, FAKE, HELD_OUT)
    for batch in (1, 37, 500):
        assert figures(metric, TRAIN, FAKE, HELD_OUT, batch) == pytest.approx(reference, rel=1e-10)


@by_metric
def test_processes_do_not_matter(metric):
    """As the core does it: real images on the first process, generated ones on all, by way of pickle."""
    metric = metric if isinstance(metric, FrechetDistance) else attrs.evolve(metric, max_samples=1000)
    first, second, empty = (metric.build(CONTEXT) for _ in range(3))
    feed(first, TRAIN, True)
    feed(first, HELD_OUT, "held-out")
    real = first
    first = copy.deepcopy(real)
    feed(first, FAKE[:150], False)
    feed(second, FAKE[150:], False)
    for other in (second, empty):
        first.merge(pickle.loads(pickle.dumps(other)))
    assert first.compute() | first.floors() == pytest.approx(figures(metric, TRAIN, FAKE, HELD_OUT), rel=1e-10)
    with pytest.raises(DataError, match="0 generated"):
        real.compute()


@by_metric
def test_a_reference_stands_for_the_data(metric):
    whole, again, without = (metric.build(CONTEXT) for _ in range(3))
    feed(whole, TRAIN, True)
    feed(whole, HELD_OUT, "held-out")
    assert again.refer(whole.reference()) is True
    assert without.refer({"pool/mean": torch.zeros(6)}) is False
    feed(again, FAKE, False)
    assert again.compute() | again.floors() == pytest.approx(figures(metric, TRAIN, FAKE, HELD_OUT), rel=1e-10)


def test_moments_alone_are_a_reference_without_a_floor():
    mean, covariance = law(TRAIN)
    accumulator = METRICS[0].build(CONTEXT)
    published = {"pool/n": torch.tensor([500]), "pool/mean": mean, "pool/covariance": covariance}
    assert accumulator.refer(published)
    assert not any(metric.build(CONTEXT).refer(published) for metric in METRICS[1:])
    feed(accumulator, FAKE, False)
    assert accumulator.floors() == {}
    assert accumulator.compute() == {"fd": pytest.approx(frechet_distance(mean, covariance, *law(FAKE)), rel=1e-5)}


@by_metric
def test_errors_say_what_to_do(metric):
    few = [(TRAIN, FAKE[:1])] + [(TRAIN[:1], FAKE)] * (not isinstance(metric, InceptionScore))
    for train, fake in few * (not isinstance(metric, DensityCoverage)):
        with pytest.raises(DataError, match=r"1 (training|real|generated) (images|samples); .*give at least"):
            figures(metric, train, fake)
    if isinstance(metric, FrechetDistance):
        with pytest.raises(DataError, match="1 held-out images; give at least 2"):
            figures(metric, TRAIN, FAKE, HELD_OUT[:1])
    with pytest.raises(DataError, match="no feature 'logits'; set feature to one of: pool"):
        figures(attrs.evolve(metric, feature="logits"), TRAIN, FAKE)
    if not isinstance(metric, InceptionScore):
        with pytest.raises(DataError, match=r"4 generated features, 6 real ones|do not belong together"):
            figures(metric, TRAIN, FAKE[:, :, :, :2])
    accumulator = metric.build(CONTEXT)
    feed(accumulator, TRAIN, True)
    nan = Sampled(FAKE[:200], {"pool": torch.full((200, 6), torch.nan)}, {})
    with pytest.raises(DataError, match="NaN"):
        (accumulator.update(nan, False), accumulator.compute())


@pytest.mark.parametrize("name", OFFERS)
def test_offers_are_described(name):
    module, _, cls = OFFERS[name].target.partition(":")
    component = getattr(importlib.import_module(module), cls)
    assert inspect.getdoc(component).splitlines()[0] == OFFERS[name].summary
    assert all(field.metadata["help"] for field in attrs.fields(component))


def test_importing_the_plugin_imports_neither_torch_nor_its_components():
    code = (
        "import sys, genkit_metrics; genkit_metrics.genkit_metric();"
        "print([m for m in ('torch', 'numpy', 'scipy', 'genkit_metrics.metrics') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert genkit_metrics.GENKIT_API == API
