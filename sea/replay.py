"""A GPU repeats a function's kernels, as one CUDA graph, without Python between them."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM = 3
"""Calls before the recording: in them libraries load, and optimisers make their state."""


class Replay:
    """Calls a function of tensors and returns its results; on a GPU its kernels are recorded once, and then replayed.

    The first `WARM` calls run the function as it is written. The next one records it, and that call and all later ones
    copy their arguments to where the recording reads them, and replay it. The function is called directly on a CPU, for
    arguments of other shapes than the first call's (an epoch's short last batch), and after a recording failed; a
    warning then says why.

    Args:
        function: does the same operations on the same memory in every call; what it does in Python is done when it is
            recorded, and not again. What it returns lies in the recording's memory: the next call overwrites it.
    """

    def __init__(self, function: Callable):
        self.function, self.calls, self.possible = function, 0, True
        self.kinds, self.graph, self.arguments, self.results = None, None, [], None

    def __call__(self, *arguments: Tensor) -> object:
        """What the function returns for these."""
        kinds = [(argument.shape, argument.dtype, argument.device.type) for argument in arguments]
        self.kinds = self.kinds or kinds
        if not self.possible or kinds != self.kinds or any(device != "cuda" for _, _, device in kinds):
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
            self.possible, self.arguments, self.results = False, [], None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"a step can't be recorded as a CUDA graph, and runs without ({reason})", stacklevel=3)
        else:
            self.graph = graph
