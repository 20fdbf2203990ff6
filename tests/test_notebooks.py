"""The notebooks as they are stored, and run_all.sh's side of them, on a quick profile and by hand-made ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
from test_book import dead_links

import sea.__main__ as main
from sea import execute, published
from sea.data import load, planted
from sea.models import READERS
from sea.study import PROFILES

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = main.notebooks()
PUBLISHED = ", ".join(published.datasets())
PASSED = {"dataset", "profile", "seeds", "device", "jobs", "runs", "out"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_clean(path):
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert book.cells[0].cell_type == "markdown"
    assert "claim" in book.cells[0].source
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    assert "out" in papermill.inspect_notebook(path)


def test_each_notebook_leads_to_its_neighbours_by_their_titles():
    books = [(path.name, nbformat.read(path, 4)) for path in NOTEBOOKS]
    titles = [book.cells[0].source.splitlines()[0].removeprefix("# ") for _, book in books]
    for place, (_, book) in enumerate(books):
        links = [f"[← {titles[place - 1]}]({books[place - 1][0]})"] if place else []
        links += [f"[{titles[place + 1]} →]({books[place + 1][0]})"] if place + 1 < len(books) else []
        assert book.cells[-1].metadata.tags == ["navigation"]
        assert book.cells[-1].source == " · ".join(links)
        assert titles[place].startswith(f"{place}. ")


def test_the_command_knows_every_profile():
    assert tuple(PROFILES) == main.PROFILES


def command(*options, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "sea", *map(str, options)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        **kwargs,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Everything, end to end, as the reader runs it."""
    out = tmp_path_factory.mktemp("out")
    return command("--profile", "quick", "--out", out), out


