"""Claims about evaluation: what is looked at how often, what several seeds give, what is compared with what."""

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

import genkit
from genkit.cli import show
from genkit.errors import DataError, RecipeError
from genkit.evaluation import images, measuring, scoring
from genkit.evaluation.scoring import Scorer
from genkit.kernel import registry, resolving
from genkit.kinds import Context, Setup
from genkit.runs import store
from genkit.training import checkpoint
from genkit_metrics.metrics import FrechetAccumulator

FD = {"fd": genkit.component("metric", "fd", features="pixels")}
BOTH = {**FD, "pr": genkit.component("metric", "precision-recall", features="pixels", max_samples=300)}
EDM = genkit.component("protocol", "edm-fid")


@pytest.fixture
def digits(tmp_path):
    data = registry.build(genkit.component("dataset", "digits"), Setup())
    return data, Context(spec=data.spec, data=data.identity, cache_dir=tmp_path / "cache")


class Drawn(torch.nn.Module):
    """A denoiser whose sampler gives training images, or whatever `spoil` makes of them."""

    def __init__(self, spec, spoil=lambda x: x):
        super().__init__()
        self.spec, self.spoil, self.weight = spec, spoil, torch.nn.Parameter(torch.zeros(1))
        self.sampler = self

    def nfe(self, n):
        return n

    def __call__(self, denoiser, draw, cond, n):
        return self.spoil(draw(0).tanh())


def evaluated(digits, metrics=FD, spoil=lambda x: x, **settings):
    data, context = digits
    told = {"protocol": EDM, "samples": 300, **settings}
    return measuring.evaluate(Drawn(data.spec, spoil), data, metrics, context, **told)


class Counted:
    """Data that count how many of their samples were asked for."""

    def __init__(self, data):
        self.data, self.asked = data, 0

    def __getattr__(self, name):
        return getattr(self.data, name)

    def __len__(self):
        return len(self.data)

    def batch(self, indices, key):
        self.asked += len(indices)
        return self.data.batch(indices, key)


def test_the_data_are_looked_at_once_and_floors_are_made_once(digits, monkeypatch):
    floors = []
    made = FrechetAccumulator.floors
    monkeypatch.setattr(FrechetAccumulator, "floors", lambda self: floors.append(1) or made(self))
    data, context = digits
    counted = Counted(data)
    first = evaluated((counted, context), BOTH, steps=(1, 2, 3), seeds=(0, 1))
    assert counted.asked == len(data) and len(floors) == 1
    again = evaluated((counted, context), BOTH, steps=(1, 2, 3), seeds=(0, 1))
    assert counted.asked == len(data) and again["steps"] == first["steps"]
    other = {"fd": attrs.evolve(FD["fd"], floor_max=100)}  # another metric: what is kept does not serve it
    assert "fd.fd_floor" in evaluated((counted, context), other)["steps"]["1"]["figures"]
    assert counted.asked == 2 * len(data)


def test_what_is_looked_at_and_what_is_drawn_are_told_apart(digits):
    """Training pictures are no samples: each has its own name and its own whole."""
    said = []

    def watch(what, done, total):
        said.append((what, done, total))

    evaluated(digits, steps=(1, 2), watch=watch)
    last = {what: (done, total) for what, done, total in said}
    assert list(last) == ["looking at training images", "looking at held-out images", "sampling in 1 step",
                          "sampling in 2 steps"]  # fmt: skip
    assert list(last.values()) == [(1617, 1617), (180, 180), (300, 300), (300, 300)]
    said.clear()
    evaluated(digits, seeds=(0, 1), watch=watch)  # what was kept is not looked at again
    assert [s for s in said if s[1] == s[2]] == [(f"sampling in 1 step, seed {i} of 2", 300, 300) for i in (1, 2)]


