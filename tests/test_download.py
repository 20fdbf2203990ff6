"""Fetching the official files, against a server on this machine that misbehaves in every way that servers do."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gdown
import numpy as np
import pytest
import requests

# ruff: noqa: E501
from sea.data import OFFICIAL, DataError, download, fetch
from sea.data.official import Official

PAGE = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"
CONFIRM = b"""<!DOCTYPE html><html><body><p>Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="https://drive.usercontent.google.com/confirmed/FILE" method="get">
<input type="hidden" name="confirm" value="t"/></form></body></html>"""
LINES = "".join(f"{u}\t{i}\t{(u + i) % 3}\n" for u in range(200) for i in range(200)).encode()
CONTENT = {
    "baby.inter": b"userID\titemID\tx_label\n" + LINES,
    "image_feat.npy": np.random.default_rng(0).bytes(300_000),
    "text_feat.npy": np.random.default_rng(1).bytes(1000),
}


@dataclass
class Behaviour:
    """What the server does to a path's last part; the n-th request of it takes the n-th of a list, or its last."""

    files: dict = field(default_factory=lambda: dict(CONTENT))
    ranges: bool = True
    cut: dict = field(default_factory=dict)  # stop after so many bytes, though more were announced
    stall: dict = field(default_factory=dict)  # seconds of silence after 70 000 bytes
    status: dict = field(default_factory=dict)
    redirect: bool = False
    pages: dict = field(default_factory=dict)  # what "Google Drive" shows before, in place of asking for confirmation
    requests: list = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)  # the test is, and no silence lasts any longer

    def of(self, choices, file):
        values = choices.get(file, [None])
        return values[min(sum(file == seen for seen, _ in self.requests), len(values)) - 1]


