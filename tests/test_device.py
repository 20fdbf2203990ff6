"""Training, resuming and evaluation keep to one device: shown on a pretended one, for machines without a GPU.

A tensor there says that it lives elsewhere, holds its numbers on the CPU, and refuses what CUDA refuses: to meet a
CPU tensor, a draw from a CPU generator, to become a numpy array, and a fused step of an optimiser on tensors that
lie in memory in different ways. What comes out has to be the CPU's numbers, bit by bit.
"""

import platform
from contextlib import contextmanager
from importlib import import_module

import growth
import pytest
import torch
import training
from common import SHAPES, Shape
from conftest import untimed
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from sea import machine, records, runs, train
from sea.models import TRAINED
from sea.runs import Settings, run

FAR = torch.device("meta")  # the one other type that autograd takes without a driver
SEA = {
    "SEA, a q for each modality": {"q_shared": False},
    "SEA, graph weights learned": {"learn_graph_weights": True},
    "SEA, approximated": {"align_items": 12, "q_items": 9, "bfloat16": True},
    "SEA, subtraction": {"align": "info_nce", "distance": "orthogonal"},
}
CASES = {name: (name, {}) for name in TRAINED} | {name: ("SEA", params) for name, params in SEA.items()}


class Far(torch.Tensor):
    """A CPU tensor, `held`, that says it is on the pretended device."""

    @staticmethod
    def __new__(cls, held):
        dense = held.layout == torch.strided
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()} if dense else {}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=FAR, **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return carry_out(operation, args, kwargs or {})


def carry_out(operation, args, kwargs):
    """Do on the held numbers what a GPU would do on its own."""
    name, asked = operation._schema.name, kwargs.pop("device", None)
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    far = [tensor for tensor in tensors if isinstance(tensor, Far)]
    if name != "aten::copy_":
        near = [tuple(tensor.shape) for tensor in tensors if tensor.dim() and not isinstance(tensor, Far)]
        assert not (far and near), f"{name} got tensors of two devices (on the CPU: {near})"
    if far and name in ("aten::_fused_adam_", "aten::_fused_adamw_"):
        for together in zip(*args[:4], strict=True):  # a parameter, its gradient, its two moments
            assert len({in_memory(tensor.held) for tensor in together}) == 1, f"{name} got different memory layouts"
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    to_far = asked == FAR or (asked is None and bool(far))
    known = {id(tensor.held): tensor for tensor in far}  # an operation in place gives back what it got
    results = operation(*tree_map(hold, args), **tree_map(hold, kwargs))

    def place(leaf):
        if not isinstance(leaf, torch.Tensor) or not to_far:
            return leaf
        return known[id(leaf)] if id(leaf) in known else Far(leaf)

    return tree_map(place, results)


def hold(leaf):
    return leaf.held if isinstance(leaf, Far) else leaf


def in_memory(tensor):
    return tensor.dtype, *((size, step) for size, step in zip(tensor.shape, tensor.stride()) if size > 1)


class Operations(TorchDispatchMode):
    """Operations without a tensor of the device, too: those that ask for one there."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return carry_out(operation, args, kwargs or {})


class FarGenerator(torch.Generator):
    """A CPU generator that says where it was asked to be."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.where = torch.device(device)
        return made

    device = property(lambda self: self.where)

    def manual_seed(self, seed):
        super().manual_seed(seed)
        return self


