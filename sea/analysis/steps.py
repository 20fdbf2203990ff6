"""Checks beside the steps of a derivation: what came out, what is true, and whether the two agree."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

ERRORS = 4
"""How many standard errors a simulated mean may be off: a right step fails once in 16 000 checks."""

EXACT = 1e-6
"""How far a value that no chance is in may be off, relative to the true one (absolute where that is below 1)."""


class Steps:
    """`check = Steps()`; then `check(step, got, true)` after each step, and `check.table()` at the end."""

    def __init__(self):
        self._rows = []

    def __call__(self, step: str, got: ArrayLike, true: float) -> bool:
        """Print and keep one check.

        Args:
            step: what is checked.
            got: a number, computed without chance; or independent draws, whose mean is meant, shape (N,), N ≥ 2. The
                standard error of the mean is then s / √N.
            true: what it should be.

        Returns:
            Whether the two agree: draws within `ERRORS` standard errors, a number within `EXACT`.
        """
        draws = np.atleast_1d(np.asarray(got, dtype=float))
        mean = float(draws.mean())
        error = float(draws.std(ddof=1) / np.sqrt(len(draws))) if len(draws) > 1 else 0.0
        right = abs(mean - true) <= (ERRORS * error if error else EXACT * max(1.0, abs(true)))
        told = f"{mean:.6f} ± {error:.6f} (standard error)" if error else f"{mean:.6f}"
        print(f"{'✓' if right else '✗'} {step}: got {told}, true {true:.6f}")
        self._rows.append((step, mean, error, float(true), "✓" if right else "✗"))
        return right

    def table(self) -> pd.DataFrame:
        """A row for each check: "got", its "standard error" (0 where there is no chance in it), "true", "agrees"."""
        columns = ["step", "got", "standard error", "true", "agrees"]
        return pd.DataFrame(self._rows, columns=columns).set_index("step")
