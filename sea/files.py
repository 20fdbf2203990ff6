"""Files that are there whole or not at all, and that tell when they were damaged.

What a run keeps is written beside its place, forced to the disk, and moved there; and it holds a checksum of its own
content, so that a file that was cut, edited or hit by a flipped bit is not taken for what was written.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

CHECKSUM = "sha256"


class DamagedFile(ValueError):
    """A file that does not hold what was once written to it; the message names it."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path, then move that to `path`: a reader sees the old file or the whole new one.

    The temporary file, NAME.XXXXXXXX.tmp beside `path`, is this call's alone. The content is on the disk before the
    name is, so that a power failure can't leave an empty file under it.

    Raises:
        OSError: the file can't be written; one line that names it.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(temporary)
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OSError(f"{path}: could not be written ({reason})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Write tensors and texts as safetensors with their checksum, which is returned."""
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = metadata or {}
    checksum = _checksum(kept, metadata)
    write_atomically(path, lambda temporary: save_file(kept, temporary, {**metadata, CHECKSUM: checksum}))
    return checksum


def load_tensors(path: Path, checksum: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote: the tensors, on the CPU, and the texts.

    Args:
        checksum: what `save_tensors` returned; unless it is empty, another file in its place is refused as well.

    Raises:
        DamagedFile: it is not there, can't be read, or holds something else.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (OSError, SafetensorError, ValueError, RuntimeError, UnicodeError) as error:
        raise damaged(path, error) from None
    kept = metadata.pop(CHECKSUM, None)
    if kept != _checksum(tensors, metadata) or checksum not in ("", kept):
        raise damaged(path, "its checksum differs")
    return tensors, metadata


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_json(path: Path, content: dict[str, object]) -> None:
    """Write a dictionary as JSON with its checksum."""
    text = json.dumps({**content, CHECKSUM: hash_of(content)}, indent=1)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def load_json(path: Path) -> dict[str, object]:
    """Read what `save_json` wrote.

    Raises:
        DamagedFile: it is not there, can't be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop(CHECKSUM)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged(path, error) from None
    if checksum != hash_of(content):
        raise damaged(path, "its checksum differs")
    return content


def hash_of(content: dict[str, object]) -> str:
    """A sha256 of a dictionary, the same for equal ones in whatever order: of its JSON with sorted names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def damaged(path: Path, reason: object) -> DamagedFile:
    """The error for a file that can't be read or holds something else; `reason` is what was found, or what failed."""
    words = "it is not there" if isinstance(reason, FileNotFoundError) else " ".join(str(reason).split())
    return DamagedFile(f"{path}: is not what was written ({words})")