class Draws(TorchFunctionMode):
    """A generator draws on its own device alone."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            filled = [given.device for given in (*args, *kwargs.values()) if isinstance(given, torch.Tensor)]
            where = filled[0] if filled else torch.device(kwargs.get("device") or "cpu")
            assert where == kwargs["generator"].device, f"{function} draws on {where} from {kwargs['generator'].device}"
        return function(*args, **kwargs)


@contextmanager
def elsewhere():
    """`run` trains on the pretended device here."""
    fused = import_module("torch.optim.optimizer")  # torch.optim hides it
    supported = fused._get_fused_kernels_supported_devices()

    with pytest.MonkeyPatch.context() as patch, Operations(), Draws():
        patch.setattr(fused, "_get_fused_kernels_supported_devices", lambda: [*supported, FAR.type])
        patch.setattr(torch.__future__, "get_swap_module_params_on_conversion", lambda: True)  # moved, yet the same
        patch.setattr(torch, "Generator", FarGenerator)
        patch.setattr(records, "default_device", lambda asked: FAR.type)
        patch.setattr(runs, "default_device", lambda asked: FAR.type)
        yield patch


@pytest.mark.filterwarnings("ignore:.*to a meta parameter")  # it takes the numbers nevertheless
@pytest.mark.parametrize("case", CASES)
def test_a_training_elsewhere_cut_off_and_resumed_ends_with_the_same_numbers(case, world, tmp_path):
    model, params = CASES[case]
    few = {"q_steps": 3} if "SEA" in model else {"pretrain": 3} if model == "PAMD" else {}
    settings = Settings(model, epochs=2, batch_size=256, device="cpu", params=params | few)
    here = run(settings, tmp_path / "here", world, progress=False)
    store = train._store

    def cut(*arguments):
        store(*arguments)
        raise KeyboardInterrupt

    with elsewhere() as patch:
        patch.setattr(train, "_store", cut)
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path / "there", world, progress=False)
        patch.setattr(train, "_store", store)
        there = run(settings, tmp_path / "there", world, progress=False)
    assert there.environment["device"].startswith(FAR.type)
    assert there.metrics == here.metrics
    assert untimed(there.history) == untimed(here.history)
    weights = [record.model(world).state_dict() for record in (here, there)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_benchmarks_measure_elsewhere():
    widths, threads = {"image": 8, "text": 6}, torch.get_num_threads()
    with elsewhere() as patch:
        patch.setitem(SHAPES, "small", Shape(60, 40, 600, widths))
        assert growth.measure(60, 30, widths, 1, FAR, threads)["epoch s"] > 0
        assert training.train("small", 1, FAR).loc["small", "epochs s"] > 0


def test_the_pretended_device_refuses_what_a_gpu_would():
    with elsewhere():
        near, far, generator = torch.ones(3), torch.ones(3, device=FAR), torch.Generator(FAR).manual_seed(0)
        assert (far + far).device == FAR and (far + far).cpu().tolist() == [2, 2, 2]
        for wrong in (
            lambda: far + near,
            lambda: torch.rand(3, generator=torch.Generator()).to(FAR).exponential_(generator=torch.Generator()),
            lambda: torch.rand(3, generator=generator),
        ):
            with pytest.raises(AssertionError):
                wrong()
        with pytest.raises(RuntimeError, match="numpy"):
            far.numpy()
        step = torch.ones((), device=FAR)
        square = torch.ones(2, 2, device=FAR)
        options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0, "eps": 1e-8, "amsgrad": False}
        with pytest.raises(AssertionError, match="memory layouts"):
            turned = torch.eye(2, device=FAR).T
            torch._fused_adam_([square], [turned], [square], [square], [], [step], **options, maximize=False)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            "model name\t: AMD EPYC\ncpu family\t: 25\nmodel\t\t: 17\n\nmodel name\t: other\n",
            "AMD EPYC, family 25, model 17",
        ),
        ("Features\t: fp asimd\n", platform.processor() or platform.machine()),
    ],
)
def test_a_processor_is_told_by_more_than_a_name_that_generations_share(monkeypatch, told, expected):
    """A run of one "AMD EPYC" did not come out to the bit on another, and both had the same name in their records."""
    monkeypatch.setattr(machine.Path, "read_text", lambda path, encoding: told)
    capability = torch.backends.cpu.get_cpu_capability()
    assert machine.environment(torch.device("cpu"))["device"] == f"cpu ({expected}, {capability})"
