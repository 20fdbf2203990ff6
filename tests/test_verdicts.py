"""The words against scipy's own tests of the same numbers, and against every pattern of four values."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sea import verdicts


def row(values_by_seed, values_by_user):
    def half(values):
        return stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else np.nan

    return pd.Series(
        {
            "difference": np.mean(values_by_seed),
            "± users": half(values_by_user),
            "± seeds": half(values_by_seed),
        }
    )


def word(values):
    """By one-sided tests at 2.5 %, which no interval enters."""
    if stats.ttest_1samp(values, 0, alternative="greater").pvalue < 0.025:
        return "beyond noise"
    return "opposite" if stats.ttest_1samp(values, 0, alternative="less").pvalue < 0.025 else "within noise"


def test_a_gap_is_judged_by_its_interval_over_seeds():
    rng = np.random.default_rng(4)
    found = set()
    for shift in np.linspace(-4, 4, 41):
        seeds, users = rng.standard_normal(4) + shift, rng.standard_normal(30) - shift
        found.add(expected := word(seeds))
        assert verdicts.gap(row(seeds, users)) == expected
    assert len(found) == 3


def test_one_seed_leaves_the_users():
    rng = np.random.default_rng(5)
    for shift in (-1.0, 0.0, 1.0):
        users = rng.standard_normal(50) + shift
        assert verdicts.gap(row([users.mean()], users)) == word(users)


def test_no_difference_at_all_is_within_noise():
    assert verdicts.gap(pd.Series({"difference": 0.0, "± users": 0.0, "± seeds": 0.0})) == "within noise"


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([1, 2, 3, 9], "rises"),
        ([1, 9, 9, 9], "rises"),
        ([9, 3, 2, 1], "falls"),
        ([9, 9, 9, 1], "falls"),
        ([1, 9, 9, 1], "rises then falls"),
        ([1, 2, 9, 3], "rises then falls"),
        ([9, 1, 1, 9], "other"),
        ([9, 9, 9, 9], "flat within noise"),
        ([9, 8], "falls"),
    ],
)
def test_curves_drawn_by_hand(heights, expected):
    assert verdicts.curve([height < max(heights) for height in heights]) == expected


def test_a_curve_read_backwards_changes_rises_into_falls_and_nothing_else():
    mirrored = {"rises": "falls", "falls": "rises"}
    patterns = [p for p in product([False, True], repeat=4) if not all(p)]
    for pattern in patterns:
        there, back = verdicts.curve(pattern), verdicts.curve(pattern[::-1])
        assert back == mirrored.get(there, there)
    assert {verdicts.curve(p) for p in patterns} == {"flat within noise", "rises then falls", "rises", "falls", "other"}


@pytest.mark.parametrize("below", [[], [False], [True, True]])
def test_a_curve_without_two_values_or_a_best_is_refused(below):
    with pytest.raises(ValueError, match="'below' needs two values or more"):
        verdicts.curve(below)


@pytest.mark.parametrize("half", [0.0, 0.5, np.inf])
def test_a_verdict_agrees_with_the_word_for_the_gap(half):
    same = {"beyond noise": {"holds"}, "opposite": {"contradicted here"}}
    for difference in np.linspace(-1, 1, 21):
        found = verdicts.verdict(difference, half)
        gap = verdicts.gap(pd.Series({"difference": difference, "± users": half, "± seeds": np.nan}))
        assert found in same.get(gap, {"holds weakly", "not seen here"})
        assert (found in ("holds", "holds weakly")) == (difference > 0)
