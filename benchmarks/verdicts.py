"""How often studies err and what they find, by simulation with fixed seeds: false alarms, coverage, power, looks.

    OMP_NUM_THREADS=1 python benchmarks/verdicts.py [--studies 20000] [--json FILE]

A study has some arms and a baseline; "five arms" is taken both ways, with the baseline as one of them and without.
Every number is a share of studies. `statistics.compare` takes one study at a time, which would last for hours, so that
the same is done here on arrays; whether both agree is looked at first. The last table is what must hold. (The file is
not called statistics.py, which would hide Python's own module of that name from all that is started here.) Noise:

    log-normal    exp(0.35 z), compared as ratios; as Fréchet distances scatter, more or less
    normal        1 + 0.1 z, compared as ratios
    differences   z, as a figure has that can be negative, compared as differences
    skewed        exp(0.35 z) less 2, which is negative, compared as differences: what they cannot know
    arm x5        log-normal, and the first arm is five times noisier (1.75 on the logarithm); so arm x2, arm x3
    baseline x5   the same of the baseline; so baseline x2, baseline x3
    two arms x5   the same of two arms
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from genkit_studies import dunnett, power, statistics

SD = 0.35
SEEDS = (3, 4, 5, 6, 7, 8, 9, 10)
NOISES = {
    "log-normal": {},
    "normal": {},
    "differences": {},
    "skewed": {},
    "arm x2": {1: 2.0},
    "arm x3": {1: 3.0},
    "arm x5": {1: 5.0},
    "baseline x2": {0: 2.0},
    "baseline x3": {0: 3.0},
    "baseline x5": {0: 5.0},
    "two arms x5": {1: 5.0, 2: 5.0},
}
Figures = np.ndarray  # of studies, the baseline and the arms, and seeds


def figures(noise: str, shape: tuple[int, int, int], rng: np.random.Generator) -> Figures:
    """Raw figures without effects."""
    z = rng.standard_normal(shape)
    for arm, times in NOISES[noise].items():
        z[:, arm] *= times
    if noise == "normal":
        return 1 + 0.1 * z
    if noise == "differences":
        return z
    return np.exp(SD * z) - 2 * (noise == "skewed")


def half_widths(x: Figures, level: float, alike: float = statistics.ALIKE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every study: its arms' differences, half of their intervals, and whether variances were pooled."""
    _, groups, n = x.shape
    difference = x[:, 1:].mean(-1) - x[:, :1].mean(-1)
    variance = x.var(-1, ddof=1)
    total = variance.sum(-1, keepdims=True)
    pooled = (variance * (groups - 1) <= alike**2 * (total - variance)).all(-1)
    c = dunnett.critical(dunnett.loads(n, [n] * (groups - 1)), groups * (n - 1), level)
    half = np.repeat(c * np.sqrt(total / groups * 2 / n), groups - 1, axis=-1)
    own = variance[~pooled] / n
    squared = own[:, 1:] + own[:, :1]
    df = squared**2 * (n - 1) / (own[:, 1:] ** 2 + own[:, :1] ** 2)
    half[~pooled] = special.stdtrit(df, 1 - level / 2 / (groups - 1)) * np.sqrt(squared)
    return difference, half, pooled


def agreement(rng: np.random.Generator, studies: int = 300) -> float:
    """The largest relative gap between an interval's end here and in `statistics.compare`."""
    worst, names = 0.0, list(NOISES)
    for i in range(studies):
        x = figures(names[i % len(names)], (1, int(rng.integers(3, 9)), int(rng.integers(3, 11))), rng)
        ratio = bool((x > 0).all())
        difference, half, _ = half_widths(np.log(x) if ratio else x, statistics.ALPHA)
        found = statistics.compare(list(x[0, 0]), {str(k): list(v) for k, v in enumerate(x[0, 1:])})
        for k, effect in enumerate(found.effects.values()):
            ends = np.array([effect.low, effect.high])
            ours = difference[0, k] + np.array([-1, 1]) * half[0, k]
            worst = max(worst, float(np.abs((np.log(ends) if ratio else ends) - ours).max() / half[0, k]))
    return worst


