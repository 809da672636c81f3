"""What is said of data that were found: how many are used, what was left out or done to them, all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genkit.errors import DataError
from genkit_images.reading import TOLD

FEW = 100  # images; below, what is trained is a copy of them
SHOWN = 10


def shown(name: str) -> str:
    """A file's name on one line, whatever bytes it has."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def counts(of: Mapping[str, int], most: int = SHOWN) -> str:
    """`.txt: 3, hidden: 2`, the most frequent first."""
    ordered = sorted(((name, n) for name, n in of.items() if n), key=lambda item: (-item[1], item[0]))
    rest = [f"others: {sum(n for _, n in ordered[most:])}"] if len(ordered) > most else []
    return ", ".join([*(f"{shown(name)}: {n}" for name, n in ordered[:most]), *rest])


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first ten, and how many more there are."""
    more = f"{separator}and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return separator.join(shown(name) for name in names[:SHOWN]) + more


def summary(where: object, used: int, left_out: Mapping[str, int], done: Mapping[str, int]) -> tuple[str, ...]:
    """One line of a folder or stream of pictures; none where all were used as they are.

    Args:
        done: How many pictures what was done to, by keys of `reading.TOLD`.
    """
    parts = [f"left out: {counts(left_out)}"] if left_out else []
    parts += [f"{text}: {done[key]}" for key, text in TOLD.items() if done.get(key)]
    return (f"{where}: {used} picture{'s' * (used != 1)} used; {'; '.join(parts)}",) if parts else ()


def few(where: object, count: int) -> tuple[str, ...]:
    """A word where there are so few images that a network learns each by heart."""
    if count >= FEW:
        return ()
    what = f"{where}: only {count} image{'s' * (count != 1)} to train on, which a network learns by heart"
    return (f"{what}; add pictures (thousands are usual), or take it as a trial",)


def refused(where: object, errors: Sequence[DataError], total: int) -> DataError:
    """All errors of pictures as one: how many there are, and by cause the first ten by name."""
    if len(errors) == 1:
        return errors[0]
    causes: dict[str, list[str]] = {}
    for error in errors:
        causes.setdefault(error.what, []).append(error.where.removeprefix(f"{where}/"))
    told = [f"{what}: {listed(names)}" for what, names in causes.items()]
    hints = "; ".join(dict.fromkeys(error.hint for error in errors))
    return DataError(where, f"{len(errors)} of {total} pictures cannot be used ({listed(told, '; ')})", hints)