@pytest.fixture
def server():
    """(its behaviour, its address)"""
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path, file = self.path, self.path.split("/")[-1]
            if behaviour.redirect and not path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", f"/moved{path}")
                self.end_headers()
                return
            behaviour.requests.append((file, self.headers.get("Range")))
            status = behaviour.of(behaviour.status, file)
            if status or file not in behaviour.files:
                self.send_error(status or 404)
                return
            body = behaviour.files[file]
            if path.startswith("/asked/"):
                body = behaviour.pages.get(file, CONFIRM.replace(b"FILE", file.encode()))
            begin = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
            if behaviour.ranges and begin >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if behaviour.ranges else 200)
            if behaviour.ranges:
                self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
                body = body[begin:]
            page = body.startswith(b"<")
            self.send_header("Content-Type", "text/html" if page else "application/octet-stream")
            if not page:
                self.send_header("Content-Disposition", f'attachment; filename="{file}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body[:70_000])
                behaviour.over.wait(behaviour.of(behaviour.stall, file) or 0)
                self.wfile.write(body[70_000 : behaviour.of(behaviour.cut, file)])
            except OSError:
                pass  # the client went away

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield behaviour, f"http://127.0.0.1:{running.server_port}"
    behaviour.over.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Official files of some kilobytes, no waiting but for a busy machine, and no proxy on the way."""
    crlf = hashlib.sha256(CONTENT["baby.inter"].replace(b"\n", b"\r\n")).hexdigest()
    files = {
        name: Official(hashlib.sha256(body).hexdigest(), len(body), crlf * name.endswith("inter"), f"id-of-{name}")
        for name, body in CONTENT.items()
    }
    monkeypatch.setitem(OFFICIAL, "baby", files)
    monkeypatch.setattr(fetch, "PAUSE", 0)
    monkeypatch.setattr(fetch, "TIMEOUT", 60)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def complete(folder: Path) -> bool:
    """The three files, right, and nothing else beside them."""
    return {path.name: path.read_bytes() for path in (folder / "baby").iterdir()} == CONTENT


def refusal(*arguments) -> str:
    with pytest.raises(DataError) as caught:
        download(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("redirect", [True, False])
def test_a_mirror_fills_the_folder_and_is_asked_once(tmp_path, server, capsys, ranges, redirect):
    behaviour, url = server
    behaviour.ranges, behaviour.redirect = ranges, redirect
    assert download("baby", tmp_path, url + "/") == tmp_path / "baby"
    assert complete(tmp_path)
    assert [file for file, _ in behaviour.requests] == list(CONTENT)
    download("baby", tmp_path, url)
    assert len(behaviour.requests) == 3
    assert capsys.readouterr().out.count("kept, checksum right") == 3


def test_files_put_there_by_hand_are_accepted_without_any_address(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "get", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setattr(gdown, "download", lambda *_, **__: pytest.fail("asked the network"))
    (tmp_path / "baby").mkdir()
    for name, body in CONTENT.items():
        (tmp_path / "baby" / name).write_bytes(body)
    download("baby", tmp_path)
    assert complete(tmp_path)


def test_a_file_that_is_another_is_left_as_it_is_and_nothing_is_fetched(tmp_path, server):
    behaviour, url = server
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "text_feat.npy").write_bytes(b"mine")
    message = refusal("baby", tmp_path, url)
    assert "text_feat.npy: needs to be the official file, sha256 " + OFFICIAL["baby"]["text_feat.npy"].sha256 in message
    assert f"(got {hashlib.sha256(b'mine').hexdigest()}, 4 bytes)" in message
    assert (tmp_path / "baby" / "text_feat.npy").read_bytes() == b"mine"
    assert not behaviour.requests


@pytest.mark.parametrize("where", ["by hand", "mirror"])
def test_windows_line_ends_are_turned_into_the_official_ones(tmp_path, server, capsys, where):
    behaviour, url = server
    windows = CONTENT["baby.inter"].replace(b"\n", b"\r\n")
    if where == "mirror":
        behaviour.files["baby.inter"] = windows
    else:
        (tmp_path / "baby").mkdir()
        (tmp_path / "baby" / "baby.inter").write_bytes(windows)
    download("baby", tmp_path, url)
    assert complete(tmp_path)
    assert (where == "mirror") != ("baby.inter: had Windows line ends" in capsys.readouterr().out)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_is_cut_goes_on_in_the_same_call(tmp_path, server, ranges):
    behaviour, url = server
    behaviour.ranges, behaviour.cut = ranges, {"image_feat.npy": [200_000, None]}
    download("baby", tmp_path, url)
    assert complete(tmp_path)
    first, second = (asked for file, asked in behaviour.requests if file == "image_feat.npy")
    assert first == "bytes=0-"
    assert int(second[6:-1]) >= 196_608  # three chunks of 2**16 came


def test_a_download_that_is_cut_again_and_again_goes_on_in_the_next_call(tmp_path, server):
    behaviour, url = server
    behaviour.cut = {"image_feat.npy": [80_000]}
    behaviour.status = {"image_feat.npy": [None, 503]}
    message = refusal("baby", tmp_path, url)
    assert re.search(r"image_feat.npy: 65536 of 300000 bytes came \(status 503\); the same call goes on", message)
    assert sum(file == "image_feat.npy" for file, _ in behaviour.requests) == fetch.TRIES
    assert not (tmp_path / "baby" / "image_feat.npy").exists()
    part = tmp_path / "baby" / "image_feat.npy.part"
    assert CONTENT["image_feat.npy"].startswith(part.read_bytes())
    behaviour.cut, behaviour.status = {}, {}
    behaviour.requests.clear()
    download("baby", tmp_path, url)
    assert complete(tmp_path)
    assert behaviour.requests == [("image_feat.npy", "bytes=65536-"), ("text_feat.npy", "bytes=0-")]


def test_a_silent_server_is_given_up_and_a_slow_one_is_not(tmp_path, server, monkeypatch):
    behaviour, url = server
    behaviour.stall = {"image_feat.npy": [0.1]}
    download("baby", tmp_path, url)
    assert complete(tmp_path)
    (tmp_path / "baby" / "image_feat.npy").unlink()
    monkeypatch.setattr(fetch, "TIMEOUT", 0.1)
    behaviour.ranges, behaviour.stall = False, {"image_feat.npy": [300]}
    assert re.search(r"image_feat.npy: \d+ of 300000 bytes came \(\w+\)", refusal("baby", tmp_path, url))
    assert not (tmp_path / "baby" / "image_feat.npy").exists()


@pytest.mark.parametrize("body", [b"short", CONTENT["image_feat.npy"][:-1] + b"?", CONTENT["image_feat.npy"] * 9])
def test_a_wrong_file_is_refused_with_both_hashes_and_not_kept(tmp_path, server, body):
    behaviour, url = server
    behaviour.files["image_feat.npy"] = body
    message = refusal("baby", tmp_path, url)
    assert (
        f"image_feat.npy: needs to be the official file, sha256 {OFFICIAL['baby']['image_feat.npy'].sha256}" in message
    )
    assert re.search(r"\(got [0-9a-f]{64}, \d+ bytes\)", message)
    assert len(body) > 600_000 or hashlib.sha256(body).hexdigest() in message
    assert [path.name for path in (tmp_path / "baby").iterdir()] == ["baby.inter"]
    behaviour.files["image_feat.npy"] = CONTENT["image_feat.npy"]
    download("baby", tmp_path, url)
    assert complete(tmp_path)


def test_a_file_without_an_end_is_stopped_at_twice_its_size(tmp_path, server):
    behaviour, url = server
    behaviour.files["text_feat.npy"] = bytes(1_000_000)
    assert int(re.search(r"(\d+) bytes\)$", refusal("baby", tmp_path, url))[1]) <= 2 * 1000 + fetch.CHUNK


def test_a_part_that_is_whole_is_not_asked_for(tmp_path, server):
    behaviour, url = server
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "text_feat.npy.part").write_bytes(CONTENT["text_feat.npy"])
    download("baby", tmp_path, url)
    assert complete(tmp_path)
    assert [file for file, _ in behaviour.requests] == ["baby.inter", "image_feat.npy"]


def test_a_part_of_another_file_does_not_pass(tmp_path, server):
    _, url = server
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "text_feat.npy.part").write_bytes(b"another mirror's")
    assert "text_feat.npy: needs to be the official file" in refusal("baby", tmp_path, url)
    download("baby", tmp_path, url)  # the part is gone: from the start
    assert complete(tmp_path)


def test_a_part_longer_than_the_servers_file_is_thrown_away(tmp_path, server):
    behaviour, url = server
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "text_feat.npy.part").write_bytes(b"0123456789")
    behaviour.files["text_feat.npy"] = b"01234"
    assert "(got" in refusal("baby", tmp_path, url)
    assert behaviour.requests[-2:] == [("text_feat.npy", "bytes=10-"), ("text_feat.npy", "bytes=0-")]


def test_a_web_page_in_place_of_a_file_is_told_and_does_not_cost_what_came_before(tmp_path, server):
    behaviour, url = server
    (tmp_path / "baby").mkdir()
    part = tmp_path / "baby" / "image_feat.npy.part"
    part.write_bytes(CONTENT["image_feat.npy"][:5000])
    behaviour.ranges, behaviour.files["image_feat.npy"] = False, b"\n" + PAGE
    assert "image_feat.npy: a web page came in place of the file (a quota" in refusal("baby", tmp_path, url)
    assert part.read_bytes() == CONTENT["image_feat.npy"][:5000]
    assert not (tmp_path / "baby" / "image_feat.npy").exists()


def test_what_cannot_be_had_is_told_in_a_line(tmp_path, server):
    behaviour, url = server
    del behaviour.files["baby.inter"]
    assert re.search(r"/nowhere/baby/baby.inter: the server answered 404", refusal("baby", tmp_path, url + "/nowhere"))
    assert len(behaviour.requests) == 1  # to ask again would be of no use
    assert "(ConnectionError)" in refusal("baby", tmp_path, "http://127.0.0.1:9")
    assert "'name' needs to be one of baby, sports, clothing" in refusal("toys", tmp_path)
    assert "'mirror' needs to be an http or https address" in refusal("baby", tmp_path, "file:///etc")
    message = refusal("sports", tmp_path)
    assert "sports: give a mirror, or fetch sports.inter, image_feat.npy, text_feat.npy from elsewhere" in message
    assert "13cBy1EA_saTUuXxVllKgtfci2A09jyaG" in message
    assert "folder" not in refusal("clothing", tmp_path)


@pytest.fixture
def drive(server, monkeypatch):
    """Google Drive as gdown meets it, a page that asks first and then the file; what it shows instead, by file."""
    behaviour, url = server
    hosts = {"https://drive.google.com/uc?id=id-of-": "/asked/", "https://drive.usercontent.google.com": ""}
    get = requests.Session.get

    def here(session, address, **options):
        host = next(host for host in hosts if address.startswith(host))
        return get(session, url + hosts[host] + address.removeprefix(host), **options)

    monkeypatch.setattr(requests.Session, "get", here)
    return behaviour.pages


def test_google_drive_is_asked_for_what_it_has(tmp_path, drive):
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "text_feat.npy.part").write_bytes(b"what a mirror began")
    download("baby", tmp_path)
    assert complete(tmp_path)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (b'<html><p class="uc-error-subcaption">Too many users have viewed or downloaded this file.</p>', "a web page came"),
        (b"<html>Before you continue to Google</html>", "a web page came in place of the file (a quota, consent"),
        (b"not the file", "needs to be the official file"),
    ],
)  # fmt: skip
def test_google_drives_pages_are_told_from_files(tmp_path, drive, page, message):
    drive["image_feat.npy"] = page
    assert message in refusal("baby", tmp_path)
    assert [path.name for path in (tmp_path / "baby").iterdir()] == ["baby.inter"]


def test_google_drive_without_gdown_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert "needs gdown (pip install -e '.[drive]')" in refusal("baby", tmp_path)


@pytest.fixture
def command(start):
    def begin(*options):
        line = [sys.executable, "-m", "sea.data", *map(str, options)]
        return start(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])

    return begin


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["download", "toys"], "invalid choice: 'toys'"),
        (["download", "baby", "--mirror", "ftp://x"], "'mirror' needs to be an http or https address"),
        (["download", "sports"], "sports: give a mirror"),
        (["build", "reviews.json.gz"], "the following arguments are required: META, IMAGES, OUT"),
        ([], "required: download|build"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_2(tmp_path, command, options, message):
    if "download" in options:
        options += ["--folder", str(tmp_path)]
    process = command(*options)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 2
    assert out == ""
    assert error.count("\n") == 1
    assert message in error


def test_ctrl_c_keeps_what_came(tmp_path, server, command):
    behaviour, url = server
    behaviour.stall = {"baby.inter": [300]}
    process = command("download", "baby", "--folder", tmp_path, "--mirror", url)
    part = tmp_path / "baby" / "baby.inter.part"
    while not (part.exists() and part.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error == "Interrupted. What was fetched is kept, and the same command goes on from there.\n"
    assert [path.name for path in (tmp_path / "baby").iterdir()] == ["baby.inter.part"]
    assert CONTENT["baby.inter"].startswith(part.read_bytes())
