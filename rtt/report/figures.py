"""The study's figures, each as SVG and PNG; drawn twice from the same numbers, the files are equal byte for byte.

matplotlib is imported when something is drawn, not before, and only through its objects: no display, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rtt.report.tables import BASE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
INTERVAL = "95 % interval over prompts"
# Lists of unequal length, so that arms who share a colour differ in the rest.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (2, 1)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "----")
BASE_LOOK: dict[str, Any] = {"color": "#404040", "linestyle": ":", "linewidth": 1.0}
MOST_BANDS = 4
SCORERS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (column of a kind's figures, look); the crosses lie on top, where open squares do not hide them
    "discriminator": ("auprc", {"marker": "o", "color": "#0072B2", "s": 20, "zorder": 3}),
    "keyword": ("keyword_auprc", {"marker": "s", "facecolors": "none", "edgecolors": "#D55E00", "s": 18, "zorder": 4}),
    "random": ("random_auprc", {"marker": "x", "color": "#404040", "s": 12, "linewidths": 0.9, "zorder": 5}),
}


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def _save(figure: Figure, stem: Path) -> list[Path]:
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


def _colours(names: list[str]) -> dict[str, str]:
    """The style file's colours in turn."""
    from matplotlib import rcParams

    return dict(zip(names, cycle(rcParams["axes.prop_cycle"].by_key()["color"]), strict=False))


def _empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#404040")


