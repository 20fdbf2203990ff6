"""Pictures that a reader moves by a slider, as pages of their own: no kernel, no network."""

import html
import json
from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go
from IPython.display import HTML

from sea.analysis import angles

KEYBOARD = """
const plot = document.getElementById('{plot_id}');
const tell = () => {
  const slider = plot._fullLayout.sliders[0];
  plot.setAttribute('aria-valuenow', slider.active);
  plot.setAttribute('aria-valuetext', plot._fullLayout.title.text);
};
for (const [name, value] of Object.entries({
  tabindex: 0, role: 'slider', 'aria-label': LABEL, 'aria-valuemin': 0,
  'aria-valuemax': plot._fullLayout.sliders[0].steps.length - 1,
})) plot.setAttribute(name, value);
plot.addEventListener('keydown', event => {
  const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
  if (!step) return;
  event.preventDefault();
  const slider = plot._fullLayout.sliders[0], next = slider.steps[slider.active + step];
  if (next) Plotly.animate(plot, ...next.args);
});
plot.on('plotly_afterplot', tell);
tell();
"""
"""Makes a plot with one slider a slider for the keyboard and for screen readers: arrow keys move it."""


def angle_explorer(dimensions: Iterable[int], draws: int, rng: np.random.Generator) -> HTML:
    """A slider over n: simulated angles under the exact density of Theorem 1, the band of 95 % marked.

    A page in a frame of its own with all its script inside: it needs neither a kernel nor a network, in
    JupyterLab as in an exported file.
    """
    return _slider([_explorer_frame(n, draws, rng) for n in dimensions], "n = ", "angle explorer")


def spectrum_explorer(decays: Iterable[float], width: int, draws: int, rng: np.random.Generator) -> HTML:
    """A slider over s: angles of Gaussian vectors with variances k^(-s), k = 1 to `width`, under two laws.

    The laws are those of Theorem 1 at the width, and at the effective dimension, rounded. A page as `angle_explorer`'s.
    """
    return _slider([_spectrum_frame(s, width, draws, rng) for s in decays], "decay s = ", "spectrum explorer")


def _slider(frames: list[go.Frame], prefix: str, title: str) -> HTML:
    """A page in a frame of its own, its slider moved by mouse, finger or keyboard, with the frames' names as labels."""
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "args": [[frame.name], at_once], "label": frame.name} for frame in frames]
    figure = go.Figure(frames[0].data, frames[0].layout, frames)
    figure.update_layout(
        template="simple_white",
        bargap=0,
        height=430,
        sliders=[{"steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": 40}}],
        xaxis={"title": "angle (degrees)", "range": [0, 180], "dtick": 45},
        yaxis_title="density (per degree)",
    )
    keyboard = KEYBOARD.replace("LABEL", json.dumps(title))
    page = html.escape(figure.to_html(include_plotlyjs=True, auto_play=False, post_script=keyboard))
    frame = f'<iframe srcdoc="{page}" title="{title}" width="100%" height="480" style="border:0"></iframe>'
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


def _spectrum_frame(decay: float, width: int, draws: int, rng: np.random.Generator) -> go.Frame:
    variances = np.arange(1, width + 1) ** -float(decay)
    a, b = rng.standard_normal((2, draws, width)) * np.sqrt(variances)
    heights, edges = np.histogram(np.degrees(angles.between(a, b)), bins=180, range=(0, 180), density=True)
    grid, size = np.linspace(0, np.pi, 721), angles.spectral_dimension(variances)
    laws = {
        f"law at n = {width}": (width, "#D55E00", "dot"),
        "law at the effective n": (round(size), "#0072B2", "solid"),
    }
    lines = [
        go.Scatter(
            x=np.degrees(grid), y=np.radians(angles.pdf(grid, n)), name=name, line={"color": colour, "dash": dash}
        )
        for name, (n, colour, dash) in laws.items()
    ]
    return go.Frame(
        name=f"{decay:g}",
        data=[go.Bar(x=(edges[:-1] + edges[1:]) / 2, y=heights, name="drawn", marker_color="#cccccc"), *lines],
        layout={
            "title": {"text": f"variances k^-{decay:g}: effective n = {size:.1f} of {width}"},
            "yaxis": {"range": [0, float(np.radians(angles.pdf(np.pi / 2, width))) * 1.15]},
        },
    )
