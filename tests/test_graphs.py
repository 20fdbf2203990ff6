import sys

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from sea import blocks, graphs
from sea.graphs import Graph, bipartite, knn, layer_sum, nearest, propagate


def test_bipartite_equals_the_dense_normalisation():
    pairs = np.array([[0, 0], [0, 2], [1, 2], [3, 1]])  # user 2 and item 3 are isolated
    adjacency = np.zeros((8, 8))
    for user, item in pairs:
        adjacency[user, 4 + item] = adjacency[4 + item, user] = 1
    degree = adjacency.sum(1)
    scale = np.diag([d**-0.5 if d else 0 for d in degree])
    dense = bipartite(pairs, 4, 4).matrix.to_dense().numpy()
    assert dense == pytest.approx(scale @ adjacency @ scale, rel=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_propagation_and_its_gradient_equal_the_dense_product(symmetric, generator):
    dense = np.random.default_rng(0).random((7, 7)) * (np.random.default_rng(1).random((7, 7)) < 0.4)
    dense = dense + dense.T if symmetric else dense
    graph, matrix = Graph(dense, symmetric), torch.from_numpy(dense)
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    for ours, plain in (
        (propagate(graph, x), matrix @ x),
        (layer_sum(graph, x, 2), x + matrix @ x + matrix @ matrix @ x),
    ):
        assert torch.allclose(ours, plain, rtol=1e-12)
        ours_grad, plain_grad = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, plain))
        assert torch.allclose(ours_grad, plain_grad, rtol=1e-12)


@pytest.mark.parametrize("width", [1, 5, 64, 130])
def test_a_step_in_single_precision_is_the_dense_product_also_of_nodes_without_edges_and_of_columns(width, generator):
    dense = np.random.default_rng(0).random((9, 6)) * (np.random.default_rng(1).random((9, 6)) < 0.4)
    dense[[0, 4, 8]] = 0
    graph = Graph(dense.astype(np.float32))
    wide = torch.randn(6, 3 * width, generator=generator, requires_grad=True)
    weight = torch.randn(9, width, generator=generator)
    stepped = propagate(graph, wide[:, width : 2 * width])
    (stepped * weight).sum().backward()
    x, expected = wide.detach().double()[:, width : 2 * width], torch.zeros(6, 3 * width, dtype=torch.float64)
    expected[:, width : 2 * width] = torch.from_numpy(dense).T @ weight.double()
    assert torch.allclose(stepped.double(), torch.from_numpy(dense) @ x, atol=1e-6)
    assert torch.allclose(wide.grad.double(), expected, atol=1e-6)
    assert torch.equal(stepped, propagate(graph, wide[:, width : 2 * width]))  # to the bit


def test_a_graph_follows_its_module_in_precision():
    module = torch.nn.Module()
    module.graph = bipartite(np.array([[0, 0]]), 1, 1)
    assert module.double().graph.matrix.dtype == torch.float64
    assert module.graph.transposed is module.graph.matrix
    assert not module.state_dict()


@pytest.mark.parametrize("cells", [1, 100, 10_000])
def test_neighbours_are_the_most_similar_rows(cells, monkeypatch, generator):
    monkeypatch.setitem(blocks.CELLS, "cpu", cells)
    features = torch.randn(30, 5, generator=generator)
    similarity = cosine_similarity(features.numpy())
    expected = np.argsort(-similarity, axis=1)[:, :4]
    assert (np.sort(nearest(features, 4).numpy(), 1) == np.sort(expected, 1)).all()
    graph = knn(features, 4).toarray()
    assert (graph > 0).sum(1).tolist() == [4] * 30
    assert graph[graph > 0] == pytest.approx(1 / 4)
    assert (graph.diagonal() > 0).all()


def test_an_all_zero_row_has_only_itself(generator):
    features = torch.randn(12, 5, generator=generator).abs()  # positive cosines: nobody turns to the zero rows
    features[[3, 7]] = 0
    graph = knn(features, 4).toarray()
    assert np.isfinite(graph).all()
    for item in (3, 7):
        assert np.flatnonzero(graph[item]).tolist() == [item]
        assert graph[item, item] == 1


def test_twins_still_count_themselves():
    graph = knn(torch.ones(20, 3), 5).toarray()
    assert (graph.diagonal() > 0).all()
    assert (graph > 0).sum(1).tolist() == [5] * 20


