"""The search of sampling levels: exact on what falls and then rises, each point asked once."""

import pytest

from genkit.errors import RecipeError
from genkit_consistency.search import search, ternary


@pytest.mark.parametrize("width", range(1, 41))
def test_thirds_find_the_least_wherever_it_is(width):
    """The published script returns a stale third where one or two steps are left, or has none to return."""
    for least in range(width):
        asked = []

        def value(i, least=least, asked=asked):
            asked.append(i)
            return abs(i - least) + 0.1 * (i > least)

        assert ternary(lambda i: value(i - 5), 5, 4 + width) == 5 + least
        assert set(asked) <= set(range(width))


def test_the_first_level_is_searched_before_the_second_and_no_probe_is_repeated():
    candidates = [2.0**-i for i in range(30)]
    probes = []

    def value(levels):
        probes.append(levels)
        first = abs(levels[0] - candidates[7])
        return first + (abs(levels[1] - candidates[12]) - 1 if len(levels) > 1 else 0)

    assert search(value, candidates, 3) == (candidates[7], candidates[12])
    assert len(probes) == len(set(probes)) < 40
    lengths = [len(levels) for levels in probes]
    assert lengths == sorted(lengths)  # greedy: the first is settled when the second is tried
    assert all(levels[0] == candidates[7] > levels[1] for levels in probes if len(levels) == 2)


def test_a_grid_without_a_level_left_is_one_line():
    with pytest.raises(RecipeError, match="no level is left below 1"):
        search(lambda levels: -len(levels), [1.0], 3)
    assert search(lambda levels: 0.0, [1.0], 1) == ()
