"""Fetching the official files: kept if there, resumed if begun, checked before they get their name."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from sea.data.checks import DATA, DataError
from sea.data.official import DRIVE, DRIVE_FOLDERS, OFFICIAL, Official

if TYPE_CHECKING:
    import requests

TRIES, PAUSE, TIMEOUT = 3, 2.0, 30.0
"""Of one file: tries, seconds between two, and seconds of silence after which a server counts as gone."""

CHUNK = 1 << 16


def download(name: str, folder: str | Path = DATA, mirror: str = "") -> Path:
    """Put the official files of one of the paper's datasets into `folder`/`name`, and say what became of each.

    Files that are there already are kept if their checksum is right, wherever they came from, and then nothing is
    fetched; so a folder can be filled by hand. A copy of the interactions with Windows line ends is turned into the
    official file. What is missing comes from `mirror`, or from Google Drive where its id is known (Baby alone; that
    needs the extra `drive`). A file is written as *.part beside its place, and gets its name once its size and sha256
    are right. The same call made again goes on from where the part ends.

    Args:
        name: "baby", "sports" or "clothing".
        folder: where the set's own folder is, or will be.
        mirror: an http(s) address under which the files are, as MIRROR/baby/baby.inter.

    Returns:
        The set's folder.

    Raises:
        DataError: an unknown name or mirror; a file that is there already, with another checksum (it is left as it is);
            a file that cannot be fetched, is cut off, is a web page, or has another checksum.
    """
    import pooch

    if name not in OFFICIAL:
        raise DataError(f"'name' needs to be one of {', '.join(OFFICIAL)} in 'download' (got {name!r})")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise DataError(f"'mirror' needs to be an http or https address in 'download' (got {mirror!r})")
    target, files = Path(folder) / name, OFFICIAL[name]
    missing = [file for file in files if not _is_there(target / file, files[file])]
    unknown = [file for file in missing if not (mirror or files[file].drive)]
    if unknown:
        where = f", such as Google Drive's folder {DRIVE_FOLDERS[name]}," if name in DRIVE_FOLDERS else ""
        raise DataError(
            f"{name}: give a mirror, or fetch {', '.join(unknown)} from elsewhere{where} and put them into {target}: "
            "their addresses are not known here"
        )
    pooch.get_logger().setLevel("WARNING")
    keeper = pooch.create(
        target,
        f"{mirror.rstrip('/')}/{name}/",
        registry={file: f"sha256:{official.sha256}" for file, official in files.items()},
        urls={} if mirror else {file: DRIVE + official.drive for file, official in files.items()},
    )
    for file in missing:
        keeper.fetch(file, downloader=partial(_fetch, target / file, files[file], _resume if mirror else _from_drive))
        print(f"{target / file}: fetched, checksum right")
    return target


def _is_there(path: Path, official: Official) -> bool:
    if not path.exists():
        return False
    if _settle(path, official, path):
        print(f"{path}: had Windows line ends, which were turned into the official ones")
    else:
        print(f"{path}: kept, checksum right")
    return True


def _fetch(path: Path, official: Official, get: Callable, url: str, output: str, _: object) -> None:
    """Pooch's downloader: complete `path`.part, and hand it over as `output` when it is right."""
    part = path.with_name(path.name + ".part")
    get(url, part, official.size)
    try:
        _settle(part, official, url)
    except DataError:
        part.unlink()  # to go on from it would be of no use
        raise
    os.replace(part, output)


def _settle(path: Path, official: Official, source: str | Path) -> bool:
    """Check a file, and turn Windows line ends into the official ones; whether there were any."""
    import pooch

    found = pooch.file_hash(str(path))
    if found == official.crlf:
        plain = path.read_bytes().replace(b"\r\n", b"\n")
        if hashlib.sha256(plain).hexdigest() == official.sha256:
            temporary = path.with_name(path.name + ".lf")
            temporary.write_bytes(plain)
            os.replace(temporary, path)
            return True
    if found != official.sha256:
        with path.open("rb") as file:
            _refuse_page(file.read(CHUNK), source)
        raise DataError(
            f"{source}: needs to be the official file, sha256 {official.sha256}, {official.size} bytes "
            f"(got {found}, {path.stat().st_size} bytes)"
        )
    return False


def _refuse_page(start: bytes, source: str | Path) -> None:
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise _page(source)


def _page(source: str | Path) -> DataError:
    return DataError(
        f"{source}: a web page came in place of the file (a quota, consent or log-in page): try again later, give "
        "another mirror, or fetch the file with a browser and put it into its place"
    )


def _resume(url: str, part: Path, size: int) -> None:
    """Fetch what `part` lacks: from where it ends if the server can do that, all of it otherwise."""
    import requests

    for attempt in range(TRIES):
        have = _size(part)
        if have >= size:
            return
        time.sleep(PAUSE if attempt else 0)
        headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                if response.status_code == 416:  # the server's file ends before ours: not the same one
                    part.unlink(missing_ok=True)
                elif 400 <= response.status_code < 500:
                    raise DataError(f"{url}: the server answered {response.status_code} in place of the file")
                response.raise_for_status()
                _write(response, part, have, size)
            return
        except requests.RequestException as error:
            reason = type(error).__name__ if error.response is None else f"status {error.response.status_code}"
    raise DataError(f"{url}: {_size(part)} of {size} bytes came ({reason}); the same call goes on from there")


def _write(response: "requests.Response", part: Path, have: int, size: int) -> None:
    continues = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    chunks = response.iter_content(CHUNK)
    start = next(chunks, b"")
    _refuse_page(start, response.url)
    name, begin = part.stem, have if continues else 0
    with (
        part.open("ab" if continues else "wb") as file,
        tqdm(desc=name, total=size, initial=begin, unit="B", unit_scale=True, disable=None) as bar,
    ):
        for chunk in chain([start], chunks):
            file.write(chunk)
            bar.update(len(chunk))
            if file.tell() > 2 * size:  # no official file, and perhaps without an end
                return


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from_drive(url: str, part: Path, size: int) -> None:
    """Fetch from Google Drive, which asks for a confirmation of large files; gdown keeps its own resumable parts."""
    import requests

    try:
        import gdown
    except ImportError:
        raise DataError("Google Drive needs gdown (pip install -e '.[drive]'); or give a mirror") from None
    if _size(part) < size:  # what a mirror began
        part.unlink(missing_ok=True)
    quiet = not sys.stderr.isatty()
    try:
        gdown.download(url, str(part), quiet=quiet, use_cookies=False, resume=True, timeout=TIMEOUT, retries=TRIES - 1)
    except gdown.exceptions.FileURLRetrievalError:
        raise _page(url) from None
    except (gdown.exceptions.DownloadError, requests.RequestException) as error:
        raise DataError(f"{url}: {' '.join(str(error).split())}") from None
