"""Pictures that a reader moves by sliders, as pages of their own: no kernel, no network."""

import html
import json
from collections.abc import Iterable
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML
from plotly.subplots import make_subplots
from sklearn.manifold import trustworthiness

from sea.analysis import angles, gaussians, representations

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The figures' palette, one for each modality."""


def angle_explorer(dimensions: Iterable[int], draws: int, rng: np.random.Generator) -> HTML:
    """A slider over n: simulated angles under the exact density of Theorem 1, the band of 95 % marked.

    A page in a frame of its own with all its script inside: it needs neither a kernel nor a network, in JupyterLab as
    in an exported file. Its slider is the browser's own, which the arrow keys move as well.
    """
    dimensions = list(dimensions)
    return _of_angles([_explorer_frame(n, draws, rng) for n in dimensions], {"n =": dimensions}, "angle explorer")


def spectrum_explorer(decays: Iterable[float], width: int, draws: int, rng: np.random.Generator) -> HTML:
    """A slider over s: angles of Gaussian vectors with variances k^(-s), k = 1 to `width`, under two laws.

    The laws are those of Theorem 1 at the width, and at the effective dimension, rounded. A page as that of
    `angle_explorer`.
    """
    decays = list(decays)
    frames = [_spectrum_frame(s, width, draws, rng) for s in decays]
    return _of_angles(frames, {"decay s =": decays}, "spectrum explorer")


