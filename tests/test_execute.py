"""One writer a folder, and no process that outlives the command, on notebooks of a few lines."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import nullcontext, suppress
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
from sea import execute
def run(options):  # without the imports of a training
    with execute.sole_writer(options.out):
        print(*(outcome.status for outcome in execute.execute(options.only, {}, options.out, 1).values()))
    return 130
main._run = run
sys.exit(main.main())
"""
TRAIN = """
import joblib, time
def train(name):
    open(f"{out}/{name}", "w").close()
    time.sleep(600)
joblib.Parallel(2)(joblib.delayed(train)(name) for name in ("one", "two"));
"""
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
    """Begin a command on one notebook that trains; return it when two trainings are under way, with its mark."""

    def begin():
        book(tmp_path / "books" / "01_slow.ipynb", TRAIN)
        mark = str(uuid.uuid4())
        process = start(
            [sys.executable, "-c", COMMAND, str(tmp_path / "books"), "--out", str(tmp_path / "out")],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"SEA_TEST_MARK": mark},
        )  # fmt: skip
        training = [tmp_path / "out" / ".partial-01_slow" / name for name in ("one", "two")]
        until(lambda: all(path.exists() for path in training) or process.poll() is not None, 300)
        assert process.poll() is None, process.communicate()
        return process, mark

    return begin


def run(path, monkeypatch, out):
    monkeypatch.setattr(main, "notebooks", lambda: [path])
    monkeypatch.setattr(sys, "argv", ["sea", "--no-site", "--out", str(out)])
    monkeypatch.setattr(execute, "interrupt_once", nullcontext)  # these tests keep their own handlers
    return main.main()


def test_a_second_command_is_refused_and_a_killed_one_takes_everything_with_it(tmp_path, begin, monkeypatch, capfd):
    process, mark = begin()
    out, before = tmp_path / "out", sorted((tmp_path / "out").rglob("*"))
    assert len(marked(mark)) >= 5  # the command, its worker, the kernel, its two
    assert run(tmp_path / "books" / "01_slow.ipynb", monkeypatch, out) == 2
    rule = "run_all.sh: --out needs to be written by one command at a time"
    assert capfd.readouterr() == ("", f"{rule} (got {out}, where another one is at work)\n")
    assert sorted(out.rglob("*")) == before
    process.kill()
    until(lambda: not marked(mark), 30)
    (out / ".partial-01_slow" / "folder").mkdir(parents=True, exist_ok=True)
    with execute.sole_writer(out):
        assert sorted(p.name for p in out.iterdir()) == [".lock", "notebooks"]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_or_a_supervisor_ends_everything_once(tmp_path, begin, first):
    """A supervisor may signal the whole group, or the first process; more signals, as it cleans up, change nothing."""
    process, mark = begin()
    os.killpg(process.pid, first)

    def ended() -> bool:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
            os.kill(process.pid, signal.SIGTERM)
        return process.poll() is not None

    until(ended, 120)
    printed, errors = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in printed
    assert "Traceback" not in errors
    until(lambda: not marked(mark), 30)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "notebooks"]
    assert [p.name for p in (tmp_path / "out" / "notebooks").iterdir()] == ["01_slow.log"]


def test_ctrl_c_before_the_first_notebook_is_no_traceback(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_run", interrupted)
    monkeypatch.setattr(execute, "interrupt_once", nullcontext)
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
    assert run(tmp_path / "none.ipynb", monkeypatch, out) == 2
    printed, errors = capfd.readouterr()
    assert printed == ""
    assert errors.startswith(f"run_all.sh: --out needs to be a folder that can be written (got {out}: ")
    assert errors.count("\n") == 1


def test_a_folder_that_is_read_only_is_told_too(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir / "x"))

    monkeypatch.setattr(execute, "TemporaryFile", refuse)
    rule = r"--out needs to be a folder that can be written \(got .*out: Permission denied\)$"
    with pytest.raises(ValueError, match=rule), execute.sole_writer(tmp_path / "out"):
        pass


def test_braces_in_a_path_are_letters(tmp_path):
    path, out = book(tmp_path / "{books}" / "01_write.ipynb", WRITE), tmp_path / "a{b}c{}{{"
    assert execute.execute([path], {}, out, 1)[path].status == "done"
    assert (out / "figure.txt").exists()
    metadata = json.loads((out / "notebooks" / path.name).read_text())["metadata"]
    assert metadata["papermill"]["output_path"] == str(out / ".partial-01_write" / path.name)