def test_the_time_left_is_that_of_what_is_being_done(monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr(scoring.time, "monotonic", lambda: now[0])
    watch = scoring.progress(told.append)
    for what, seconds, done, total in [
        ("looking", 1, 100, 400), ("looking", 2, 200, 400), ("looking", 4, 400, 400),
        ("sampling", 9, 50, 250), ("sampling", 19, 100, 250), ("sampling", 29, 150, 250),
    ]:  # fmt: skip
        now[0] = seconds
        watch(what, done, total)
    assert [event["left_sec"] for event in told] == [None, 2.0, 0.0, None, 30.0, 20.0]
    assert show.line(told[4], 0) == "sampling 100/250  0:00:30 left" and show.line(told[3], 0) == "sampling 50/250"


def test_a_damaged_cache_says_what_to_remove(digits):
    evaluated(digits)
    (kept,) = (digits[1].cache_dir / "statistics").iterdir()
    kept.write_bytes(kept.read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"{kept.name}.*; remove it"):
        evaluated(digits)


def test_a_cache_that_cannot_be_written_loses_no_figure(digits):
    digits[1].cache_dir.write_text("a file, and no folder")
    assert evaluated(digits)["steps"]["1"]["figures"]["fd.fd"] > 0


def test_several_seeds_give_means_and_minima():
    rows = [{"fd.fd": 3.0, "pr.recall": 0.5}, {"fd.fd": 1.0, "pr.recall": 0.7}]
    told = measuring.combined(rows, {"fd.fd_floor": 0.1})
    assert told["figures"] == {"fd.fd": 2.0, "pr.recall": pytest.approx(0.6), "fd.fd_floor": 0.1}
    assert told["minimum"] == {"fd.fd": 1.0, "pr.recall": 0.5} and told["by_seed"] == rows
    assert measuring.combined(rows[:1], {}) == {"figures": rows[0]}


def test_each_seed_is_an_evaluation_of_its_own(digits):
    both = evaluated(digits, seeds=(4, 5))["steps"]["1"]
    alone = [evaluated(digits, seeds=(seed,))["steps"]["1"]["figures"]["fd.fd"] for seed in (4, 5)]
    assert [row["fd.fd"] for row in both["by_seed"]] == alone and alone[0] != alone[1]


def test_the_quantiser_is_the_protocols_for_images_and_the_datas_for_toys(digits):
    half = torch.full((1, 1, 8, 8), 100.6 / 127.5 - 1)
    truncating = genkit.component("protocol", "cm-cifar10")
    assert [int(measuring.images(half, digits[0], p)[0, 0, 0, 0]) for p in (EDM, truncating)] == [101, 100]
    ring = registry.build(genkit.component("dataset", "ring", samples=10), Setup())
    x0 = torch.full((1, 2, 1, 1), 100.6 / 127.5 - 1)
    assert torch.equal(measuring.images(x0, ring, truncating), ring.decode(x0))


def test_a_truncating_protocol_gives_other_figures(digits):
    truncating = attrs.make_class("Truncating", {}, bases=(type(EDM),))()
    object.__setattr__(truncating, "quantise", lambda x0: ((x0 + 1) * 127.5).clip(0, 255).to(torch.uint8))
    one, two = (evaluated(digits, protocol=p)["steps"]["1"]["figures"]["fd.fd"] for p in (EDM, truncating))
    assert one != two


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_samples_that_are_not_finite_give_no_figure(digits, value):
    def spoil(x):
        x[:3, 0, 0, 0] = value
        return x

    with pytest.raises(DataError, match="3 of 256 drawn in 2 steps are NaN or infinite"):
        evaluated(digits, spoil=spoil, steps=(2,))


@pytest.mark.parametrize(("figure", "better"), [("fd.fd@1", 1.9), ("pr.recall@1", 0.3)])
def test_better_is_as_the_metric_says(figure, better):
    found = {
        "steps": {"1": {"figures": {"fd.fd": 2.0, "pr.recall": 0.2}}},
        "better": {"fd": "lower", "pr": "higher"},
    }
    now = {"fd.fd@1": 2.0, "pr.recall@1": 0.2}[figure]
    assert not measuring.improves(found, figure, {"figure": figure, "value": better})
    assert measuring.improves(found, figure, {"figure": figure, "value": 2 * now - better})
    assert not measuring.improves(found, figure, {"figure": figure, "value": now})
    assert measuring.improves(found, figure, {}) and measuring.improves(found, figure, {"figure": "x", "value": 0})
    with pytest.raises(RecipeError, match=r"no figure 'fd.fdd@1'; figures: fd.fd@1, pr.recall@1"):
        measuring.improves(found, "fd.fdd@1", {})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"protocol": "adm-imagenet64"}, "adm-imagenet64 is for 3x64x64 images, these are 1x8x8"),
        ({"protocol": "edm-fud"}, "did you mean 'edm-fid'"),
        ({"best": "fd.fd@1"}, "set evaluate.every_steps"),
        ({"best": "fid.fd@1", "every_steps": 2}, "there will be no figure 'fid.fd@1'"),
        ({"best": "fd.fd@2", "every_steps": 2}, "there will be no figure 'fd.fd@2'"),
        ({"best": "fd", "every_steps": 2}, "evaluate.best"),
        ({"samples": 3}, "metrics.pr: 3 generated images, and it takes 4 at least; raise evaluate.samples"),
        ({}, "metrics.pr: 1617 training images, and it takes 1701 at least; change its settings"),
        ({"reference": "nowhere.npz"}, "no such file"),
        ({"reference": "other.npz"}, "has statistics of features 'inception', not of 'pixels'"),
    ],
)
def test_what_could_not_be_evaluated_is_found_before_a_training(call, settings, told):
    np.savez("other.npz", mu=np.zeros(2), sigma=np.eye(2))
    words = [f"evaluate.{name}={value}" for name, value in {"steps": "[1]", **settings}.items()]
    words += [] if settings else ["metrics.pr.k=1700"]
    _, err = call("run", "ict_digits", *words, code=2 if "best" in settings or "did you" in told else 4)
    assert told in err and not Path("runs").exists()


