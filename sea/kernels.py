"""Kernels that begin with everything imported: copies of one process, as importing torch alone takes seconds each time.

A server imports `PRELOAD` once (preloading, in `multiprocessing`). Each notebook gets a process copied from it, whose
copy in turn is the notebook's kernel.
"""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

PRELOAD = [
    "matplotlib.pyplot",
    "papermill",
    "torch._dynamo",  # what Adam's first step imports
    "sea.analysis.representations",
    "sea.figures",
    "sea.study",
    "sea.kernels",  # last, as it looks how long the others took
]
ENVIRONMENT = {
    "TQDM_DISABLE": "1",  # a bar would fill the notebook's output
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # a kernel sets this by itself, too late for `PRELOAD`
    "OMP_NUM_THREADS": "1",  # threads that wait for one another take CPU time; trainings say how many they want
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
QUIET = "--IPKernelApp.log_level=CRITICAL"  # a kernel that is told to end may call that an error of its own
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


def cpu_seconds() -> float:
    """CPU time of this process and of all that it started and that have ended, theirs included."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


IMPORTS = cpu_seconds()
"""What `PRELOAD` took, once for all kernels."""


class _Process:
    """A process as jupyter_client wants to see it, which knows those of `subprocess` alone."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process):
        self.process = process
        self.send_signal = lambda number: os.kill(process.pid, number)
        self.kill, self.terminate = process.kill, process.terminate

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode


@contextlib.contextmanager
def kernel(folder: Path) -> Iterator[AsyncKernelManager]:
    """A running kernel in `folder`, for papermill's `km`; needs to be called before this process has a second thread.

    On the way out the kernel ends, at once if there is an exception that is no `Exception`, as Ctrl-C.
    """
    with contextlib.suppress(OSError, AttributeError):  # elsewhere than on Linux, what a kernel leaves isn't counted
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with TemporaryDirectory(prefix="sea-") as sockets:  # of this kernel alone: no open port
        manager = AsyncKernelManager(transport="ipc", ip=f"{sockets}/kernel", connection_file=f"{sockets}/kernel.json")
        manager.write_connection_file()
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(manager.connection_file, folder))
        process.start()
        manager.provisioner = LocalProvisioner(
            kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
        )
        manager.provisioner.process = _Process(process)
        manager.provisioner.pid = manager.provisioner.pgid = process.pid
        at_once = True
        try:
            yield manager
            at_once = False
        except Exception:
            at_once = False
            raise
        finally:
            asyncio.run(manager.shutdown_kernel(now=at_once))
            process.join()
            _collect(seconds=0 if at_once else 5)


def _serve(connection_file: str, folder: Path) -> None:
    os.setsid()  # Ctrl-C in the terminal is not for the kernel
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # it ends when that one does
    os.chdir(folder)
    IPKernelApp.launch_instance(argv=["-f", connection_file, QUIET])


def _collect(seconds: float) -> None:
    """Wait for the processes that a kernel left behind, so that their CPU time counts."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
