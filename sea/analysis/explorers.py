"""Pictures that a reader moves by a slider, as pages of their own: no kernel, no network."""

import html
from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go
from IPython.display import HTML

from sea.analysis import angles


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