def test_features_find_their_weights_before_a_training(call, monkeypatch):
    def require(self, context):
        raise DataError("weights of pixels", "are missing", "put them here")

    monkeypatch.setattr(type(FD["fd"].features), "require", require, raising=False)
    _, err = call("run", "ict_digits", "--dry-run", code=4)
    assert "weights of pixels: are missing; put them here" in err and not Path("runs").exists()


# ---- stories -------------------------------------------------------------------------------------


@pytest.fixture
def small(call, tiny, request):
    """A run of ict_digits in a few steps, evaluated on the way, its best checkpoint kept."""
    more = getattr(request, "param", ["optimizer.lr=0.1"])
    words = ["evaluate.every_steps=5", "evaluate.best=fd.fd@1", "evaluate.steps=[1]", "metrics.pr=false"]
    out, _ = call("run", "ict_digits", *tiny, *words, *more, "--json")
    return Path(json.loads(out)["folder"])


WORSENS = ["optimizer.lr=0.3", "train.seed=1", "evaluate.weights=raw"]


@pytest.mark.parametrize("small", [WORSENS], indirect=True, ids=["a run that gets worse"])
def test_the_best_checkpoint_stays_and_can_be_used(call, small):
    told = [e for e in store.events(small) if e["event"] == "evaluated"]
    figures = {e["k"]: e["figures"]["fd.fd@1"] for e in told}
    k = min(figures, key=figures.get)
    assert sorted(figures) == [5, 10, 15, 20, 24] and k < 20  # not saved on schedule, and long overtaken
    best = checkpoint.best(small / "checkpoints")
    assert (best["k"], best["figure"], best["value"]) == (k, "fd.fd@1", figures[k])
    assert k in map(checkpoint.step_of, checkpoint.present(small / "checkpoints"))
    found = json.loads(call("evaluate", "latest", "--checkpoint", "best", "--json")[0])
    assert found["k"] == k and found["steps"]["1"]["figures"]["fd.fd"] == pytest.approx(figures[k], rel=1e-6)
    call("sample", "latest", "--checkpoint", k, "--count", "2")
    assert store.summary(small).figures["1"]["fd.fd"] == figures[24]  # the newest one's figures stay the run's
    assert "Figures over training" in (small / "report.html").read_text()
    for which in ("7", "bestest"):
        assert f"has no checkpoint '{which}'; steps:" in call("sample", "latest", "--checkpoint", which, code=4)[1]


def test_the_best_by_another_protocol_is_no_match(call, tiny, small):
    folder = small / "checkpoints"
    first, best = min(map(checkpoint.step_of, checkpoint.present(folder))), checkpoint.best(folder)
    checkpoint.pin(folder, **{**best, "k": first, "value": -1.0, "protocol": "another"})
    words = ["evaluate.every_steps=5", "evaluate.best=fd.fd@1", "evaluate.steps=[1]", "metrics.pr=false"]
    call("run", "ict_digits", *tiny, *words, "evaluate.steps=[1,2]", "optimizer.lr=0.1")
    assert checkpoint.best(folder)["k"] == first  # the last step alone is not better than what it is not compared with
    call("run", "ict_digits", *tiny, *words, "optimizer.lr=0.1", "--fresh")
    assert checkpoint.best(folder) == best


def test_a_best_figure_that_is_not_there_is_a_line(call, tiny):
    words = ["evaluate.every_steps=5", "evaluate.best=fd.typo@1", "evaluate.steps=[1]", "metrics.pr=false"]
    told = call("run", "ict_digits", *tiny, *words, code=2)[1]
    assert "evaluate.best: there will be no figure 'fd.typo@1'; figures: fd.fd" in told and not Path("runs").exists()


