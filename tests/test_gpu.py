"""What a GPU has to compute: the CPU's numbers, and the same ones when it is asked again. Skipped where there is none.

Half of it needs no GPU: q's kernel runs in Triton's interpreter, where there is Triton.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import untimed
from test_device import CASES

from sea import kernels, losses, records, replay, train
from sea.data import planted
from sea.evaluate import evaluate
from sea.graphs import bipartite, layer_sum, nearest, propagate
from sea.models import MODELS, TRAINED
from sea.replay import Replay
from sea.runs import RunError, Settings, run, run_many

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
FEW = {"SEA": {"q_steps": 3}, "PAMD": {"pretrain": 3}}


def settings_of(case, **others):
    model, params = CASES[case]
    few = next((found for part, found in FEW.items() if part in model), {})
    return Settings(model, batch_size=64, device="cuda", params=params | few, **others)


def apart(found, expected):
    """The largest difference, relative to the largest entry."""
    return float((found.cpu() - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def to_dense(vectors):
    return vectors.to_dense() if vectors.is_sparse else vectors


@needs_gpu
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_vectors_are_the_cpus(case, dtype, tolerance, world):
    """The gradient as one vector: an entry that is zero but for rounding has no relative error of its own."""
    settings = settings_of(case)
    found = {}
    for device in ("cpu", "cuda"):
        model, draws = records.build(records.complete(settings), world), torch.Generator().manual_seed(3)
        model.to(device, dtype)
        model.before_epoch(draws)
        users, positives = torch.from_numpy(world.train[:64]).to(device).unbind(1)
        terms = model.loss(users, positives, positives.flip(0))
        sum(terms.values()).backward()
        model.after_step()
        of_q = [] if "SEA" not in CASES[case][0] else [p for n, p in model.named_parameters() if ".q." in n]
        gradient = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        vectors = [to_dense(v).detach() for v in model.eval().vectors()]
        found[device] = {**terms, "gradient": torch.cat(gradient)} | dict(enumerate([*of_q, *vectors]))
    for name, expected in found["cpu"].items():
        assert apart(found["cuda"][name].detach(), expected.detach()) <= tolerance, name


@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_a_training_again_or_cut_off_and_resumed_has_the_same_bits(case, world, tmp_path, monkeypatch):
    settings = settings_of(case, epochs=3)
    whole = run(settings, tmp_path / "whole", world, progress=False)
    again = run(settings, tmp_path / "again", world, progress=False)
    store = train._store

    def cut(*arguments):
        store(*arguments)
        raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(train, "_store", cut)
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path / "cut", world, progress=False)
    monkeypatch.setattr(train, "_store", store)
    resumed = run(settings, tmp_path / "cut", world, progress=False)
    expected = whole.model(world).state_dict()
    for other in (again, resumed):
        assert untimed(other.history) == untimed(whole.history)
        assert other.metrics == whole.metrics
        assert all(torch.equal(value, expected[name]) for name, value in other.model(world).state_dict().items())


@needs_gpu
@pytest.mark.parametrize("name", [name for name in TRAINED if MODELS[name].replays])
def test_replayed_batches_have_the_bits_of_those_that_are_not(name, world, tmp_path, monkeypatch):
    settings = settings_of(name, epochs=3)
    recorded = []
    record = Replay._record
    monkeypatch.setattr(Replay, "_record", lambda self, *given: (record(self, *given), recorded.append(self.possible)))
    replayed = run(settings, tmp_path / "replayed", world, progress=False)
    assert recorded == [True]
    monkeypatch.setattr(MODELS[name], "replays", False)
    written = run(settings, tmp_path / "written", world, progress=False)
    assert untimed(replayed.history) == untimed(written.history)
    first, second = (found.model(world).state_dict() for found in (replayed, written))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@needs_gpu
def test_a_replay_reads_new_arguments_and_leaves_other_shapes_to_the_function():
    calls, total = [], torch.zeros(3, device="cuda")

    def add(x):
        calls.append(len(x))
        total.add_(x.sum())
        return {"twice": 2 * x}

    replayed = Replay(add)
    expected = 0.0
    for turn in range(8):
        x = torch.full((5 if turn != 6 else 2,), float(turn), device="cuda")
        assert replayed(x)["twice"].tolist() == (2 * x).tolist()
        expected += float(x.sum())
    assert total.tolist() == [expected] * 3
    assert calls == [5] * (replay.WARM + 1) + [2]


@needs_gpu
def test_what_cannot_be_recorded_runs_as_written_and_says_why():
    replayed = Replay(lambda x: x * float(x.sum()))  # the CPU waits for a number
    with pytest.warns(UserWarning, match=r"a step can't be recorded as a CUDA graph, .+ \(.+\)") as warned:
        for value in range(7):
            x = torch.full((3,), float(value), device="cuda")
            assert replayed(x).tolist() == [3.0 * value**2] * 3
    assert len(warned) == 1


def test_on_a_cpu_a_replay_is_the_function():
    calls = []
    replayed = Replay(lambda x: calls.append(1) or x + 1)
    assert [float(replayed(torch.tensor(float(i)))) for i in range(6)] == [1, 2, 3, 4, 5, 6]
    assert len(calls) == 6


@needs_gpu
def test_graphs_are_the_cpus(world, generator):
    features = torch.randn(500, 12, generator=generator, dtype=torch.float64)
    assert torch.equal(nearest(features.cuda(), 7).cpu(), nearest(features, 7))
    x = torch.randn(world.n_users + world.n_items, 128, generator=generator, dtype=torch.float64)
    for function in (propagate, lambda g, y: layer_sum(g, y, 3)):
        found = {}
        for device in ("cpu", "cuda"):
            on = x.detach().to(device).requires_grad_()
            graph = bipartite(world.train, world.n_users, world.n_items, "mean").to(device, torch.float64)
            y = function(graph, on)
            y.square().sum().backward()
            found[device] = y.detach(), on.grad
        assert all(apart(a, b) < 1e-12 for a, b in zip(found["cuda"], found["cpu"]))


@needs_gpu
@pytest.mark.parametrize("mask_valid", [False, True])
@pytest.mark.parametrize("n_items", [40, 3000])
def test_a_ranking_is_the_cpus(n_items, mask_valid, generator):
    """Numbers of few bits, so that both add them up without rounding, and no two scores of a user are equal."""
    world = planted(60, n_items, n_factors=2, widths={"image": 12}, mean_interactions=12, seed=1)
    users = torch.rand(60, 1, generator=generator, dtype=torch.float64) + 0.5
    items = torch.randperm(n_items, generator=generator).double()[:, None]
    here, there = (evaluate(users.to(d), items.to(d), world, "test", mask_valid) for d in ("cpu", "cuda"))
    for name in ("users", "targets", "hits", "recommended"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name


@needs_gpu
def test_recommendations_are_the_cpus(world, generator):
    model = MODELS["LightGCN"](world, generator=generator).double()
    here = model.recommend([3, 0, 59], 10, world.train)
    assert np.array_equal(model.cuda().recommend([3, 0, 59], 10, world.train), here)


@needs_gpu
def test_a_full_gpu_is_named_and_the_rest_is_done(tmp_path):
    large = Settings("SEA", "planted", device="cuda", epochs=1, params={"dim": 1 << 12})
    small = Settings("BPR", "planted", device="cuda", epochs=1)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(RunError, match=r"^1 of 2 runs failed.* the GPU's memory is full; a smaller 'batch_size'"):
            run_many([large, small], tmp_path, progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(list(tmp_path.glob("*/record.json"))) == 1


def qs(heads, hidden, width, n, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    q = losses.ConditionalGaussian(width, hidden, heads, 1e-2, generator=generator)
    pairs = (torch.randn(heads, n, width, generator=generator) for _ in range(2))
    return q.to(device), *(x.to(device) for x in pairs)


SIZES = [(1, 8, 32, 300), (2, 8, 32, 129), (3, 16, 16, 5), (1, 8, 64, 1000)]


@needs_gpu
@pytest.mark.parametrize("size", SIZES)
def test_qs_kernel_has_autograds_gradients(size):
    check_kernel(*size, "cuda")


@needs_gpu
@pytest.mark.parametrize("size", SIZES)
def test_q_is_fitted_as_on_the_cpu(size):
    fitted = []
    for device in ("cpu", "cuda"):
        q, g, u = qs(*size, device)
        q.fit(g, u, 20)
        fitted.append([parameter.cpu() for parameter in q.parameters()])
    assert all(apart(a, b) < 1e-4 for a, b in zip(fitted[1], fitted[0]))


def check_kernel(heads, hidden, width, n, device):
    q, g, u = qs(heads, hidden, width, n, device)
    assert kernels.suits(g, 2 * hidden)
    found = kernels.q_gradients(g, u, *q.parameters())
    q.double().requires_grad_(True)
    q.negative_log_likelihood(g.double(), u.double()).backward()
    for gradient, parameter in zip(found, q.parameters()):
        assert gradient.shape == parameter.shape and gradient.is_contiguous()
        assert apart(gradient.double(), parameter.grad.cpu()) < 1e-6


@pytest.mark.skipif(kernels.triton is None, reason="no Triton")
def test_qs_kernel_in_tritons_interpreter():
    code = f"import test_gpu\nfor size in {SIZES}: test_gpu.check_kernel(*size, 'cpu')"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **paths})


def test_the_kernel_is_for_what_it_suits():
    g = torch.zeros(1, 3, 32)
    assert not kernels.suits(g, 16)  # on a CPU
    assert not kernels.suits(g.double(), 16)