@pytest.mark.parametrize("k", [0, 13])
def test_a_wrong_k_is_named(k):
    with pytest.raises(ValueError, match=r"'k' needs to lie between 1 and the number of rows, 12"):
        nearest(torch.ones(12, 2), k)


def test_many_rows_are_searched_among_the_likely_ones(monkeypatch, generator):
    """Rows around 40 centres: the approximate search finds nine tenths of the true neighbours, and each row itself."""
    centres = torch.randn(40, 12, generator=generator).repeat(30, 1)
    features = centres + 0.3 * torch.randn(1200, 12, generator=generator)
    features[7], features[20:40] = 0, features[20]  # twenty equals crowd each other out of their lists of six
    exact = nearest(features, 6)
    monkeypatch.setattr(graphs, "EXACT", 1000)
    monkeypatch.delattr(graphs, "_nearest_of_all")
    found = nearest(features, 6)
    assert (found[:, 0] == torch.arange(1200)).all()
    assert (found[7, 1:] == -1).all()
    assert all(len(set(row.tolist())) == 6 for row in found[8:])  # nobody twice
    shared = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(found[40:, 1:], exact[40:, 1:])]
    assert np.mean(shared) / 5 > 0.9
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "faiss", None)
        with pytest.raises(ValueError, match=r"needs at most 1000 rows .* extra 'scale' \(got 1200\)$"):
            nearest(features, 6)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A folder for neighbours, in which any search is worth a file, and a list of the searches."""
    searches = []
    monkeypatch.setattr(graphs, "KEPT", tmp_path / "graphs")
    monkeypatch.setattr(graphs, "WORTH", 0)
    monkeypatch.setattr(graphs, "nearest", lambda *asked: searches.append(asked) or nearest(*asked))
    return tmp_path / "graphs", searches


def test_neighbours_are_searched_once_and_are_those_of_a_search(kept, generator):
    folder, searches = kept
    features = torch.randn(30, 5, generator=generator)
    features[3] = 0
    expected = nearest(features, 4)
    for _ in range(2):
        assert torch.equal(graphs.kept_nearest(features, 4), expected)
        assert (knn(features.clone(), 4).toarray() > 0).sum() == (expected >= 0).sum()
    assert len(searches) == len(list(folder.iterdir())) == 1


def test_other_features_or_another_k_are_searched_for_anew(kept, generator, monkeypatch):
    folder, searches = kept
    features = torch.randn(30, 5, generator=generator)
    changed = features.clone()
    changed[29, 4] = changed[29, 4].nextafter(torch.tensor(9.0))
    for x, k in ((features, 4), (features, 5), (changed, 4), (features.double(), 4), (features.view(50, 3), 4)):
        assert torch.equal(graphs.kept_nearest(x, k), nearest(x, k))
    monkeypatch.setattr(graphs, "NEAREST_REVISION", graphs.NEAREST_REVISION + 1)
    graphs.kept_nearest(features, 4)
    assert len(searches) == len(list(folder.iterdir())) == 6


@pytest.mark.parametrize("damage", [lambda old: b"", lambda old: old[:-9], lambda old: old[:-1] + bytes([old[-1] ^ 1])])
def test_damaged_neighbours_are_made_anew(kept, generator, damage):
    folder, searches = kept
    features = torch.randn(30, 5, generator=generator)
    expected = graphs.kept_nearest(features, 4)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        assert torch.equal(graphs.kept_nearest(features, 4), expected)
    assert len(searches) == 2


def test_without_a_place_for_neighbours_they_are_searched_for(kept, generator, monkeypatch):
    folder, searches = kept
    features = torch.randn(30, 5, generator=generator)
    folder.write_text("a file where the folder would be")
    for place in (folder, None):
        monkeypatch.setattr(graphs, "KEPT", place)
        assert torch.equal(graphs.kept_nearest(features, 4), nearest(features, 4))
    assert len(searches) == 2


def test_a_small_search_leaves_no_file(kept, generator, monkeypatch):
    folder, _ = kept
    monkeypatch.setattr(graphs, "WORTH", 30 * 30 * 5 + 1)
    graphs.kept_nearest(torch.randn(30, 5, generator=generator), 4)
    assert not folder.exists()