def study(arms: int, seeds: int, noise: str, studies: int, rng: np.random.Generator) -> dict[str, Any]:
    """Shares of studies of one design: false alarms, what the intervals cover and find."""
    x = figures(noise, (studies, arms + 1, seeds), rng)
    if (x > 0).all():
        x = np.log(x)
    unit = 0.1 if noise == "normal" else SD
    difference, half, pooled = half_widths(x, statistics.ALPHA)
    out: dict[str, Any] = {"arms": arms, "seeds": seeds, "noise": noise, "studies": studies}
    out["false alarms"] = share((np.abs(difference) > half).any(-1))
    out["pooled"] = share(pooled)
    y = figures(noise, x.shape, rng)
    y = np.log(y) if (y > 0).all() else y
    true = np.linspace(-4, 4, arms) * unit if arms > 1 else np.array([4 * unit])
    y[:, 1:] += true[:, None]
    other, width, _ = half_widths(y, statistics.ALPHA)
    out["covered"] = share((np.abs(other - true) <= width).all(-1))
    for name, effect in (("threefold", math.log(3)), ("twofold", math.log(2))):
        times = effect / SD if noise == "differences" else effect  # the same number of standard deviations
        out[name] = share(np.abs(difference[:, -1] + times) > half[:, -1])  # the last arm has it alone
    return out


def share(of: np.ndarray) -> float:
    return round(float(of.mean()), 4)


def looking(arms: int, plan: Sequence[int], planned: int, noise: str, studies: int, rng: np.random.Generator) -> Any:
    """Studies that are looked at again with more seeds: called clear at any look, and with the error not spent."""
    x = np.log(figures(noise, (studies, arms + 1, plan[-1]), rng))
    spent, plain = np.zeros(studies, bool), np.zeros(studies, bool)
    for i, n in enumerate(plan):
        difference, half, _ = half_widths(x[:, :, :n], statistics.ALPHA)
        plain |= (np.abs(difference) > half).any(-1)
        difference, half, _ = half_widths(x[:, :, :n], power.level(plan[: i + 1], planned))
        spent |= (np.abs(difference) > half).any(-1)
    told = {"arms": arms, "looks": list(plan), "planned": planned, "noise": noise, "studies": studies}
    twofold = share(np.abs(difference[:, -1] + math.log(2)) > half[:, -1])
    return {**told, "false alarms": share(spent), "unspent": share(plain), "twofold": twofold}


def two_seeds(arms: int, noise: str, studies: int, rng: np.random.Generator) -> dict[str, Any]:
    """Why two seeds have no verdict: what their range covers, and what pooling would do to false alarms."""
    x = np.log(figures(noise, (studies, arms + 1, 2), rng))
    low, high = x[:, 1:].min(-1) - x[:, :1].max(-1), x[:, 1:].max(-1) - x[:, :1].min(-1)
    difference, half, _ = half_widths(x, statistics.ALPHA, alike=math.inf)
    out = {"arms": arms, "seeds": 2, "noise": noise, "studies": studies}
    pooled = share((np.abs(difference) > half).any(-1))
    return {**out, "covered by a range": share((low <= 0) & (high >= 0)), "false alarms if pooled": pooled}


def sizes() -> list[dict[str, Any]]:
    """The smallest effect found with 80% power, in standard deviations of one seed, as `power` has it."""
    return [{"arms": m, **{str(n): round(power.smallest(m, n), 2) for n in SEEDS}} for m in range(1, 9)]


