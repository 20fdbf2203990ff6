import numpy as np
import pytest
import torch
from conftest import dataset_of, untimed
from scipy import stats

from sea import train as module
from sea.evaluate import evaluate
from sea.models import MODELS, TRAINED
from sea.train import Fit, NegativeSampler, _stop_reason, fit


def test_negatives_are_uniform_over_train_items_that_the_user_lacks(generator):
    # items 3 and 6 never occur in train; user 0 has 0, 2, 7; user 1 has 1, 4, 5; user 2 has 7 only
    train = [(0, 0), (0, 2), (0, 7), (1, 1), (1, 4), (1, 5), (2, 7)]
    sampler = NegativeSampler(dataset_of(train, [(0, 3)], [(0, 6)], 3, 8), torch.device("cpu"))
    allowed = {0: [1, 4, 5], 1: [0, 2, 7], 2: [0, 1, 2, 4, 5]}
    for user, items in allowed.items():
        drawn = sampler(torch.full((30_000,), user), generator)
        counts = np.bincount(drawn.numpy(), minlength=8)
        assert counts.sum() == counts[items].sum()
        assert stats.chisquare(counts[items]).pvalue > 1e-3


def test_negatives_on_a_larger_world_against_brute_force(world, generator):
    sampler = NegativeSampler(world, torch.device("cpu"))
    occurring = set(world.train[:, 1])
    users = torch.arange(world.n_users).repeat_interleave(2_000)
    drawn = sampler(users, generator).view(world.n_users, 2_000).numpy()
    pvalues = []
    for user in range(world.n_users):
        free = sorted(occurring - set(world.train[world.train[:, 0] == user, 1]))
        counts = np.bincount(drawn[user], minlength=world.n_items)
        assert counts.sum() == counts[free].sum()
        pvalues.append(stats.chisquare(counts[free]).pvalue)
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3  # 60 users: as many small ones as there should be


def test_a_user_with_every_item_has_no_negative():
    dataset = dataset_of([(0, 0), (1, 0), (1, 1)], [(0, 1)], [(0, 2)], 2, 3)
    with pytest.raises(ValueError, match="needs an item in train that user 1 doesn't have"):
        NegativeSampler(dataset, torch.device("cpu"))


@pytest.mark.parametrize(
    ("scores", "patience", "stopped", "best"),
    [
        ([0.1, 0.2, 0.2, 0.2], 2, "", 1),  # two epochs without a better one are still allowed
        ([0.1, 0.2, 0.2, 0.1, 0.2], 2, "patience", 1),  # the third is not; equal is not better
        ([0.1, 0.2, 0.3, 0.4], 2, "", 3),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2, "epochs", 4),
    ],
)
def test_when_it_stops(scores, patience, stopped, best):
    history = [{"valid/recall@20": score} for score in scores]
    assert _stop_reason(Fit(history, best), 5, patience) == stopped


def train(model_name, world, epochs=4, state=None, patience=20, lr=1e-2, **params):
    model = MODELS[model_name](world, generator=torch.Generator().manual_seed(1), **params)
    settings = {"lr": lr, "batch_size": 64, "epochs": epochs, "patience": patience, "state": state}
    return model, fit(model, world, generator=torch.Generator().manual_seed(2), progress=False, **settings)


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_that_is_resumed_after_each_epoch_ends_with_the_same_numbers(world, tmp_path, name, monkeypatch):
    params = {"q_steps": 3} if "SEA" in name else {"pretrain": 3} if name == "PAMD" else {}
    whole_model, whole = train(name, world, **params)

    class Killed(BaseException):
        pass

    store = module._store

    def dying(*arguments):
        store(*arguments)
        raise Killed

    monkeypatch.setattr(module, "_store", dying)
    for _ in range(len(whole.history)):
        with pytest.raises(Killed):
            train(name, world, state=tmp_path / "state.safetensors", **params)
    resumed_model, resumed = train(name, world, state=tmp_path / "state.safetensors", **params)  # nothing is left to do
    assert untimed(resumed.history) == untimed(whole.history)
    assert (resumed.best, resumed.stopped) == (whole.best, whole.stopped)
    for a, b in zip(whole_model.state_dict().values(), resumed_model.state_dict().values()):
        assert torch.equal(a, b)


def test_the_best_epochs_weights_are_left_in_the_model(world):
    model, result = train("BPR", world, epochs=12, patience=3)
    scores = [row["valid/recall@20"] for row in result.history]
    assert result.best == int(np.argmax(scores))
    assert evaluate(*model.vectors(), world, "valid").mean()["recall@20"] == scores[result.best]


