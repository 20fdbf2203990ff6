import numpy as np
import pytest

from sea.analysis.steps import Steps


def test_draws_are_judged_by_their_standard_error(capsys):
    check = Steps()
    draws = np.tile([0.0, 2.0], 50)  # mean 1, s = √(100/99), so the standard error is 1/√99
    assert check("a", draws, 1.39)  # 3.9 of them off
    assert not check("b", draws, 1.41)  # 4.1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "✓ a: got 1.000000 ± 0.100504 (standard error), true 1.390000"
    assert printed[1].startswith("✗ b: ")
    table = check.table()
    assert table["standard error"].to_numpy() == pytest.approx([99**-0.5] * 2)
    assert list(table["agrees"]) == ["✓", "✗"]


@pytest.mark.parametrize(("got", "right"), [(2.0, True), (2.0 + 1e-6, True), (2.00001, False), (np.nan, False)])
def test_a_number_without_chance_has_to_be_exact(got, right, capsys):
    assert Steps()("a", got, 2.0) is right
    assert "standard error" not in capsys.readouterr().out


def test_a_right_simulation_passes_and_a_wrong_truth_does_not():
    check, rng = Steps(), np.random.default_rng(0)
    right = [check("uniform", rng.random(500), 0.5) for _ in range(500)]
    assert sum(right) >= 499  # each fails with a probability of 6e-5
    assert not check("uniform", rng.random(500), 0.6)
