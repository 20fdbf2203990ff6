"""pyproject.toml is the one source of dependencies; the lock and the conda door agree with it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import threadpoolctl
import torch
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


@pytest.mark.parametrize(
    ("package", "version", "accepted"),
    [
        ("numpy", None, True),  # the environment of these tests, as it is
        ("numpy", "1.26.4", False),
        ("numpy", "2.0.0", True),
        ("torch", "2.9.1", False),  # older than 2.11, though not as text
        ("torch", "2.99.0+cu999", True),
        ("pytest", "7.4.4", False),  # of the extra
        ("a package that nobody asks for", "0.1", True),
    ],
)
def test_an_environment_is_taken_as_it_is_only_if_its_versions_are_allowed(tmp_path, package, version, accepted):
    if version:
        folder = tmp_path / f"{package.replace(' ', '_')}-{version}.dist-info"  # found before the true one
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    line = '. scripts/environment.sh; root=$PWD; has_packages "$1" test'
    path = os.pathsep.join(map(str, (tmp_path, REPOSITORY)))
    process = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path}
    )
    assert (process.returncode == 0) == accepted


def test_another_checkouts_sea_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "sea").mkdir()
    (tmp_path / "sea" / "__init__.py").touch()
    line = '. scripts/environment.sh; root=$PWD; has_packages "$1"'
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(["bash", "-c", line, "bash", sys.executable], cwd=REPOSITORY, env=environment)
    assert process.returncode != 0


def test_the_tests_compute_on_one_thread_and_so_do_their_children():
    line = "import threadpoolctl, torch; print(torch.get_num_threads(), threadpoolctl.threadpool_info())"
    process = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert process.stdout.startswith("1 ")
    assert set(re.findall(r"'num_threads': (\d+)", process.stdout)) == {"1"}
    assert torch.get_num_threads() == 1
    assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}


@pytest.fixture
def fake(tmp_path):
    """A Python whose tests end with exit status 3, an apt-get that can do nothing, and a user who is root."""
    lines = {
        "python": 'case "$*" in *pytest*) exit 3 ;; esac',
        "apt-get": f"touch {tmp_path}/asked; exit 100",
        "id": "echo 0",
    }
    for name, line in lines.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o700)
    return {**os.environ, "PYTHON": str(tmp_path / "python"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_what_the_tests_took_is_told_though_they_fail(fake):
    process = subprocess.run(["./run_tests.sh"], cwd=REPOSITORY, env=fake, capture_output=True, text=True)
    assert process.returncode == 3
    assert re.search(r"^Took \d+m\d+s; CPU: \d+ s, and \d+ s of the system's\.$", process.stderr, re.M)


def test_a_browser_that_cannot_be_installed_does_not_stop_the_tests(fake, tmp_path):
    process = subprocess.run([".ci/run"], cwd=REPOSITORY, env=fake, capture_output=True, text=True)
    assert process.returncode == 3  # theirs
    assert (tmp_path / "asked").exists() == (shutil.which("chromedriver") is None)
