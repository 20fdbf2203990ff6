"""One writer a folder, and no process that outlives the command, on notebooks of a few lines."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

import sea.__main__ as main
from sea import execute

REPOSITORY = Path(__file__).parents[1]
COMMAND = """
import sys
from pathlib import Path
import sea.__main__ as main
found = sorted(Path(sys.argv.pop(1)).glob("*.ipynb"))
main.notebooks = lambda: found
sys.exit(main.main())
"""
TRAIN = """
import joblib, time
def train(name):
    open(f"{out}/{name}", "w").close()
    time.sleep(600)
joblib.Parallel(2)(joblib.delayed(train)(name) for name in ("one", "two"));
"""
SLEEP = "open(f'{out}/one', 'w').close(); open(f'{out}/two', 'w').close(); import time; time.sleep(600)"
WRITE = "open(f'{out}/figure.txt', 'w').close()"


def book(path: Path, source: str) -> Path:
    cells = [nbformat.v4.new_code_cell("out = '.'", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def until(reached, seconds=120):
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def marked(mark: str) -> set[psutil.Process]:
    """All processes whose environment has a mark: it is inherited, whoever their parent is by now."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SEA_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


@pytest.fixture
def begin(tmp_path, start):
    """Begin a command on one notebook of a source; return it when the notebook is under way, with its mark."""

    def begin(source):
        book(tmp_path / "books" / "01_slow.ipynb", source)
        mark = str(uuid.uuid4())
        process = start(
            [sys.executable, "-c", COMMAND, str(tmp_path / "books"), "--out", str(tmp_path / "out")],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"SEA_TEST_MARK": mark},
        )  # fmt: skip
        partial = tmp_path / "out" / ".partial-01_slow"
        until(lambda: (partial / "one").exists() and (partial / "two").exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process, mark

    return begin


def run(tmp_path, monkeypatch, source, out):
    path = book(tmp_path / "books" / "01_slow.ipynb", source)
    monkeypatch.setattr(main, "notebooks", lambda: [path])
    monkeypatch.setattr(sys, "argv", ["sea", "--out", str(out)])
    monkeypatch.setattr(execute, "interrupt_once", lambda: None)  # these tests keep their own handlers
    return main.main()


def test_a_killed_command_takes_everything_with_it_and_the_next_one_takes_over(tmp_path, begin, monkeypatch, capfd):
    process, mark = begin(TRAIN)
    out, before = tmp_path / "out", sorted((tmp_path / "out").rglob("*"))
    assert len(marked(mark)) >= 5  # the command, its worker, the kernel, its two
    assert run(tmp_path, monkeypatch, WRITE, out) == 2
    rule = "run_all.sh: --out needs to be written by one command at a time"
    assert capfd.readouterr() == ("", f"{rule} (got {out}, where another one is at work)\n")
    assert sorted(out.rglob("*")) == before
    process.kill()
    until(lambda: not marked(mark), 30)
    (out / ".partial-00_other").mkdir(exist_ok=True)
    assert run(tmp_path, monkeypatch, WRITE, out) == 0
    assert sorted(p.name for p in out.iterdir()) == [".lock", "figure.txt", "notebooks"]


@pytest.mark.parametrize("everyone", [True, False])
def test_a_terminated_command_ends_as_by_ctrl_c_once(tmp_path, begin, everyone):
    """A supervisor signals the first process alone, `timeout` the whole group; impatience, or both, is once more."""
    process, mark = begin(TRAIN if everyone else SLEEP)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        (os.killpg if everyone else os.kill)(process.pid, number)
        time.sleep(0.2)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "01_slow   interrupted" in printed
    assert "Traceback" not in errors
    until(lambda: not marked(mark), 30)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "notebooks"]
    assert [p.name for p in (tmp_path / "out" / "notebooks").iterdir()] == ["01_slow.log"]


def test_ctrl_c_again_while_it_cleans_up_changes_nothing(tmp_path, begin):
    process, mark = begin(SLEEP)
    while process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    printed, errors = process.communicate()
    assert process.returncode == 130
    assert "01_slow   interrupted" in printed
    assert "Traceback" not in errors
    until(lambda: not marked(mark), 30)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "notebooks"]


def test_ctrl_c_before_the_first_notebook_is_no_traceback(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_run", interrupted)
    monkeypatch.setattr(execute, "interrupt_once", lambda: None)
    monkeypatch.setattr(sys, "argv", ["sea"])
    assert main.main() == 130
    assert capsys.readouterr().out == "Interrupted.\n"


@pytest.mark.parametrize("place", ["file", "file/below", "folder"])
def test_out_that_cannot_be_written_is_one_line_before_anything_is_trained(tmp_path, monkeypatch, capfd, place):
    (tmp_path / "file").touch()
    if place == "folder":  # root may write anywhere, but not where a file is in the way
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "notebooks").touch()
    out = tmp_path / place
    assert run(tmp_path, monkeypatch, WRITE, out) == 2
    printed, errors = capfd.readouterr()
    assert printed == ""
    assert errors.startswith(f"run_all.sh: --out needs to be a folder that can be written (got {out}: ")
    assert errors.count("\n") == 1


def test_a_folder_that_is_read_only_is_told_too(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir / "x"))

    monkeypatch.setattr(execute, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"--out needs .* can be written \(got .*out: Permission denied\)$"):
        with execute.sole_writer(tmp_path / "out"):
            pass


def test_braces_in_out_are_letters(tmp_path, monkeypatch):
    out = tmp_path / "a{b}c{}{{"
    assert run(tmp_path, monkeypatch, WRITE, out) == 0
    assert (out / "figure.txt").exists()
    metadata = json.loads((out / "notebooks" / "01_slow.ipynb").read_text())["metadata"]
    assert metadata["papermill"]["output_path"] == str(out / ".partial-01_slow" / "01_slow.ipynb")
