"""Pictures that a reader moves by a slider, as pages of their own: no kernel, no network."""

import html
from collections.abc import Iterable
from itertools import cycle

import numpy as np
import plotly.graph_objects as go
from IPython.display import HTML
from plotly.subplots import make_subplots
from sklearn.manifold import trustworthiness

from sea.analysis import angles, representations


def angle_explorer(dimensions: Iterable[int], draws: int, rng: np.random.Generator) -> HTML:
    """A slider over n: simulated angles under the exact density of Theorem 1, the band of 95 % marked.

    A page in a frame of its own with all its script inside: it needs neither a kernel nor a network, in
    JupyterLab as in an exported file.
    """
    frames = [_explorer_frame(n, draws, rng) for n in dimensions]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "args": [[frame.name], at_once], "label": frame.name} for frame in frames]
    figure = go.Figure(frames[0].data, frames[0].layout, frames)
    figure.update_layout(
        template="simple_white",
        bargap=0,
        height=430,
        sliders=[{"steps": steps, "currentvalue": {"prefix": "n = "}, "pad": {"t": 40}}],
        xaxis={"title": "angle (degrees)", "range": [0, 180], "dtick": 45},
        yaxis_title="density (per degree)",
    )
    page = html.escape(figure.to_html(include_plotlyjs=True, auto_play=False))
    frame = f'<iframe srcdoc="{page}" title="angle explorer" width="100%" height="480" style="border:0"></iframe>'
    return HTML(f"<div>{frame}</div>")


def _explorer_frame(n: int, draws: int, rng: np.random.Generator) -> go.Frame:
    drawn = np.degrees(angles.sample(n, draws, rng))
    heights, edges = np.histogram(drawn, bins=180, range=(0, 180), density=True)
    grid = np.linspace(0, np.pi, 721)
    half, top = np.degrees(angles.halfwidth(n)), float(np.radians(angles.pdf(np.pi / 2, n))) * 1.15
    sides = [90 - half, 90 - half, None, 90 + half, 90 + half]
    exact = np.radians(angles.pdf(grid, n))
    return go.Frame(
        name=str(n),
        data=[
            go.Bar(x=(edges[:-1] + edges[1:]) / 2, y=heights, name="simulated", marker_color="#cccccc"),
            go.Scatter(x=np.degrees(grid), y=exact, name="exact, Eq. (1)", line={"color": "#0072B2"}),
            go.Scatter(
                x=sides,
                y=[0, top, None, 0, top],
                name="95 % lie between",
                mode="lines",
                line={"color": "#D55E00", "dash": "dot"},
            ),
        ],
        layout={
            "title": {"text": f"n = {n}: 95 % of the angles within {half:.1f} degrees of a right angle"},
            "yaxis": {"range": [0, top]},
        },
    )


KEYS = """
const plot = document.getElementById('{plot_id}');
const steps = plot.layout.sliders[0].steps;
plot.tabIndex = 0;
plot.setAttribute('aria-label', 'Left and right arrow keys move the slider');
plot.addEventListener('keydown', event => {
  const way = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
  if (!way) return;
  event.preventDefault();
  const next = Math.min(Math.max((plot.layout.sliders[0].active || 0) + way, 0), steps.length - 1);
  Plotly.relayout(plot, {'sliders[0].active': next});
  Plotly.animate(plot, ...steps[next].args);
});
"""
"""Script of a page with one slider: the arrow keys move it, once the picture has the focus."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The figures' palette, one for each modality."""


def tsne_explorer(clouds: dict[tuple[str, str], np.ndarray], perplexities: Iterable[int] = (2, 5, 15, 30, 100)) -> HTML:
    """A slider over t-SNE's perplexity: the clouds as they are, and beside them with each one's mean subtracted.

    A map has no unit, so each is scaled to the square from -1 to 1. Above it stands its trustworthiness: 1 if a point's
    five neighbours in the map are its neighbours in the data. The page needs neither a kernel nor a network; arrow keys
    move the slider.

    Args:
        clouds: by (part, modality), as in `sea.analysis.representations.t_sne`; a part "unique" is drawn as crosses,
            any other as dots, and a colour is a modality.
        perplexities: at least one, each less than the number of all points.
    """
    frames = [_tsne_frame(clouds, perplexity) for perplexity in perplexities]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "args": [[frame.name], at_once], "label": frame.name} for frame in frames]
    figure = make_subplots(1, 2, subplot_titles=("as they are", "each mean subtracted"), horizontal_spacing=0.04)
    for place, trace in enumerate(frames[0].data):
        figure.add_trace(trace, 1, 1 + place // len(clouds))
    figure.frames = frames
    slider = {"steps": steps, "currentvalue": {"prefix": "perplexity "}, "pad": {"t": 20, "b": 60}}
    figure.update_layout(template="simple_white", height=540, sliders=[slider], title=frames[0].layout.title)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 90, "b": 10}, title_font_size=14)
    figure.update_layout(legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"})
    figure.update_xaxes(range=[-1.05, 1.05], showticklabels=False, ticks="", mirror=True)
    figure.update_yaxes(range=[-1.05, 1.05], showticklabels=False, ticks="", mirror=True)
    plain = {"include_plotlyjs": True, "auto_play": False, "config": {"displayModeBar": False}}
    page = html.escape(figure.to_html(**plain, post_script=KEYS))
    frame = f'<iframe srcdoc="{page}" title="t-SNE explorer" width="100%" height="570" style="border:0"></iframe>'
    return HTML(f"<div>{frame}</div>")


def _tsne_frame(clouds: dict[tuple[str, str], np.ndarray], perplexity: int) -> go.Frame:
    names = dict.fromkeys(m for _, m in clouds)
    colours, sizes = dict(zip(names, cycle(COLOURS))), dict(zip(names, cycle((9, 4))))  # a ring with a core: they meet
    marks, trusted = [], []
    for centred in (False, True):
        points = representations.t_sne(clouds, perplexity=perplexity, centred=centred)
        stacked = np.vstack([cloud - cloud.mean(0) if centred else cloud for cloud in clouds.values()])
        place = points[["x", "y"]].to_numpy(np.float64)
        trusted.append(trustworthiness(stacked, place))
        place -= (place.max(0) + place.min(0)) / 2
        points[["x", "y"]] = (place / np.abs(place).max()).round(3)
        for (part, m), cloud in points.groupby(["part", "modality"], sort=False):
            look = {"color": colours[m], "symbol": "circle", "size": sizes[m]}
            look |= {"symbol": "x-thin-open", "size": 6} if part == "unique" else {}
            marks.append(
                go.Scatter(
                    x=cloud["x"].tolist(),
                    y=cloud["y"].tolist(),
                    mode="markers",
                    marker=look,
                    name=html.escape(f"{part}, {m}"),
                    legendgroup=f"{part}, {m}",
                    showlegend=not centred,
                    xaxis="x2" if centred else "x",
                    yaxis="y2" if centred else "y",
                    hoverinfo="name",
                )
            )
    title = f"perplexity {perplexity}: trustworthiness {trusted[0]:.2f} and {trusted[1]:.2f}"
    return go.Frame(name=str(perplexity), data=marks, layout={"title": {"text": title}})
