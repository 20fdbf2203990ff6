"""pyproject.toml is the one source of dependencies; the lock and the conda door agree with it."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = {
    line.partition("==")[0].lower().replace("_", "-"): line.partition("==")[2]
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
}
CONDA = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))


def test_every_dependency_is_pinned_to_a_version_that_it_allows():
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(LOCK[requirement.name.lower()]), requirement


def test_the_lock_has_nothing_but_exact_pins():
    assert LOCK["torch"] == "2.13.0"
    for name, version in LOCK.items():
        assert re.fullmatch(r"[a-z0-9.-]+", name)
        assert not Version(version).local, name


def test_the_conda_door_leads_to_the_same_pins():
    assert CONDA["name"] == "sea"
    python, pip, section = CONDA["dependencies"]
    assert Version(python.removeprefix("python=")) >= Version(PROJECT["requires-python"].removeprefix(">="))
    assert pip == "pip"
    assert section == {"pip": ["-c requirements.lock", "-e .[test]"]}


def test_the_scripts_are_sound_bash_and_can_be_run():
    for name in ("run_all.sh", "run_tests.sh", ".ci/run", "scripts/environment.sh"):
        path = REPOSITORY / name
        subprocess.run(["bash", "-n", path], check=True)
        assert name.startswith("scripts/") or path.stat().st_mode & 0o100
    assert "./run_tests.sh" in (REPOSITORY / ".ci" / "run").read_text()