def test_pruning_leaves_the_best(tmp_path):
    folder = tmp_path / "checkpoints"
    for k in range(1, 7):
        checkpoint.save(folder, k, {"w": torch.zeros(1)}, {}, keep=2)
        if k == 2:
            checkpoint.pin(folder, 2, figure="fd.fd@1", value=1.0)
    assert [checkpoint.step_of(path) for path in checkpoint.present(folder)] == [2, 5, 6]
    assert checkpoint.chosen(folder, "best").name == "step-0000002"


def test_a_figure_tells_how_it_was_made(call, small):
    out, _ = call("evaluate", "latest", "--samples", "280", "--seeds", "2")
    assert "fd ↓" in out and "(min " in out
    assert "280 samples · 2 seeds · published are 50,000, 3 seeds · pixels" in out and "training data" in out
    (found,) = [e for e in store.evaluations(small) if e["protocol"]["samples"] == 280]
    protocol = found["protocol"]
    assert protocol["seeds"] == [0, 1] and protocol["published"] == {"samples": 50_000, "seeds": 3}
    assert protocol["protocol"] == {"use": "edm-fid"} and protocol["sampler"]["use"] == "consistency"
    assert protocol["features"]["fd"].startswith("pixels ") and protocol["levels"]["sigma_max"] == 80
    assert found["made_with"]["torch"] == torch.__version__ and found["made_with"]["ema"]["use"] == "constant"
    assert found["steps"]["1"]["nfe"] == 1 and len(found["steps"]["1"]["by_seed"]) == 2
    assert "280 samples" in (small / "report.html").read_text()


def test_anybodys_samples_are_held_against_data_and_statistics(call, small):
    for name in ("s.h5", "pictures"):
        call("sample", "latest", "--count", "300", "--out", name)
    call("stats", "make", "ict_digits", "--features", "pixels", "--out", "digits.h5")
    told = json.loads(call("stats", "info", "digits.h5", "--json")[0])
    assert told["images"] == 1617 and told["features"].startswith("pixels ")
    own = json.loads(call("evaluate", "latest", "--samples", "300", "--json")[0])["steps"]["1"]["figures"]["fd.fd"]
    for samples in ("s.h5", "pictures"):
        for against in ("digits", "ict_digits", "digits.h5"):
            features = () if against == "digits.h5" else ("--features", "pixels")  # a file says of which it is
            found = json.loads(call("evaluate", samples, "--against", against, *features, "--json")[0])
            assert found["steps"]["given"]["figures"]["fd.fd"] == pytest.approx(own, rel=1e-9)
    of_run = json.loads(call("evaluate", "latest", "--against", "digits.h5", "--json")[0])
    assert of_run["steps"]["1"]["figures"]["fd.fd"] == pytest.approx(own, rel=1e-9)
    assert of_run["protocol"]["against"] == {"fd": "digits.h5"}


def test_what_looks_at_samples_alone_needs_no_reference(call, files):
    from genkit_metrics import external

    call("stats", "make", "digits", "--features", "pixels", "--out", "digits.h5")
    protocol = resolving.component("protocol", "edm-fid")
    score = {"is": resolving.component("metric", "inception-score", features="pixels", feature="pool", splits=2)}
    against = {name: external.evaluate("good.npz", name, score, protocol=protocol) for name in ("digits", "digits.h5")}
    one, other = (found["steps"]["given"]["figures"] for found in against.values())
    assert one["is.is"] == other["is.is"] and list(other) == ["is.is"]
    assert against["digits.h5"]["protocol"]["against"] == {"is": "nothing"}
    out, err = call("evaluate", "good.npz", "--against", "digits.h5", "--metrics", "precision-recall", code=4)
    assert "has no images, which the metric 'precision-recall' needs" in err and out == ""


