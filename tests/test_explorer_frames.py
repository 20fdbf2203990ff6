"""The pages of the explorers without a browser: what their frames hold, against closed forms."""

import base64
import html
import json
import re

import numpy as np
import pytest

from sea.analysis import bounds, explorers, gaussians, representations


def frames(page):
    """By name, the frames of a page as its script gets them, and how many bytes they and the first picture take."""
    text = html.unescape(page.data)
    found = re.search(r"Plotly\.addFrames\('[^']+', (\[.*?\])\)", text, re.DOTALL)[1]
    start = re.search(r"Plotly\.newPlot\((.*?)\)\.then", text, re.DOTALL)[1]
    return {frame["name"]: frame for frame in json.loads(found)}, len(found) + len(start), text


def numbers(values):
    if isinstance(values, dict):  # Plotly packs arrays
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"].replace("f", "<f"))
    return np.array(values, dtype=float)


def test_the_fusion_lies_on_the_line_and_both_uniques_with_it():
    weights = [-0.25, 0.0, 0.25, 0.5, 1.25]
    found, size, text = frames(explorers.fusion_explorer(weights))
    assert list(found) == [f"{a:g}" for a in weights]
    assert json.dumps([["weight of Z_v", list(found)]]) in text
    ends = set()
    for a in weights:
        of_v, of_t, fused, marker = found[f"{a:g}"]["data"]
        start_v, z_v = np.stack([numbers(of_v["x"]), numbers(of_v["y"])], 1)
        start_t, z_t = np.stack([numbers(of_t["x"]), numbers(of_t["y"])], 1)
        at = np.array([numbers(fused["x"])[0], numbers(fused["y"])[0]])
        assert at == pytest.approx(a * z_v + (1 - a) * z_t, abs=1e-12)
        assert start_v == pytest.approx(at)
        assert start_t == pytest.approx(at)
        product = (a * (1 - a)) ** 2 * ((z_v - z_t) ** 2).sum() ** 2
        assert [numbers(marker["x"])[0], numbers(marker["y"])[0]] == pytest.approx([a, product], abs=1e-12)
        word = "zero vector" if a in (0, 1) else "opposite ways: cosine -1" if 0 < a < 1 else "same way: cosine +1"
        assert word in found[f"{a:g}"]["layout"]["title"]["text"]
        ends.add((*z_v, *z_t))
    assert len(ends) == 1  # only C moves
    assert size < 50_000


def test_the_bound_explorer_holds_the_estimates_and_says_where_they_lie():
    learned = bounds.learned_club([2, 8], [0, 100], [0.1, 1.0], [0.5, 4.0], d=4, pairs=300)
    found, size, text = frames(explorers.bound_explorer(learned, 4))
    assert len(found) == 8
    assert json.dumps(["scale of u", ["0.1", "1"]]) in text
    for (width, steps, scale), case in learned.groupby(["width", "steps", "scale"]):
        best, marks = found[f"{width} | {steps} | {scale:g}"]["data"]
        values = numbers(marks["y"])
        assert values == pytest.approx(case["vCLUB"].to_numpy(), abs=1e-3)
        below = values < [0.5, 4.0]
        assert marks["marker"]["symbol"] == ["x" if one else "circle" for one in below]
        assert (
            f"below the truth at {below.sum()} of 2"
            in found[f"{width} | {steps} | {scale:g}"]["layout"]["title"]["text"]
        )
        exact = gaussians.limited_club(gaussians.correlation(numbers(best["x"]), 4), 4, scale)
        assert numbers(best["y"]) == pytest.approx(exact, abs=0.01)
    assert size < 50_000


def trust(data, places, k=5):
    """Venna and Kaski's trustworthiness, from its definition: ranks in the data of those near in the map alone."""
    n, total = len(data), 0
    for i in range(n):
        order = [j for j in np.argsort(((data - data[i]) ** 2).sum(1), kind="stable") if j != i]
        near = [j for j in np.argsort(((places - places[i]) ** 2).sum(1), kind="stable") if j != i][:k]
        total += sum(max(0, order.index(j) + 1 - k) for j in near)
    return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


def test_the_t_sne_explorer_has_the_maps_of_each_perplexity_as_they_are_and_centred():
    rng = np.random.default_rng(3)
    clouds = {("head", "a"): rng.standard_normal((30, 4)), ("unique", "<b>b"): rng.standard_normal((30, 4)) + 6}
    by_name, _, _ = frames(explorers.tsne_explorer(clouds, [4, 12]))
    assert list(by_name) == ["4", "12"]
    found = list(by_name.values())
    assert {trace["name"] for trace in found[0]["data"]} == {"head, a", "unique, &lt;b&gt;b"}  # a name is no tag
    assert len(json.dumps(found)) / 240 * 4000 < 300_000  # as large as notebook 14's: 400 points in five pairs of maps
    moved = {name: cloud - cloud.mean(0) for name, cloud in clouds.items()}
    for frame, perplexity in zip(found, (4, 12)):
        told = []
        for half, given in ((frame["data"][:2], clouds), (frame["data"][2:], moved)):
            drawn = np.hstack([[trace["x"], trace["y"]] for trace in half]).T
            expected = representations.t_sne(given, perplexity=perplexity)[["x", "y"]].to_numpy()
            apart = [np.linalg.norm(one[:, None] - one, axis=2).ravel() for one in (drawn, expected)]
            assert np.corrcoef(apart)[0, 1] > 0.9999  # the same map, moved and scaled
            assert np.abs(drawn).max() == pytest.approx(1)
            told.append(trust(np.vstack(list(given.values())), expected))
        assert frame["layout"]["title"]["text"].endswith(f"{told[0]:.2f} and {told[1]:.2f}")
