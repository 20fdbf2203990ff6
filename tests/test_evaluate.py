import numpy as np
import pytest
import torch
from conftest import dataset_of
from sklearn.metrics import ndcg_score
from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall

from sea import blocks
from sea.evaluate import Ranking, _largest, evaluate


def independent(users, items, dataset, split, k):
    """Recall and NDCG per user by torchmetrics, on explicit score rows."""
    recall, ndcg = {}, {}
    scores = users @ items.T
    train, targets = dataset.train, getattr(dataset, split)
    for user in range(dataset.n_users):
        seen = train[train[:, 0] == user, 1]
        wanted = targets[targets[:, 0] == user, 1]
        if not len(seen) or not len(wanted):
            continue
        row = scores[user].clone()
        row[seen] = row.min() - 1 - torch.arange(len(seen)) * 1e-3  # below all, and no ties
        relevant = torch.zeros(len(row), dtype=torch.bool)
        relevant[wanted] = True
        recall[user] = float(retrieval_recall(row, relevant, top_k=k))
        ndcg[user] = float(retrieval_normalized_dcg(row, relevant, top_k=k))
        assert ndcg[user] == pytest.approx(ndcg_score([relevant.numpy()], [row.numpy()], k=k), abs=1e-5)
    return recall, ndcg


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("cells", [1, 150, 10_000])
def test_metrics_equal_an_independent_library(world, generator, monkeypatch, split, cells):
    monkeypatch.setitem(blocks.CELLS, "cpu", cells)
    users = torch.randn(world.n_users, 4, generator=generator)
    items = torch.randn(world.n_items, 4, generator=generator)
    ours = evaluate(users, items, world, split)
    for k in (3, 10):
        recall, ndcg = independent(users, items, world, split, k)
        assert ours.users.tolist() == list(recall)
        assert ours.recall(k) == pytest.approx(list(recall.values()), abs=1e-6)
        assert ours.ndcg(k) == pytest.approx(list(ndcg.values()), abs=1e-6)


def test_a_case_worked_out_by_hand():
    # user 0 ranks items 4 3 2 1 0; 4 is train, so 3 2 1 0; test items are 2 and 0
    dataset = dataset_of([(0, 4), (1, 0)], [(0, 3)], [(0, 2), (0, 0)], n_users=3, n_items=5)
    users, items = torch.ones(3, 1), torch.arange(5.0)[:, None]
    ranking = evaluate(users, items, dataset, "test")
    assert ranking.recommended.tolist() == [1, 1, 1, 1, 0]  # five places, but the train item is not one
    assert ranking.users.tolist() == [0]  # user 1 has no test item, user 2 nothing at all
    assert ranking.recall(2).tolist() == [0.5]
    assert ranking.recall(20).tolist() == [1.0]  # more places than items
    ideal = 1 + 1 / np.log2(3)
    assert ranking.ndcg(2) == pytest.approx([(1 / np.log2(3)) / ideal])
    assert ranking.ndcg(20) == pytest.approx([(1 / np.log2(3) + 1 / np.log2(5)) / ideal])
    masked = evaluate(users, items, dataset, "test", mask_valid=True)  # without item 3, item 2 comes first
    assert masked.ndcg(2) == pytest.approx([1 / ideal])
    assert masked.ndcg(1) == pytest.approx([1.0])  # the ideal list ends at K


def test_users_without_train_are_left_out():
    dataset = dataset_of([(0, 0)], [(0, 1)], [(0, 2), (1, 2)], n_users=2, n_items=3)
    assert evaluate(torch.ones(2, 1), torch.ones(3, 1), dataset).users.tolist() == [0]


def test_vectors_that_are_not_finite_are_refused(world):
    items = torch.ones(world.n_items, 1)
    with pytest.raises(FloatingPointError, match="need to be finite"):
        evaluate(torch.full((world.n_users, 1), torch.nan), items, world)


def test_a_file_keeps_every_hit_and_count(world, generator):
    vectors = (torch.randn(n, 4, generator=generator) for n in (world.n_users, world.n_items))
    ranking = evaluate(*vectors, world, "valid")
    again = Ranking.from_tensors(ranking.tensors())
    for name in ("users", "targets", "hits", "recommended"):
        assert (getattr(again, name) == getattr(ranking, name)).all()
    assert again.mean() == ranking.mean()
    assert all(tensor.dtype == torch.int32 for tensor in ranking.tensors().values())
    assert [int(bits) for bits in ranking.tensors()["hits"]] == [
        sum(2**rank for rank, hit in enumerate(row) if hit) for row in ranking.hits
    ]


def test_how_often_items_are_recommended_against_a_loop(world, generator):
    users, items = (torch.randn(n, 4, generator=generator) for n in (world.n_users, world.n_items))
    counts = np.zeros(world.n_items, dtype=int)
    scores = users @ items.T
    for user in evaluate(users, items, world).users:
        scores[user, world.train[world.train[:, 0] == user, 1]] = -torch.inf
        counts[scores[user].argsort(descending=True)[:20].numpy()] += 1
    assert evaluate(users, items, world).recommended.tolist() == counts.tolist()


@pytest.mark.parametrize("k", [0, 21])
def test_no_metric_beyond_the_depth_that_is_kept(world, k):
    ranking = evaluate(torch.ones(world.n_users, 1), torch.ones(world.n_items, 1), world)
    with pytest.raises(ValueError, match=rf"'k' needs to lie between 1 and 20 in 'Ranking' \(got {k}\)"):
        ranking.recall(k)


@pytest.mark.parametrize("n", [20, 1279, 1280, 1293, 5000])
def test_the_largest_of_a_row_are_those_of_a_full_sort(generator, n):
    scores = torch.randn(7, n, generator=generator)
    scores[:, ::3] = -torch.inf  # masked
    scores[3, 5:] = -torch.inf  # of this row more than all but a few
    values, columns = _largest(scores, 20)
    expected = scores.sort(1, descending=True).values[:, :20]
    assert torch.equal(values, expected)
    assert torch.equal(scores.gather(1, columns), values)
    assert all(len(set(row.tolist())) == 20 for row in columns)
