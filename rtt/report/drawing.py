"""What all figures share: the style file, saving, colours and legends.

matplotlib is imported when something is drawn, not before, and only through its objects: no display, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
GREY = "#404040"


@contextmanager
def style() -> Iterator[None]:
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes ``stem.svg`` and ``stem.png`` without a date or the drawing library's name, each in one move."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{suffix}")
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(drawn.getvalue())
        partial.replace(path)
        paths.append(path)
    return paths


def colours(names: list[str]) -> dict[str, str]:
    """The style file's colours in turn."""
    from matplotlib import rcParams

    return dict(zip(names, cycle(rcParams["axes.prop_cycle"].by_key()["color"]), strict=False))


def empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY)


def legend(figure: Figure, axes: Axes, said: list[str], **options: Any) -> int:
    """Above the axes, where it hides nothing, under the lines `said`; as many columns as fit. Returns its rows."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = min(3 if longest <= 13 else 2 if longest <= 26 else 1, len(labels))
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        title="\n".join(said) or None,
        alignment="left",
        columnspacing=1.2,
        **options,
    )
    legend.get_title().set_fontsize(7)
    return -(-len(labels) // columns)
