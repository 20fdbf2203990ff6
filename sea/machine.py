"""The machine that something ran on: its device, its memory, and what a record says of it."""

import gc
import os
import platform
import subprocess
import time
from functools import cache
from pathlib import Path

import torch


def default_device(device: str = "auto") -> str:
    """Name the device to train on: for "auto", "cuda" where there is a GPU and "cpu" elsewhere.

    Raises:
        ValueError: an unknown device, or "cuda" without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"'device' needs to be auto, cpu or cuda (got {device!r})")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("'device' needs to be cpu or auto where there is no GPU (got 'cuda')")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def environment(device: torch.device) -> dict[str, object]:
    """What ran, where and when: commit, versions, device, threads, date."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    """The CPU's model, and the kind of its vector instructions, which decide how sums are rounded.

    Cloud machines of several generations have one name. So where the system tells family and model, they follow it.
    """
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        first = ""
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    name = told.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key.removeprefix('cpu ')} {told[key]}" for key in ("cpu family", "model") if key in told]
    return ", ".join([name, *numbers, torch.backends.cpu.get_cpu_capability()])


@cache
def commit() -> str:
    """The checkout's commit, with ", modified" where a file of the package is not as committed; "" without git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", Path(__file__).parent, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (", modified" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def start_memory(device: torch.device) -> None:
    """Set the peak back to the present, where the system lets us (CUDA; Linux for the process's own).

    On a GPU the memory of earlier models, which only waits for Python's collector, is freed first.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak since `start_memory`: CUDA's allocator, or the process's resident set; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