@pytest.fixture
def files(tmp_path):
    """Samples and statistics, good and bad, in the working directory."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    floats = (images / 127.5 - 1).astype(np.float32)
    nan, far, positive = floats.copy(), floats * 200, (floats + 1) / 2
    nan[3, 0, 0, 0] = np.nan
    good = {"good": images, "floats": floats, "one": images[:1]}
    for name, value in {**good, "nan": nan, "far": far, "positive": positive}.items():
        np.savez(f"{name}.npz", arr_0=value)
    np.savez("wide.npz", arr_0=np.zeros((40, 9, 9, 1), np.uint8))
    np.savez("odd.npz", arr_0=np.zeros((40, 8, 8), np.uint8))
    np.savez("none.npz", x=images)
    Path("torn.npz").write_bytes(Path("good.npz").read_bytes()[:200])
    np.savez("edm.npz", mu=np.zeros(64), sigma=np.eye(64))


def test_float_samples_are_quantised_by_the_protocol(call, files):
    words = ("--against", "digits", "--features", "pixels", "--json")
    one, two = (json.loads(call("evaluate", name, *words)[0])["steps"] for name in ("good.npz", "floats.npz"))
    assert one == two


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nan.npz"], 4, "nan.npz: 1 of 40 samples are NaN or infinite"),
        (["far.npz"], 4, "far.npz: samples lie in -200 … 200; give float samples in [-1, 1], or uint8 ones"),
        (["positive.npz"], 4, "positive.npz: samples lie in 0 … 1; give"),
        (["one.npz"], 4, "1 generated images; give at least 2"),
        (["wide.npz"], 4, "wide.npz: has 1x9x9 images, digits has 1x8x8 ones"),
        (["odd.npz"], 4, "arr_0 is uint8 of shape (40, 8, 8); give uint8 (N, H, W, C)"),
        (["none.npz"], 4, "none.npz: has no arr_0"),
        (["torn.npz"], 4, "torn.npz: cannot be read as .npz"),
        (["good.npz", "--samples", "41"], 4, "has 40 samples, 41 are wanted"),
        (["good.npz", "--against", "edm.npz"], 4, "has statistics of features 'inception', not of 'pixels'"),
        (["good.npz", "--against", "nothing"], 2, "nothing: is no data set, recipe, folder or file"),
        (["good.npz", "--protocol", "adm-imagenet64"], 4, "is for 3x64x64 images, these are 1x8x8"),
        (["good.npz", "--metrics", "fdd"], 2, "did you mean 'fd'"),
        (["good.npz", "--seeds", "3"], 2, "--seeds: is for runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_doubtful_samples_are_a_line_and_no_figure(call, files, words, code, told):
    given = [] if "--against" in words else ["--against", "digits"]
    out, err = call("evaluate", *words, *given, "--features", "pixels", code=code)
    assert told in err and out == "" and err.count("genkit:") == 1


def test_samples_need_something_to_be_held_against(call, files):
    assert "--against: is missing" in call("evaluate", "good.npz", code=2)[1]


def test_grey_samples_are_repeated_and_it_is_said(digits):
    from genkit_metrics import external

    said = []
    grey = images.Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert external._shape("mine", grey, (3, 8, 8), "data", said.append) == (3, 8, 8)
    assert said == ["mine: grey images, repeated to three channels"]
    (batch,) = external._repeated(images.blocks(grey), 3)
    assert batch.x.shape == (2, 3, 8, 8)


def test_two_processes_evaluate_as_one(call, small, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "genkit"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    environment["GENKIT_CACHE"] = str(tmp_path / "another")  # so that both look at the data
    words = ["evaluate", "latest", "--samples", "700", "--seeds", "2", "--json"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    together, events = json.loads(done.stdout), len(store.events(small))
    alone = json.loads(call(*words)[0])
    assert together["made_with"]["world_size"] == 2 and len(store.events(small)) == events + 1
    for row, other in zip(together["steps"]["1"]["by_seed"], alone["steps"]["1"]["by_seed"], strict=True):
        assert row == pytest.approx(other, rel=1e-6)
    with store.held(small):
        done = subprocess.run(
            [*command, *words], capture_output=True, text=True, env=environment, timeout=200, check=False
        )
    assert done.returncode != 0 and f"pid {os.getpid()}" in done.stderr


def test_a_judge_without_data_needs_statistics_that_suffice(digits):
    data, context = digits
    kept = Scorer(FD, context, data, held_out=False).statistics()
    alone = Scorer(FD, context, None, kept)
    drawn = images.Images(torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8))
    known = Scorer(FD, context, data).figures(images.blocks(drawn))
    assert alone.figures(images.blocks(drawn))["fd.fd"] == pytest.approx(known["fd.fd"], rel=1e-9)
    bare = attrs.evolve(kept, arrays={n: a for n, a in kept.arrays.items() if "rows" not in n}, origin="s.h5")
    with pytest.raises(DataError, match=r"s.h5: has no images, which the metric 'pr' needs"):
        Scorer(BOTH, context, None, bare)
