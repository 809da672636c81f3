"""What is said of figures before and after: one line each, with a remedy, and nothing where all is as usual."""

import signal

import pytest

import genkit
from genkit.cli import main
from genkit.runs import planning
from genkit_metrics import notes

TINY = ["train.steps=24", "train.batch_size=16", "network.model_channels=8", "network.num_blocks=1"]


def said(*overrides, recipe="ict_digits", training=True):
    return planning.plan(genkit.load_recipe(recipe, list(overrides)), device="cpu").notes(training)


@pytest.mark.parametrize("recipe", ["ict_digits", "ct_digits", "edm_digits", "ict_ring"])
def test_a_normal_run_begins_without_a_word(recipe):
    assert said(recipe=recipe) == []


def test_an_evaluation_that_takes_longer_than_the_training_is_told_before():
    """Three network calls a sample, a quarter of a step each: 768 samples are 1.5 times 24 steps of 16 images."""
    few, many = (said(*TINY, f"evaluate.samples={n}") for n in (768, 769))
    assert few == []
    (line,) = many
    assert "evaluate: 769 samples take longer than the 24 steps of training before them" in line
    assert line.endswith("; lower evaluate.samples")
    (often,) = said(*TINY, "evaluate.samples=300", "evaluate.every_steps=8")
    assert "the 8 steps" in often and "or raise evaluate.every_steps" in often
    assert said(*TINY, "evaluate.samples=769", training=False) == []  # an evaluation alone follows no training


@pytest.mark.parametrize(("samples", "lines"), [(64, 1), (65, 0)])
def test_samples_that_are_no_more_than_features_are_told(samples, lines):
    """8x8 grey pixels: 64 features, whose covariance takes 65 samples."""
    found = said(f"evaluate.samples={samples}")
    assert len(found) == lines
    assert all(
        "metrics.fd: 64 samples are too few for 64 features" in f and "raise evaluate.samples" in f for f in found
    )


def test_too_few_samples_are_told_once_before_a_run_and_before_an_evaluation(capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        for words in (["run", "ict_digits", *TINY, "evaluate.samples=60"], ["evaluate", "latest", "--samples", "50"]):
            with pytest.raises(SystemExit) as left:
                main(words)
            err = capsys.readouterr().err
            assert left.value.code == 0 and err.count("samples are too few for 64 features") == 1
            assert err.index("too few") < err.index("evaluated at step")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("figures", "lines"),
    [
        ({"fd.fd@1": 0.5, "fd.fd_floor@1": 1.0}, 1),
        ({"fd.fd@1": 0.95, "fd.fd_floor@1": 1.0}, 0),  # chance
        ({"fd.fd@1": 1.2, "fd.fd_floor@1": 1.0}, 0),
        ({"mine.fd_digits_held_out@2": 0.1, "mine.fd_digits_held_out_floor@2": 1.0}, 1),
        ({"pr.recall@1": 0.2, "pr.recall_floor@1": 0.9}, 0),  # of these more is better
        ({"kid.kid@1": -1e-5, "kid.kid_floor@1": 1e-6}, 0),  # unbiased: about 0, and below it by chance
        ({"fd.fd@1": 0.5}, 0),
    ],
)
def test_a_score_below_its_own_floor_is_told(figures, lines):
    found = notes.of_figures(figures)
    assert len(list(found)) == lines


def test_a_score_below_its_floor_is_on_record_and_says_what_to_do():
    (line,) = notes.of_figures({"fd.fd@1": 0.5, "fd.fd_floor@1": 1.0})
    assert line.startswith(
        "fd.fd@1 is 0.5000, below the 1.000 of perfect samples: copies of training images, or too few"
    )