def test_an_equal_score_is_not_a_better_one(world, monkeypatch):
    scores = iter([0.1, 0.2, 0.2, 0.1, 0.2])
    monkeypatch.setattr(module, "_validate", lambda *_: ({"valid/recall@20": next(scores)}, ""))
    _, result = train("BPR", world, epochs=5)
    assert result.best == 1


def test_training_learns(world):
    """On the train pairs themselves, BPR's loss falls far below that of a coin."""
    _, result = train("BPR", world, epochs=60, reg=0.0)
    assert result.history[0]["loss/rec"] == pytest.approx(np.log(2), rel=0.02)
    assert result.history[-1]["loss/rec"] < 0.3


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_best(world, monkeypatch):
    model = MODELS["BPR"](world, generator=torch.Generator().manual_seed(1))
    epochs = []
    monkeypatch.setattr(model, "before_epoch", lambda generator: epochs.append(1))
    plain = model.loss
    monkeypatch.setattr(
        model, "loss", lambda *b: {k: v * (torch.nan if len(epochs) == 3 else 1) for k, v in plain(*b).items()}
    )
    result = fit(model, world, lr=1e-2, epochs=9, generator=torch.Generator().manual_seed(0), progress=False)
    assert (result.stopped, result.diverged) == ("diverged", "loss/rec")
    assert len(result.history) == 3
    assert result.history[-1]["loss/rec"] is None
    assert result.best in (0, 1)
    assert all(torch.isfinite(v).all() for v in model.vectors())


def diverging(world, epoch, tmp_path):
    """BPR, one of whose parameters becomes NaN after an epoch's last batch."""
    model = MODELS["BPR"](world, generator=torch.Generator().manual_seed(1))
    batches, last = [], (epoch + 1) * -(-len(world.train) // 64)

    def after_step():
        batches.append(1)
        if len(batches) == last:
            model.items.data[3, 0] = torch.nan

    model.after_step = after_step
    settings = {"lr": 1e-2, "batch_size": 64, "epochs": 9, "state": tmp_path / "state.safetensors", "progress": False}
    return model, fit(model, world, generator=torch.Generator().manual_seed(0), **settings)


@pytest.mark.parametrize(("epoch", "best"), [(0, {-1}), (2, {0, 1})])
def test_parameters_that_become_nan_in_an_epochs_last_step_end_the_run(world, tmp_path, epoch, best):
    model, result = diverging(world, epoch, tmp_path)
    assert (result.stopped, result.diverged, len(result.history)) == ("diverged", "vectors", epoch + 1)
    assert result.best in best
    assert "valid/recall@20" not in result.history[-1]
    assert bool(torch.isnan(model.items).any()) == (result.best < 0)
    again = MODELS["BPR"](world, generator=torch.Generator().manual_seed(1))
    settings = {"lr": 1e-2, "batch_size": 64, "epochs": 9, "state": tmp_path / "state.safetensors", "progress": False}
    resumed = fit(again, world, generator=torch.Generator().manual_seed(0), **settings)
    assert vars(resumed) == vars(result)  # it is over; nothing is trained again


def test_storing_takes_a_tenth_of_the_time_at_most_and_the_end_is_stored(world, tmp_path, monkeypatch):
    """A clock on which an epoch takes 3 seconds and storing it 1: it is due again 10 seconds later, four epochs on."""
    clock, stored = [0.0], []
    epoch = module._epoch
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "_epoch", lambda *given: clock.__setitem__(0, clock[0] + 3) or epoch(*given))

    def store(path, model, optimizers, generator, result, best):
        clock[0] += 1
        stored.append(len(result.history))

    monkeypatch.setattr(module, "_store", store)
    train("BPR", world, epochs=11, patience=99, state=tmp_path / "state.safetensors")
    assert stored == [1, 5, 9, 11]


@pytest.mark.parametrize("damage", [b"", b"cut", b"zeroed"])
def test_a_damaged_state_is_named_and_the_training_begins_anew(world, tmp_path, caplog, damage):
    _, whole = train("BPR", world)
    state = tmp_path / "state.safetensors"
    train("BPR", world, epochs=2, state=state)
    content = state.read_bytes()
    state.write_bytes({b"": b"", b"cut": content[: len(content) // 2], b"zeroed": bytes(len(content))}[damage])
    _, result = train("BPR", world, state=state)
    assert untimed(result.history) == untimed(whole.history)
    (message,) = caplog.messages
    assert str(state) in message and message.endswith("this training begins anew") and "\n" not in message