def table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    print(f"\n{title}\n")
    cells = [list(columns), *([_cell(row[c]) for c in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def across(rows: Sequence[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """A row for each noise and number of arms, a column for each number of seeds."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        line = found.setdefault((row["noise"], row["arms"]), {"noise": row["noise"], "arms": row["arms"]})
        line[str(row["seeds"])] = row[what]
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000, help="of each design; five times as many of the first")
    parser.add_argument("--json", help="where the numbers are written, too")
    arguments = parser.parse_args()
    few, rng = arguments.studies, np.random.default_rng(0)
    many = 5 * few
    kept: dict[str, Any] = {"agreement": agreement(rng)}
    print(f"The arrays here agree with genkit's own intervals to {kept['agreement']:.0e} of their width.")
    columns = ["seeds", "false alarms", "covered", "pooled", "threefold", "twofold"]
    for arms in (4, 5):
        kept[f"{arms} arms"] = rows = [study(arms, n, "log-normal", many, rng) for n in SEEDS]
        table(f"A baseline and {arms} arms, log-normal noise", rows, columns)
        kept[f"{arms} arms, unequal"] = uneven = [
            study(arms, n, noise, few, rng) for noise in list(NOISES)[4:] for n in SEEDS
        ]
        counted = [str(n) for n in SEEDS]
        table("False alarms where one is noisier, by seeds", across(uneven, "false alarms"), ["noise", *counted])
        table("Share that found a threefold effect there", across(uneven, "threefold"), ["noise", *counted])
    designs(kept, few, rng)
    again(kept, many, rng)
    kept["must hold"] = held = must_hold(kept)
    table("What must hold with five arms, whether the baseline is one of them or not", held, list(held[0]))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)


def must_hold(kept: dict[str, Any]) -> list[dict[str, Any]]:
    """What studies are held to, and the least and the most that was found; a share scatters by 0.002 and less."""
    even = [row for m in (4, 5) for row in kept[f"{m} arms"]]
    uneven = [row for m in (4, 5) for row in kept[f"{m} arms, unequal"] if row["noise"] == "arm x5"]
    added = [row for row in kept["looks"] if row["arms"] in (4, 5) and row["noise"] == "log-normal"]
    lines = [
        ("false alarms, 3 to 10 seeds", "0.04 to 0.06", [row["false alarms"] for row in even], 0.04, 0.06),
        ("false alarms, one arm 5 times noisier", "at most 0.08", [row["false alarms"] for row in uneven], 0, 0.08),
        ("threefold found, 5 seeds", "at least 0.95", [r["threefold"] for r in even if r["seeds"] == 5], 0.95, 1),
        ("twofold found, 8 seeds", "at least 0.90", [r["twofold"] for r in even if r["seeds"] == 8], 0.9, 1),
        ("false alarms, seeds added up to 10", "at most 0.06", [row["false alarms"] for row in added], 0, 0.06),
    ]
    return [
        {"what": what, "bound": bound, "least": min(found), "most": max(found),
         "holds": "yes" if low <= round(min(found), 3) and round(max(found), 3) <= high else "no"}
        for what, bound, found, low, high in lines
    ]  # fmt: skip


def designs(kept: dict[str, Any], studies: int, rng: np.random.Generator) -> None:
    """1 to 8 arms, all noises."""
    kept["designs"] = rows = [
        study(arms, n, noise, studies, rng)
        for noise in NOISES
        for arms in range(1 + (noise == "two arms x5"), 9)
        for n in SEEDS
    ]
    columns = ["noise", "arms", *map(str, SEEDS)]
    some = [row for row in rows if row["arms"] in (1, 2, 8)]
    table("False alarms, by seeds", across(some, "false alarms"), columns)
    equal = [row for row in rows if row["noise"] == "log-normal"]
    for what in ("covered", "threefold", "twofold"):
        table(f"{what.capitalize()}, by seeds", across(equal, what), columns)
    kept["two seeds"] = [two_seeds(m, noise, studies, rng) for m in range(1, 9) for noise in ("log-normal", "arm x5")]
    table("Two seeds", kept["two seeds"], ["arms", "noise", "covered by a range", "false alarms if pooled"])
    kept["smallest"] = sizes()
    table("Smallest effect found with 80% power, in standard deviations", kept["smallest"], ["arms", *columns[2:]])


def again(kept: dict[str, Any], studies: int, rng: np.random.Generator) -> None:
    """Seeds added after a look."""
    one_by_one = {n: list(range(n, 11)) for n in (3, 5)}
    plans = [
        (one_by_one[3], 3), (one_by_one[3], 5), (one_by_one[3], 10), (one_by_one[5], 5), (one_by_one[5], 10),
        ([3, 5, 10], 3), ([3, 10], 3), ([5, 10], 5), ([5, 10], 10),
    ]  # fmt: skip
    kept["looks"] = rows = [
        looking(arms, plan, planned, noise, studies, rng)
        for noise in ("log-normal", "arm x5")
        for arms in (1, 4, 5, 8)
        for plan, planned in plans
    ]
    columns = ["noise", "arms", "looks", "planned", "false alarms", "unspent", "twofold"]
    table("Seeds added after a look: clear at any look; twofold at the last", rows, columns)


if __name__ == "__main__":
    main()