def test_all_notebooks_execute_end_to_end(quick):
    process, out = quick
    assert process.returncode == 0, process.stdout + process.stderr
    for path in NOTEBOOKS:
        assert f"{path.stem}  " in process.stdout
        executed = nbformat.read(out / "notebooks" / path.name, 4)
        code = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code)
        stderr = [o for cell in code for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
        assert not stderr  # no warnings, no progress bars
    assert not list(out.glob(".partial-*"))


def test_the_book_of_the_quick_look_has_every_notebook_and_no_dead_link(quick):
    process, out = quick
    assert f"The book: {out / 'site' / 'index.html'}" in process.stdout
    for path in NOTEBOOKS:
        page = (out / "site" / out.name / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "shown with its outputs" in page
    assert dead_links(out / "site") == []


def test_every_figure_has_its_four_files_and_every_table_its_own(quick):
    _, out = quick
    stamps = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    subjects = {path.stem.split("_")[1] for path in NOTEBOOKS if 7 <= int(path.stem[:2]) <= 16}
    assert subjects <= {name.split("_")[0] for name in stamps}
    for name, stamp in stamps.items():
        suffixes = {path.suffix for path in out.glob(f"{name}.*")}
        assert suffixes in ({".pdf", ".png", ".csv", ".json"}, {".csv", ".md", ".tex", ".json"}), name
        assert stamp["drawn"]
    assert {"dataset", "checksum", "runs", "revisions", "commit", "torch", "device", "trained"} <= set(
        stamps["training_test"]
    )


def book(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell("out = '.'\ndataset = 'planted'", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


WRITE = "open(f'{out}/figure.txt', 'w').close()"


def test_a_failing_notebook_does_not_stop_the_others_and_leaves_no_figure(tmp_path, monkeypatch, capsys):
    books = [
        book(tmp_path / "01_bad.ipynb", WRITE, "1 / 0"),
        book(tmp_path / "02_good.ipynb", "open(f'{out}/good.txt', 'w')"),
    ]
    monkeypatch.setattr(main, "notebooks", lambda: books)
    monkeypatch.setattr(sys, "argv", ["sea", "--no-site", "--out", str(tmp_path / "out")])
    assert main.main() == 1
    printed = capsys.readouterr().out
    assert "01_bad    failed" in printed
    assert "02_good   done" in printed
    assert "ZeroDivisionError" in (tmp_path / "out" / "notebooks" / "01_bad.log").read_text()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "good.txt", "notebooks"]
    assert not (tmp_path / "out" / "notebooks" / "01_bad.ipynb").exists()


def test_a_kernel_keeps_its_own_messages_to_itself(tmp_path):
    ask = "from ipykernel.kernelapp import IPKernelApp; assert IPKernelApp.instance().log_level == 50"
    path = book(tmp_path / "01_ask.ipynb", ask)
    assert execute.execute([path], {}, tmp_path / "out", at_once=1)[path][0] == "done"


LATE = """
import time
thread = get_ipython().kernel.iopub_thread
send = thread._really_send
def late(message, *rest, **more):
    if any(b'"idle"' in bytes(part) for part in message):
        time.sleep(6)
    send(message, *rest, **more)
thread._really_send = late
"""


def test_output_that_a_busy_machine_delays_is_waited_for(tmp_path):
    """An explorer's page has 5 MB: that a cell is done may be known seconds before all of its output is there."""
    path = book(tmp_path / "01_late.ipynb", LATE)
    done = execute.execute([path], {}, tmp_path / "out", at_once=1)[path]
    assert done.status == "done", Path(done.log).read_text()


BURN = """
import time
from joblib import Parallel, delayed
def burn(seconds):
    while time.process_time() < seconds:
        pass
Parallel(2)(delayed(burn)(3) for _ in range(2));
"""
SERVER = """
import multiprocessing
work = "while __import__('time').process_time() < 3: 0"
process = multiprocessing.get_context("forkserver").Process(target=exec, args=(work,))
process.start()
process.join()
"""


@pytest.mark.parametrize("work", [BURN, SERVER], ids=["joblib", "forkserver"])
def test_cpu_seconds_count_every_process_of_a_notebook(tmp_path, work):
    if work is SERVER and sys.platform != "linux":
        pytest.skip("what outlives its parent is counted on Linux alone")
    path = book(tmp_path / "01_work.ipynb", work)
    outcome = execute.execute([path], {}, tmp_path / "out", at_once=1)[path]
    assert outcome.status == "done", Path(outcome.log).read_text()
    assert outcome.cpu > (6 if work is BURN else 3)


def test_the_table_has_minutes_and_cpu_seconds_and_their_total(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "notebooks", lambda: [book(tmp_path / "01_one.ipynb")])
    monkeypatch.setattr(sys, "argv", ["sea", "--no-site", "--out", str(tmp_path / "out")])
    assert main.main() == 0
    header, one, total, _ = capsys.readouterr().out.splitlines()[-4:]
    assert header.split() == ["notebook", "status", "minutes", "CPU", "s", "log"]
    assert one.split()[:2] == ["01_one", "done"]
    name, minutes, cpu = total.split()
    assert name == "total"
    assert float(minutes) >= float(one.split()[2])
    assert int(cpu) > int(one.split()[3])


def test_a_quick_look_takes_a_sample_says_so_and_leaves_results_alone(tmp_path, monkeypatch, capfd):
    planted(250, 60, mean_interactions=12).save(tmp_path / "large")
    planted(60, 40, mean_interactions=12).save(tmp_path / "small")
    tell = book(tmp_path / "01_tell.ipynb", "open(f'{out}/told.txt', 'w').write(dataset);")
    monkeypatch.setattr(main, "notebooks", lambda: [tell])
    monkeypatch.setattr(main, "REPOSITORY", tmp_path)
    for name, profile, sampled in (("large", "quick", True), ("large", "quick", True), ("small", "quick", False)):
        line = ["sea", "--no-site", "--dataset", str(tmp_path / name), "--profile", profile]
        monkeypatch.setattr(sys, "argv", line)
        assert main.main() == 0
        told = load((tmp_path / "figures" / f"{name}-quick" / "told.txt").read_text())
        assert ("compact sample: 200 of 250 users" in told.warning) == sampled
        assert ("Quick look at a compact sample: 200 of 250 users" in capfd.readouterr().out) == sampled
    assert not (tmp_path / "figures" / "large").exists()
    monkeypatch.setattr(sys, "argv", ["sea", "--no-site", "--dataset", str(tmp_path / "large")])
    assert main.main() == 0
    assert not load((tmp_path / "figures" / "large" / "told.txt").read_text()).warning


def test_what_took_longest_begins_first_and_what_is_not_known_keeps_reading_order(tmp_path, capfd):
    books = [book(tmp_path / f"{name}.ipynb") for name in ("01_a", "02_b", "03_c", "04_d")]
    copies = tmp_path / "out" / "notebooks"
    copies.mkdir(parents=True)
    (copies / "01_a.ipynb").write_text("not a notebook")
    (copies / "03_c.ipynb").write_text(json.dumps({"metadata": {"papermill": {"duration": 2.5}}}))
    (copies / "04_d.ipynb").write_text(json.dumps({"metadata": {"papermill": {"duration": 70}}}))
    outcomes = execute.execute(books, {}, tmp_path / "out", at_once=1)
    assert {status for status, *_ in outcomes.values()} == {"done"}
    begun = [line.split()[0] for line in capfd.readouterr().out.splitlines() if line.endswith("...")]
    assert begun == ["04_d", "03_c", "01_a", "02_b"]


def test_the_time_left_is_told_while_a_notebook_trains(tmp_path, monkeypatch, capfd):
    line = "import os, pathlib, time; pathlib.Path(os.environ['SEA_PROGRESS']).write_text('1 of 2'); time.sleep(3)"
    monkeypatch.setattr(main, "notebooks", lambda: [book(tmp_path / "01_slow.ipynb", line, WRITE)])
    monkeypatch.setattr(execute, "EVERY", 0.05)
    monkeypatch.setattr(sys, "argv", ["sea", "--no-site", "--out", str(tmp_path / "out")])
    assert main.main() == 0
    assert capfd.readouterr().out.count("  01_slow: 1 of 2\n") == 1  # once, not at every look
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "figure.txt", "notebooks"]


INTERRUPTED = """
import sys
from pathlib import Path
import sea.__main__ as main
slow = Path(sys.argv.pop(1))
books = [slow, slow.with_name("02_other.ipynb"), slow.with_name("03_never.ipynb")]
main.notebooks = lambda: books
sys.exit(main.main())
"""


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("everyone", [True, False])
def test_ctrl_c_leaves_nothing_that_looks_finished(tmp_path, start, jobs, everyone):
    """One notebook, or two at a time; a terminal signals the whole group, a supervisor the first process alone."""
    for name in ("01_slow", "02_other", "03_never"):
        book(tmp_path / f"{name}.ipynb", WRITE, "import time; time.sleep(600)")
    path, out = tmp_path / "01_slow.ipynb", tmp_path / "out"
    process = start(
        [sys.executable, "-c", INTERRUPTED, str(path), "--out", str(out), "--jobs", str(jobs)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    begun = ["01_slow", "02_other"][:jobs]
    while not all((out / f".partial-{name}" / "figure.txt").exists() for name in begun) and process.poll() is None:
        time.sleep(0.05)
    (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "concurrent" not in errors  # a dying kernel may complain, the runner must not
    for name in ("01_slow", "02_other", "03_never"):
        assert f"{name.ljust(8)}  {'interrupted' if name in begun else 'not run'}" in printed
    assert sorted(p.name for p in out.iterdir()) == [".lock", "notebooks"]
    assert sorted(p.name for p in (out / "notebooks").iterdir()) == [f"{name}.log" for name in begun]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--dataset", "nope"], "--dataset needs to be planted, a folder or one under data/ (got 'nope')"),
        (["--only", "01,77"], f"needs numbers among {NOTEBOOKS[0].name[:2]}, "),
        (["--profile", "slow"], "invalid choice: 'slow'"),
        (["--models", "SEA,XYZ"], "'models' needs names among BPR, "),
        (["--seeds", "0"], "needs to be a whole number of at least 1 (got '0')"),
        (["--jobs", "two"], "needs to be a whole number of at least 1 (got 'two')"),
        (["--dataset", "tests"], "tests: needs exactly one NAME.inter"),
        (
            ["--published", "--dataset", "nope"],
            f"--dataset needs to have published runs, as {PUBLISHED} has (got nope)",
        ),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_2(options, message):
    process = command(*options)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert message in process.stderr


def test_published_runs_are_drawn_without_data_or_a_training(tmp_path):
    process = command("--published", "--only", "11,14,15", "--no-site", "--out", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Left out, as they need features, weights or trainings of their own: 14_tsne" in process.stdout
    assert "trainings done" not in process.stdout + process.stderr
    table = pd.read_csv(tmp_path / "generalization_test.csv", index_col=0)
    assert table.loc["VBPR, plain", "runs"] >= 10
    stamp = json.loads((tmp_path / "generalization_test.json").read_text())
    assert {line.split()[-1] for line in stamp["runs"]} <= {record.key for record in published.read("planted")}
    drawn, kept = (pd.read_csv(folder / "knockout_gains.csv") for folder in (tmp_path, REPOSITORY / "figures/planted"))
    assert set(drawn["model"]) == set(READERS)
    if len(kept) == len(drawn):  # not those that `run_all.sh` drew, of fewer models
        pd.testing.assert_frame_equal(drawn, kept, rtol=1e-6)


def test_replaced_features_are_drawn_from_records_where_features_need_no_file(capsys):
    for dataset, drawn in (("planted", True), ("ml100k", False)):
        options = main.parse(["--published", "--dataset", dataset])
        main._choose_published(options)
        assert any(path.name.startswith("15") for path in options.only) == drawn
        assert ("15_knockout" in capsys.readouterr().out) != drawn


def test_paths_on_the_command_line_are_the_callers(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    options = main.parse(["--dataset", "mine", "--out", "figures"])
    assert options.dataset == str(tmp_path / "mine")
    assert options.out == tmp_path / "figures"
    assert main.parse([]).out == REPOSITORY / "figures" / "planted"
    assert main.parse(["--profile", "quick"]).out == REPOSITORY / "figures" / "planted-quick"
    assert (
        PASSED & set(papermill.inspect_notebook(next(path for path in NOTEBOOKS if "training" in path.stem))) == PASSED
    )
