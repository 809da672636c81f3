"""What is said of figures: before they are made, where they will mean little or take long, and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from genkit.evaluation import images, results
from genkit.kernel import registry
from genkit.runs.planning import Plan
from genkit_metrics.metrics import FrechetDistance

ROUGH = 1.5  # times as long: less may be none, as times are guessed
NOISE = 0.9  # of a floor: what is above may be below it by chance


def of_plan(planned: Plan, training: bool) -> Iterator[str]:
    """Lines before a training, or before an evaluation alone; none where all is as usual."""
    if planned.recipe.metrics and training:
        yield from _longer(planned)
    for name, metric in planned.recipe.metrics.items():
        if isinstance(metric, FrechetDistance):
            yield from _too_few(name, metric, planned)


def _longer(planned: Plan) -> Iterator[str]:
    """A network call takes about a quarter of the time of a step's image."""
    settings, train = planned.recipe.evaluate, planned.recipe.train
    steps = min(settings.every_steps or train.steps, train.steps)
    if planned.calls() / 4 > ROUGH * steps * train.batch_size:
        often = " or raise evaluate.every_steps" if settings.every_steps else ""
        what = f"evaluate: {settings.count:,} samples take longer than the {steps:,} steps of training before them"
        yield f"{what}; lower evaluate.samples{often}"


def _too_few(name: str, metric: FrechetDistance, planned: Plan) -> Iterator[str]:
    """The covariance of n samples has no inverse unless n exceeds the number of features."""
    extract = registry.build(metric.features, planned.context)
    found = extract(images.block(planned.data, 0, 1).x).get(metric.feature)
    samples = planned.recipe.evaluate.count
    if found is not None and samples <= found.shape[1]:
        what = f"metrics.{name}: {samples:,} samples are too few for {found.shape[1]:,} features"
        yield f"{what}, and the figure tells their number above all; raise evaluate.samples, to ten times as many"


def of_figures(figures: Mapping[str, float]) -> Iterable[str]:
    """A line for each distance that is clearly below what perfect samples would score."""
    for name, value in figures.items():
        figure, _, n = name.partition("@")
        floor = figures.get(f"{figure}_floor@{n}", 0.0)
        if figure.partition(".")[2].startswith(("fd", "kid")) and 0 <= value < NOISE * floor:
            what = f"{name} is {results.tidy(value)}, below the {results.tidy(floor)} of perfect samples"
            yield f"{what}: copies of training images, or too few samples; look at them, and raise evaluate.samples"