def _of_angles(frames: list[go.Frame], controls: dict[str, list[float]], title: str) -> HTML:
    first = frames[len(frames) // 2]
    figure = go.Figure(first.data, first.layout, frames)
    figure.update_layout(
        template="simple_white",
        bargap=0,
        height=430,
        legend={"orientation": "h", "y": -0.2},
        xaxis={"title": "angle (degrees)", "range": [0, 180], "dtick": 45},
        yaxis_title="density (per degree)",
    )
    return _steered(figure, controls, title, 480)


def _explorer_frame(n: int, draws: int, rng: np.random.Generator) -> go.Frame:
    drawn = np.degrees(angles.sample(n, draws, rng))
    heights, edges = np.histogram(drawn, bins=180, range=(0, 180), density=True)
    grid = np.linspace(0, np.pi, 361)
    half, top = np.degrees(angles.halfwidth(n)), float(np.radians(angles.pdf(np.pi / 2, n))) * 1.15
    sides = [90 - half, 90 - half, None, 90 + half, 90 + half]
    exact = np.float32(np.radians(angles.pdf(grid, n)))  # half as many bytes in the page
    return go.Frame(
        name=_name([n]),
        data=[
            go.Bar(
                x=np.float32(edges[:-1] + edges[1:]) / 2,
                y=np.float32(heights),
                name="simulated",
                marker_color="#cccccc",
            ),
            go.Scatter(x=np.float32(np.degrees(grid)), y=exact, name="exact, Eq. (1)", line={"color": "#0072B2"}),
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


def _spectrum_frame(decay: float, width: int, draws: int, rng: np.random.Generator) -> go.Frame:
    variances = np.arange(1, width + 1) ** -float(decay)
    a, b = rng.standard_normal((2, draws, width)) * np.sqrt(variances)
    heights, edges = np.histogram(np.degrees(angles.between(a, b)), bins=180, range=(0, 180), density=True)
    grid, size = np.linspace(0, np.pi, 361), angles.spectral_dimension(variances)
    laws = {
        f"law at n = {width}": (width, "#D55E00", "dot"),
        "law at the effective n": (round(size), "#0072B2", "solid"),
    }
    lines = [
        go.Scatter(
            x=np.float32(np.degrees(grid)),
            y=np.float32(np.radians(angles.pdf(grid, n))),
            name=name,
            line={"color": colour, "dash": dash},
        )
        for name, (n, colour, dash) in laws.items()
    ]
    return go.Frame(
        name=_name([decay]),
        data=[
            go.Bar(
                x=np.float32(edges[:-1] + edges[1:]) / 2, y=np.float32(heights), name="drawn", marker_color="#cccccc"
            ),
            *lines,
        ],
        layout={
            "title": {"text": f"variances k^-{decay:g}: effective n = {size:.1f} of {width}"},
            "yaxis": {"range": [0, float(np.radians(angles.pdf(np.pi / 2, width))) * 1.15]},
        },
    )


def fusion_explorer(weights: Iterable[float]) -> HTML:
    """A slider over a_v, two modalities in a plane: C moves on the line Z_v Z_t, both uniques with it.

    Beneath, the squared dot product of the uniques, (a_v a_t)² |Z_v - Z_t|⁴. A page as that of `angle_explorer`.

    Args:
        weights: a_v, ascending; a_t = 1 - a_v.
    """
    weights = list(weights)
    z = np.array([[0.6, 2.2], [3.0, 1.0]])  # Z_v, Z_t
    a = np.linspace(min(weights), max(weights), 201)
    line = a[:, None] * z[0] + (1 - a[:, None]) * z[1]
    products = (a * (1 - a)) ** 2 * ((z[0] - z[1]) ** 2).sum() ** 2
    frames = [_fusion_frame(one, z) for one in weights]
    first = frames[len(weights) // 2]
    figure = make_subplots(rows=2, cols=1, row_heights=[0.62, 0.38], vertical_spacing=0.2)
    figure.add_scatter(
        x=line[:, 0], y=line[:, 1], mode="lines", line={"color": "#bbbbbb", "dash": "dot"}, name="fusions"
    )
    figure.add_scatter(
        x=[0, *z[:, 0]], y=[0, *z[:, 1]], mode="markers+text", text=["0", "Z<sub>v</sub>", "Z<sub>t</sub>"],
        textposition="top center", marker={"color": "black", "size": 7}, showlegend=False,
    )  # fmt: skip
    for trace in first.data[:3]:
        figure.add_trace(trace)
    figure.add_scatter(x=a, y=products, line={"color": "#bbbbbb"}, showlegend=False, row=2, col=1)
    figure.add_trace(first.data[3], row=2, col=1)
    for frame in frames:
        frame.traces = [2, 3, 4, 6]
    figure.frames = frames
    figure.update_layout(template="simple_white", height=560, title=first.layout.title)
    figure.update_layout(legend={"orientation": "h", "y": -0.22})
    figure.update_xaxes(visible=False, row=1, col=1)
    figure.update_yaxes(visible=False, scaleanchor="x", row=1, col=1)
    figure.update_xaxes(title="weight a<sub>v</sub> of Z<sub>v</sub>", row=2, col=1)
    figure.update_yaxes(title="squared dot product", row=2, col=1)
    return _steered(figure, {"weight of Z_v": weights}, "fusion explorer", 650)


def _fusion_frame(a: float, z: np.ndarray) -> go.Frame:
    fused = a * z[0] + (1 - a) * z[1]
    unique = z - fused
    dot = float(unique[0] @ unique[1])
    if dot:
        tells = f"the uniques point {'opposite ways' if dot < 0 else 'the same way'}: cosine {np.sign(dot):+.0f}"
    else:
        tells = "one unique is the zero vector and has no direction"
    arrows = [
        go.Scatter(
            x=[fused[0], end[0]], y=[fused[1], end[1]], mode="lines+markers", name=f"Z<sub>{m}</sub> - C",
            line={"color": colour, "width": width},
            marker={"symbol": "arrow", "angleref": "previous", "size": [0, 16], "color": colour},
        )
        for end, m, colour, width in zip(z, "vt", ("#0072B2", "#D55E00"), (6, 2))
    ]  # fmt: skip
    point = {"mode": "markers", "marker": {"color": "#009E73", "size": 11, "symbol": "diamond"}}
    return go.Frame(
        name=_name([a]),
        data=[
            *arrows,
            go.Scatter(x=[fused[0]], y=[fused[1]], name="C, the fusion", **point),
            go.Scatter(x=[a], y=[dot**2], showlegend=False, **point),
        ],
        layout={"title": {"text": f"a<sub>v</sub> = {a:g}: {tells}", "font": {"size": 14}}},
    )


def bound_explorer(learned: pd.DataFrame, d: int) -> HTML:
    """Three sliders, q's hidden units, its steps, the scale of u: where vCLUB lies, as the truth grows.

    A page as that of `angle_explorer`.

    Args:
        learned: what `bounds.learned_club` returns.
        d: coordinates that it was made for.
    """
    names = {"width": "hidden units of q", "steps": "steps of q", "scale": "scale of u"}
    keys = learned.index.droplevel("I").unique()
    controls = {title: list(keys.unique(name)) for name, title in names.items()}
    frames = [_bound_frame(key, learned["vCLUB"].loc[key], d) for key in keys]
    middle = _name(values[len(values) // 2] for values in controls.values())
    first = next(frame for frame in frames if frame.name == middle)
    truth = np.linspace(0, learned.index.unique("I").max(), 60)
    figure = go.Figure(layout={"title": first.layout.title}, frames=frames)
    figure.add_scatter(x=truth, y=truth, line={"color": "#999999", "width": 5}, name="the truth")
    exact = gaussians.club(gaussians.correlation(truth, d), d)
    figure.add_scatter(x=truth, y=exact, line={"color": "#0072B2"}, name="true conditional")
    figure.add_traces(first.data)
    figure.update_layout(
        template="simple_white",
        height=430,
        legend={"orientation": "h", "y": -0.25},
        xaxis={"title": "true information (nats)", "range": [-0.2, truth[-1] + 0.2]},
        yaxis={"title": "vCLUB (nats)", "range": [-2, 2.5 * truth[-1]]},
    )
    return _steered(figure, controls, "bound explorer", 570)


def _bound_frame(key: tuple, found: pd.Series, d: int) -> go.Frame:
    width, steps, scale = key
    truth = found.index.to_numpy()
    fine = np.linspace(0, truth[-1], 60)
    best = gaussians.limited_club(gaussians.correlation(fine, d), d, scale)
    below = found.to_numpy() < truth
    colours = np.where(below, "#D55E00", "#000000").tolist()
    symbols = np.where(below, "x", "circle").tolist()
    text = f"{width} hidden units, {steps} steps, scale {scale:g}: below the truth at {below.sum()} of {len(below)}"
    marks = {"color": colours, "symbol": symbols, "size": 9}
    dashed = {"color": "#009E73", "dash": "dash"}
    return go.Frame(
        name=_name(key),
        data=[
            go.Scatter(x=fine.round(3), y=best.round(3), line=dashed, name="best q of its kind"),
            go.Scatter(
                x=truth, y=found.round(3), mode="markers", marker=marks, name="learned q; a cross: below the truth"
            ),
        ],
        traces=[2, 3],
        layout={"title": {"text": text, "font": {"size": 14}}},
    )


def tsne_explorer(clouds: dict[tuple[str, str], np.ndarray], perplexities: Iterable[int] = (2, 5, 15, 30, 100)) -> HTML:
    """A slider over t-SNE's perplexity: the clouds as they are, and beside them with each one's mean subtracted.

    A map has no unit, so each is scaled to the square from -1 to 1. Above it stands its trustworthiness: 1 if a point's
    five neighbours in the map are its neighbours in the data. A page as that of `angle_explorer`.

    Args:
        clouds: by (part, modality), as in `sea.analysis.representations.t_sne`; a part "unique" is drawn as crosses,
            any other as dots, and a colour is a modality.
        perplexities: at least one, each less than the number of all points.
    """
    perplexities = list(perplexities)
    frames = [_tsne_frame(clouds, perplexity) for perplexity in perplexities]
    first = frames[len(frames) // 2]
    figure = make_subplots(1, 2, subplot_titles=("as they are", "each mean subtracted"), horizontal_spacing=0.04)
    for place, trace in enumerate(first.data):
        figure.add_trace(trace, 1, 1 + place // len(clouds))
    figure.frames = frames
    figure.update_layout(template="simple_white", height=500, title=first.layout.title, title_font_size=14)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 90, "b": 60})
    figure.update_layout(legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"})
    figure.update_xaxes(range=[-1.05, 1.05], showticklabels=False, ticks="", mirror=True)
    figure.update_yaxes(range=[-1.05, 1.05], showticklabels=False, ticks="", mirror=True)
    return _steered(figure, {"perplexity": perplexities}, "t-SNE explorer", 570)


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
    return go.Frame(name=_name([perplexity]), data=marks, layout={"title": {"text": title}})


_SLIDERS = """
const plot = document.getElementById("{plot_id}"), bar = document.createElement("form"), chosen = [];
const show = () => Plotly.animate(plot, [chosen.map(one => one()).join(" | ")],
  {mode: "immediate", frame: {duration: 0, redraw: true}, transition: {duration: 0}});
for (const [name, values] of CONTROLS) {
  const label = bar.appendChild(document.createElement("label"));
  label.append(name + " ");
  const input = label.appendChild(document.createElement("input"));
  const shown = label.appendChild(document.createElement("output"));
  Object.assign(input, {type: "range", min: 0, max: values.length - 1, value: Math.floor(values.length / 2)});
  const tell = () => { shown.value = values[input.value]; input.setAttribute("aria-valuetext", shown.value); };
  input.addEventListener("input", () => { tell(); show(); });
  chosen.push(() => values[input.value]);
  tell();
}
bar.style = "display: flex; flex-wrap: wrap; gap: 4px 24px; font: 14px sans-serif";
plot.before(bar);
"""


def _name(values: Iterable[float]) -> str:
    """A frame's name, from the values of its controls, as the sliders put it together."""
    return " | ".join(f"{value:g}" for value in values)


def _steered(figure: go.Figure, controls: dict[str, list[float]], title: str, height: int) -> HTML:
    """A page in a frame of its own, with a slider for each control, which begins at the value in the middle."""
    steps = json.dumps([(name, [f"{value:g}" for value in values]) for name, values in controls.items()])
    script = _SLIDERS.replace("CONTROLS", steps)
    page = html.escape(
        figure.to_html(include_plotlyjs=True, auto_play=False, post_script=script, config={"displayModeBar": False})
    )
    frame = f'<iframe srcdoc="{page}" title="{title}" width="100%" height="{height}" style="border:0"></iframe>'
    return HTML(f"<div>{frame}</div>")
