"""A study compared: each arm's figures over its seeds, what it is worth against the baseline, and what that says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite, nan
from statistics import fmean

import attrs

from genkit.evaluation import results
from genkit_studies import power, statistics, study
from genkit_studies.statistics import Effect, Estimate, Family, Noise
from genkit_studies.study import Arm, Study, Trial

GAP = "–"
OPEN = ("todo", "queued", "running", "preempted")  # states of trials that a study still waits for


@attrs.frozen(kw_only=True)
class Row:
    """One arm. `figures`, `effects` and `noise` are by the figure's name; what cannot be said is absent.

    Attributes:
        milliseconds: Of training, for each image that was seen.
        memory: The most bytes that a training held at a time; 0 where that is not known.
        families: By figure, how all arms were compared; the same in every row.
    """

    arm: Arm
    state: str
    seconds: float
    milliseconds: float
    memory: int
    figures: Mapping[str, Estimate]
    effects: Mapping[str, Effect]
    families: Mapping[str, Family]
    noise: Mapping[str, Noise]


def figure_names(of: Study) -> list[str]:
    """The figures of any trial, that which the study is about first; floors are left out."""
    found = dict.fromkeys(n for t in of.trials if t.state == "done" for n in t.figures if not results.is_floor(n))
    return sorted(found, key=lambda name: name != of.metric)


def better(of: Study, name: str) -> str:
    """Which way a figure improves, as its metric says: "lower", "higher", or "" where it says nothing."""
    return better_of(of.arms[0], name)


def compare(of: Study) -> list[Row]:
    """A row for each arm, the baseline first. Diverged trials have no figure and are counted in `state`."""
    names, error = figure_names(of), level(of)
    values = {arm.label: {name: _values(of, arm, name) for name in names} for arm in of.arms}
    base, *others = values
    families = {
        name: statistics.compare(values[base][name], {arm: values[arm][name] for arm in others}, error)
        for name in names
    }
    return [_row(of, arm, values[arm.label], families) for arm in of.arms]


def _row(of: Study, arm: Arm, values: Mapping[str, list[float]], families: Mapping[str, Family]) -> Row:
    trials, label = of.of(arm), arm.label
    told = {name: _noise(of, arm, name) for name in values}
    return Row(
        arm=arm,
        state=study.states(trials),
        seconds=sum(t.seconds for t in trials),
        milliseconds=1000 * fmean([1 / t.images_per_sec for t in trials if t.images_per_sec] or [0]),
        memory=max((t.memory for t in trials), default=0),
        figures={name: statistics.estimate(v, families[name].ratio) for name, v in values.items() if v},
        effects={name: family.effects[label] for name, family in families.items() if label in family.effects},
        families=families,
        noise={name: one for name, one in told.items() if one.evaluation is not None},
    )


def _noise(of: Study, arm: Arm, name: str) -> Noise:
    trials = [t for t in of.of(arm) if isfinite(_figure(t, name)) and name in t.by_seed]
    return statistics.noise([t.by_seed[name] for t in trials])


# ---- looks: seeds that are added after a verdict was told ------------------------------------------


def complete(of: Study) -> int:
    """For how many seeds no trial is waited for."""
    waiting = {trial.seed for trial in of.trials if trial.state in OPEN}
    return sum(seed not in waiting for seed in of.seeds)


def looked(of: Study) -> Study:
    """The study after it was told: with one look more, if there was a verdict and seeds are new since the last."""
    now = complete(of)
    if now < statistics.ENOUGH or now <= max(of.looks, default=0):
        return of
    return attrs.evolve(of, looks=(*of.looks, now), planned=of.planned or len(of.seeds))


def looks(of: Study) -> tuple[int, ...]:
    """The seeds of each look, with that of now as the last."""
    now = max(complete(of), *of.looks, 1)  # an arm that is added waits for its seeds: the others have theirs
    return (*(look for look in of.looks if look < now), now)


def level(of: Study) -> float:
    """The error that the verdict of now may make, of 5% for the whole study: see `power.level`."""
    return power.level(looks(of), of.planned or len(of.seeds))


def outlook(of: Study, usual: float | None = None, source: str = "") -> list[str]:
    """What the study will find, and with one seed more: a sentence, or none if there is no noise to go by.

    Args:
        usual: The standard deviation of the logarithm of a recipe's figure, for a study without trials.
        source: The words that say where it is from.
    """
    name = next(iter(figure_names(of)), "")
    samples = [_values(of, arm, name) for arm in of.arms] if name else []
    ratio = statistics.positive(samples)
    own = statistics.spread([statistics.scaled(values, ratio) for values in samples])
    sd = own or (usual if ratio else None)
    if not sd or len(of.arms) < 2:
        return []
    found = power.outlook(len(of.arms) - 1, len(of.seeds), sd, ratio, of.looks, of.planned)
    text = _outlook(found, ratio)
    return [text if own or not source else f"{source}{text[0].lower()}{text[1:]}"]


def _outlook(found: power.Outlook, ratio: bool) -> str:
    def said(effect: float | None) -> str:
        if effect is None:
            return "nothing"
        return f"{effect:.3g} times better or worse" if ratio else f"a difference of {effect:.2g}"

    text = f"With {found.seeds} seed{'s' * (found.seeds > 1)}, 8 of 10 studies find {said(found.smallest)}"
    text += f"; with one more, {said(found.one_more)}"
    worse = found.smallest and found.one_more and found.one_more >= found.smallest
    return f"{text}, as this look has spent the error: add several at once." if worse else f"{text}."


# ---- words -----------------------------------------------------------------------------------------


def sentences(of: Study, rows: list[Row]) -> list[str]:
    """What the study says of its figure, for who reads nothing else."""
    names = figure_names(of)
    if not names:
        return ["No trial has figures yet."]
    name = names[0]
    way = better(of, name)
    said = [f"No trial has a figure {of.metric}; this is about another."] if of.metric not in ("", name) else []
    said += [f"{name}: {way} is better." if way else f"{name}: its metric does not say which direction is better."]
    if len(of.seeds) == 1:
        return [*said, "One seed: no noise estimate, so no difference here can be called real."]
    if name in rows[0].noise:
        said += [f"Noise of {rows[0].arm.label}, as standard deviations: {_spread(rows[0].noise[name])}."]
    told = {row.arm.label: row.effects[name] for row in rows if name in row.effects}
    clear = [f"{label} ({effect(one, way)})" for label, one in told.items() if one.clear]
    noise = [label for label, one in told.items() if one.clear is False]
    unknown = [label for label, one in told.items() if one.clear is None]
    said += [f"Differences that matter: {', '.join(clear)}."] if clear else []
    said += [f"Within noise of the baseline: {', '.join(noise)}."] if noise else []
    said += [f"Fewer than three seeds, so no verdict: {', '.join(unknown)}."] if unknown else []
    family = rows[0].families[name]
    said += [*_unlike(of, family), *(_looks(of) if family.procedure else [])]
    said += outlook(looked(of)) if (noise or unknown) and family.procedure != "welch" else []
    return said + [f"{row.arm.label}: {row.state}." for row in rows if "diverged" in row.state]


def _unlike(of: Study, family: Family) -> list[str]:
    if family.noisy is None:
        return []
    times = f"{family.excess:.2g} times as much as" if family.excess < inf else "and not"
    who = family.noisy or of.arms[0].label
    return [f"Seeds of {who} scatter {times} those of the other arms, so each arm is judged by its own noise."]


def _looks(of: Study) -> list[str]:
    n = looks(of)
    planned = of.planned or len(of.seeds)
    if len(n) == 1 and n[0] >= planned:
        return []
    seeds = f"with {n[-1]} of {planned} planned seeds" if n[-1] < planned else f"with {n[-1]} seeds"
    before = f" after looks at {', '.join(map(str, n[:-1]))}" * (len(n) > 1)
    left = f"may err in {100 * level(of):.2g}% of studies, so its intervals are wider"
    return [f"A verdict {seeds}{before} {left}."]


def effect(one: Effect, way: str = "") -> str:
    """In words: "1.93 times worse [1.31, 2.84]" or "+0.31 [+0.12, +0.5], worse"; a range as "(1.2 to 3)".

    Args:
        way: As `better` gives. Ratios are turned so that better is above 1, too.
    """
    improved = bool(way) and (one.value < float(one.ratio)) == (way == "lower")
    word = "" if not way or one.value == float(one.ratio) else " better" if improved else " worse"
    if not one.ratio:
        return f"{one.value:+.3g}{span(one, lambda v: f'{v:+.3g}')}{word and ','}{word}"
    if way and one.value < 1:
        low, high = (None if end is None else 1 / end for end in (one.high, one.low))
        one = attrs.evolve(one, value=1 / one.value, low=low, high=high)
    return f"{_factor(one.value)} times{word}{span(one, _factor)}"


def _figure(trial: Trial, name: str) -> float:
    """A figure of a trial; not finite where there is none."""
    return trial.figures.get(name, nan) if trial.state == "done" else nan


def _values(of: Study, arm: Arm, name: str) -> list[float]:
    return [value for trial in of.of(arm) if isfinite(value := _figure(trial, name))]


def better_of(arm: Arm, name: str) -> str:
    """As `better`, by an arm's own metrics."""
    return str(getattr(arm.recipe.metrics.get(name.partition(".")[0]), "better", ""))


def span(one: Estimate | Effect, told: Callable[[float], str]) -> str:
    """An interval in brackets; a range, which is none, in parentheses."""
    if one.low is None or one.high is None:
        return ""
    low, high = told(one.low), told(one.high)
    return f" ({low} to {high})" if one.kind == "range" else f" [{low}, {high}]"


def _factor(value: float) -> str:
    """Three digits, or as many as it takes to be on the same side of 1."""
    for digits in range(3, 17):
        if value == 1 or float(text := f"{value:.{digits}g}") != 1:
            break
    return text if value != 1 else "1"


def _spread(one: Noise) -> str:
    parts = {"training": one.training, "evaluation": one.evaluation}
    return ", ".join(f"{value:.2g} of {what}" for what, value in parts.items() if value is not None)
