from itertools import combinations

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyBboxPatch

from sea import figures, schematics


@pytest.fixture(autouse=True)
def own_style():
    with plt.rc_context():
        figures.style()
        yield
    plt.close("all")


@pytest.mark.parametrize("draw", [schematics.sea, schematics.paradigms])
def test_every_word_lies_on_the_page_on_no_other_word_and_on_no_edge(draw):
    fig = draw()
    fig.draw_without_rendering()  # the layout is solved
    assert fig.get_figwidth() == figures.PAGE
    words = [text for text in fig.axes[0].texts if text.get_text()]
    boxes = {text.get_text() + str(k): text.get_window_extent() for k, text in enumerate(words)}
    page = fig.bbox
    for word, box in boxes.items():
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, word
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, word
    for one, other in combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)
    frames = [patch.get_window_extent() for patch in fig.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    for word, box in boxes.items():  # in a frame or outside it, on no edge
        for frame in frames:
            inside = frame.containsx(box.x0) and frame.containsx(box.x1) and frame.containsy(box.y0)
            assert (inside and frame.containsy(box.y1)) or not frame.overlaps(box), word
    assert min(text.get_fontsize() for text in words) >= 8  # points at the printed size


def test_what_the_two_schematics_name():
    told = {
        draw: " ".join(t.get_text() for t in draw().axes[0].texts) for draw in (schematics.sea, schematics.paradigms)
    }
    for word in ("SoloSim", "CLUB", "BPR", "generic", "unique", "user-item\ngraph", "item\ngraph"):
        assert word in told[schematics.sea]
    assert told[schematics.sea].count("CLUB:") == 2  # within each modality
    assert told[schematics.sea].count("SoloSim:") == 1  # across the two
    assert "u_v = x_v - g_v" in told[schematics.paradigms]
    assert r"u_v \perp u_t" in told[schematics.paradigms]
