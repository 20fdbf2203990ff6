"""Plain words for what intervals say: about a gap, a curve over a setting's values, and a claim."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def gap(row: pd.Series) -> str:
    """A word for one row of `sea.study.Study.paired`, by its interval over seeds, or over users for one seed.

    "beyond noise" if the whole interval lies above zero, "opposite" if it lies below, else "within noise". These
    are intervals of 95 %, one gap at a time: of many, some miss zero by chance.
    """
    half = row["± users"] if np.isnan(row["± seeds"]) else row["± seeds"]
    if row["difference"] > half:
        return "beyond noise"
    return "opposite" if row["difference"] < -half else "within noise"


def curve(below: Sequence[bool]) -> str:
    """A word for how results go along a setting's values, judged from the best of them.

    Args:
        below: for each value, in ascending order, whether its result is below the best one's beyond noise; False
            for the best itself.

    Returns:
        "flat within noise" if no value is told from the best; "rises then falls" if both ends are below it;
        "rises" or "falls" if the first or the last end alone is, whatever happens on the way; "other" if only
        values between the ends are.

    Raises:
        ValueError: fewer than two values, or all below the best.
    """
    if len(below) < 2 or all(below):
        raise ValueError(f"'below' needs two values or more, and False for the best, in 'curve' (got {list(below)})")
    if not any(below):
        return "flat within noise"
    words = {(True, True): "rises then falls", (True, False): "rises", (False, True): "falls"}
    return words.get((bool(below[0]), bool(below[-1])), "other")


def verdict(difference: float, half: float) -> str:
    """One of four words for a claim that needs `difference` to be above zero, by its interval's half-width.

    "holds" if the whole interval is above zero, "contradicted here" if it is below; else, by the difference itself,
    "holds weakly" if it is above zero and "not seen here" if it isn't.
    """
    if difference > half:
        return "holds"
    if difference < -half:
        return "contradicted here"
    return "holds weakly" if difference > 0 else "not seen here"