def learning_curves(curves: pd.DataFrame, path_stem: Path) -> list[Path]:
    """Validation instruction accuracy over optimiser steps, per arm: seeds thin, their mean thick, interval as a band.

    Args:
        curves: as rtt.report.tables.curve_table returns it. An arm's value at step 0 is that of the base.
        path_stem: where to write, without a suffix.

    Returns:
        The paths of the SVG and the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator

    names = list(curves["arm"].unique())
    seeds = int(curves.groupby("arm")["seed"].nunique().max()) if names else 0
    banded = len(names) <= MOST_BANDS  # more would hide one another
    said = [f"thick: mean of {seeds} seeds, thin: each seed"] * (seeds > 1) + [f"band: {INTERVAL}"] * banded
    with _style():
        figure = Figure()
        axes = figure.add_subplot()
        for (name, colour), line, marker in zip(_colours(names).items(), cycle(LINES), cycle(MARKERS), strict=False):
            arm = curves[curves["arm"] == name]
            mean = 100 * arm.groupby("step")[["instruction_strict", "low", "high"]].mean()
            if banded:
                axes.fill_between(mean.index, mean["low"], mean["high"], color=colour, alpha=0.13, linewidth=0)
            if seeds > 1:
                for _, one in arm.groupby("seed"):
                    shares = 100 * one["instruction_strict"]
                    axes.plot(one["step"], shares, color=colour, linestyle=line, linewidth=0.5, alpha=0.7)
            axes.plot(mean.index, mean["instruction_strict"], color=colour, linestyle=line, marker=marker, label=name)
        starts = curves.loc[curves["step"] == 0, "instruction_strict"]
        if starts.nunique() == 1:
            axes.axhline(100 * starts.iloc[0], label=BASE, **BASE_LOOK)
        if not names:
            _empty(axes, "no scores on validation")
        axes.set_xlabel("Optimiser steps")
        axes.set_ylabel("Validation instruction\naccuracy (%)")
        steps = sorted(curves["step"].unique())
        axes.xaxis.set_major_locator(FixedLocator(steps) if 0 < len(steps) <= 9 else MaxNLocator(6, integer=True))
        axes.grid(axis="y")
        axes.margins(x=0.03)
        if names:
            figure.set_figheight(2.2 + 0.15 * (_legend(figure, axes, said) + len(said)))
        return _save(figure, path_stem)


def _legend(figure: Figure, axes: Axes, said: list[str], **options: Any) -> int:
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


def comparison_bars(main: pd.DataFrame, path_stem: Path, metric: str = "instruction_strict") -> list[Path]:
    """Final accuracy of every arm on every benchmark, with its interval and its value in figures.

    Args:
        main: as rtt.report.tables.main_table returns it.
        path_stem: where to write, without a suffix.
        metric: which of its metrics, a share.

    Returns:
        The paths of the SVG and the PNG.
    """
    from matplotlib.figure import Figure

    rows = main[main["metric"] == metric]
    benchmarks, arms = list(rows["benchmark"].unique()), list(rows["arm"].unique())
    with _style():
        figure = Figure()
        axes = figure.add_subplot()
        height = 0.84 / max(1, len(arms))
        colours, hatches = _colours([arm for arm in arms if arm != BASE]), cycle(HATCHES)
        for place, arm in enumerate(arms):
            own = rows[rows["arm"] == arm].set_index("benchmark")
            where = [benchmarks.index(name) + (place - (len(arms) - 1) / 2) * height for name in own.index]
            value, low, high = (100 * own[end].to_numpy() for end in ("value", "low", "high"))
            fill = "#D9D9D9" if arm == BASE else colours[arm]
            hatch = "" if arm == BASE else next(hatches)
            look: dict[str, Any] = {"facecolor": fill, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5}
            axes.barh(where, value, height=0.88 * height, label=arm, **look)
            axes.hlines(where, low, high, color="white", linewidth=2.4)  # a halo, so that no hatch hides the line
            axes.hlines(where, low, high, color="black", linewidth=1.0)
            for y, share, right in zip(where, value, high, strict=True):
                end_of_bar = (max(share, right), y)
                axes.annotate(f"{share:.1f}", end_of_bar, (3, 0), textcoords="offset points", va="center", size=6.5)
        axes.set_yticks(range(len(benchmarks)), [_broken(name) for name in benchmarks])
        axes.set_ylim(max(1, len(benchmarks)) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 115 * max(rows["high"].max(), 0.05) if len(rows) else 100)
        axes.set_xlabel(f"{metric.partition('_')[0].capitalize()}-level accuracy, {metric.partition('_')[2]} (%)")
        axes.grid(axis="x")
        legend_rows = _legend(figure, axes, [f"line: {INTERVAL}"]) if len(rows) else 0
        if rows.empty:
            _empty(axes, "no scores")
        # the height grows with the bars, so that any number of arms and benchmarks stays legible
        bars = len(benchmarks) * max(0.34, 0.155 * len(arms) + 0.08)
        figure.set_figheight(0.75 + 0.15 * legend_rows + bars)
        return _save(figure, path_stem)


def _broken(name: str) -> str:
    """A name as an axis label, in lines of one word."""
    return name.replace("_", "\n")


def discriminator_by_kind(metrics: Mapping[str, Any], path_stem: Path) -> list[Path]:
    """AUPRC of the discriminator and of its baselines per rubric kind, one panel per set.

    Args:
        metrics: the discriminator's figures, as rtt.relevance.quality returns them; a kind without a relevant token has
            None for its AUPRC and is named without a dot.
        path_stem: where to write, without a suffix.

    Returns:
        The paths of the SVG and the PNG.
    """
    from matplotlib.figure import Figure

    sets = {name: found["per_kind"] for name, found in metrics["sets"].items() if found["per_kind"]}
    sizes = [len(kinds) for kinds in sets.values()] or [1]
    names = _short_kinds([kind for kinds in sets.values() for kind in kinds])
    with _style():
        figure = Figure(figsize=(3.5, 0.8 + 0.165 * sum(sizes) + 0.3 * len(sizes)))
        panels = figure.subplots(len(sizes), 1, sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in sizes])
        for axes, (title, kinds) in zip(panels[:, 0], sets.items(), strict=False):
            ordered = sorted(kinds, key=lambda kind: (-_number(kinds[kind]["auprc"]), kind))
            for scorer, (column, look) in SCORERS.items():
                dots = [(kinds[kind][column], y) for y, kind in enumerate(ordered) if kinds[kind][column] is not None]
                axes.scatter([x for x, _ in dots], [y for _, y in dots], label=scorer, clip_on=False, **look)
            for y, kind in enumerate(ordered):
                if kinds[kind]["auprc"] is None:
                    axes.text(
                        0.01, y, "no relevant token", va="center", fontsize=6, color="#404040", backgroundcolor="white"
                    )
            axes.set_title(title.replace("_", " "))
            axes.set_yticks(range(len(ordered)), [names[kind] for kind in ordered])
            axes.set_ylim(len(ordered) - 0.4, -0.6)
            axes.tick_params(axis="y", length=0)
            axes.grid()
        last = panels[-1, 0]
        last.set_xlim(0, 1)
        figure.supxlabel("AUPRC (area under the precision-recall curve)", fontsize=7.5)
        if sets:
            _legend(figure, last, [], handlelength=1)
        else:
            _empty(last, "no labelled pairs")
        return _save(figure, path_stem)


def _number(value: float | None) -> float:
    return -1.0 if value is None else value


def _short_kinds(kinds: list[str]) -> dict[str, str]:
    """Kinds without their group where that stays unambiguous."""
    short = {kind: kind.rpartition(":")[2] for kind in kinds}
    used = list(short.values())
    return {kind: (name if used.count(name) == 1 else kind).replace("_", " ") for kind, name in short.items()}
