"""A GPU repeats a function's kernels, as one CUDA graph, without Python between them."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM = 3
"""Calls before the recording: in them libraries load, and optimisers make their state."""


class Replay:
    """A function of tensors, with its own results: on a GPU it is recorded once, and replayed from then on.

    The first `WARM` calls run the function as it is written. The next one records it. From then on a call copies its
    arguments to where the recording reads them, and replays that. The function runs as written wherever this can't
    be: on a CPU, inside another recording, for arguments of other shapes than the first call's (an epoch's short last
    batch), and after a recording that failed, of which a warning gives the reason.

    Args:
        function: does the same operations on the same memory in every call; what it does in Python is done when it is
            recorded, and not again. What it returns lies in the recording's memory: the next call overwrites it.
    """

    def __init__(self, function: Callable):
        self.function, self.calls, self.possible = function, 0, True
        self.shapes, self.graph, self.arguments, self.results = None, None, [], None

    def __call__(self, *arguments: Tensor) -> object:
        """What the function returns for these."""
        shapes = [argument.shape for argument in arguments]
        self.shapes = self.shapes or shapes
        on_gpu = all(argument.is_cuda for argument in arguments)
        if not on_gpu or not self.possible or shapes != self.shapes or torch.cuda.is_current_stream_capturing():
            return self.function(*arguments)
        self.calls += 1
        if self.calls <= WARM:
            return self._aside(*arguments)
        if self.graph is None:
            self._record(*arguments)
        if not self.possible:
            return self.function(*arguments)
        for kept, given in zip(self.arguments, arguments):
            kept.copy_(given)
        self.graph.replay()
        return self.results

    def _aside(self, *arguments: Tensor) -> object:
        """The function on a stream of its own: what it leaves is then fit for recording (torch's notes on graphs)."""
        present, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(present)
        with torch.cuda.stream(aside):
            results = self.function(*arguments)
        present.wait_stream(aside)
        return results

    def _record(self, *arguments: Tensor) -> None:
        self.arguments, graph = [argument.clone() for argument in arguments], torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.results = self.function(*self.arguments)
        except RuntimeError as error:
            self.possible, self.arguments = False, []
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"a batch can't be recorded as a CUDA graph, and runs without ({reason})", stacklevel=3)
        else:
            self.graph = graph
