"""The study's figures, each as SVG and PNG; drawn twice from the same numbers, the files are equal byte for byte.

matplotlib is imported when something is drawn, not before, and only through its objects: no display, no global state.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rtt.config import BASE
from rtt.report import drawing
from rtt.report.statistics import SIGNIFICANT
from rtt.tables import rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "instruction_strict"
BLUE = "#0072B2"  # the first of the style file's colours
# Lists of unequal length, so that arms who share a colour differ in the rest.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (2, 1)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "----")
BASE_LOOK: dict[str, Any] = {"color": drawing.GREY, "linestyle": ":", "linewidth": 1.0}
MOST_BANDS = 4
MOST_LINES = 6
"""Arms in one panel; more get a panel each."""
PANELS = 3
"""Panels side by side, for many arms."""
SCORERS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (column of a kind's figures, look); the crosses lie on top, where open squares do not hide them
    "discriminator": ("auprc", {"marker": "o", "color": BLUE, "s": 20, "zorder": 3}),
    "keyword": ("keyword_auprc", {"marker": "s", "facecolors": "none", "edgecolors": "#D55E00", "s": 18, "zorder": 4}),
    "random": ("random_auprc", {"marker": "x", "color": "#404040", "s": 12, "linewidths": 0.9, "zorder": 5}),
}


def _interval(seeds: int) -> str:
    return f"95 % interval over {'seeds and ' * (seeds > 1)}prompts"


def learning_curves(curves: pd.DataFrame, path_stem: Path) -> list[Path]:
    """Validation instruction accuracy over optimiser steps, per arm: seeds thin, their mean thick.

    Up to MOST_LINES arms share one panel, the interval of up to MOST_BANDS as a band. More arms get a panel each, with
    the means of the others in grey behind.

    Args:
        curves: as rtt.report.tables.curve_table returns it. An arm's value at step 0 is that of the base.
        path_stem: where to write, without a suffix.

    Returns:
        The paths of the SVG and the PNG.
    """
    names = list(curves["arm"].unique())
    draw = _curves_together if len(names) <= MOST_LINES else _curves_apart
    with drawing.style():
        return draw(curves, names, path_stem)


def _seeds(curves: pd.DataFrame) -> int:
    return int(curves.groupby("arm")["seed"].nunique().max()) if len(curves) else 0


def _draw_seeds(axes: Axes, arm: pd.DataFrame, **look: Any) -> None:
    for _, one in arm.groupby("seed"):
        axes.plot(one["step"], 100 * one[METRIC], linewidth=0.4, alpha=0.55, **look)


def _draw_base(axes: Axes, curves: pd.DataFrame) -> None:
    """The level every arm starts from, where it is one."""
    starts = curves.loc[curves["step"] == 0, METRIC]
    if starts.nunique() == 1:
        axes.axhline(100 * starts.iloc[0], label=BASE, **BASE_LOOK)


def _curves_together(curves: pd.DataFrame, names: list[str], path_stem: Path) -> list[Path]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator

    seeds = _seeds(curves)
    banded = len(names) <= MOST_BANDS  # more would hide one another
    said = [f"thick: mean of {seeds} seeds, thin: each seed"] * (seeds > 1)
    said += [f"band: {_interval(seeds)}"] * (banded and bool(names))
    figure = Figure()
    axes = figure.add_subplot()
    for (name, colour), line, marker in zip(drawing.colours(names).items(), cycle(LINES), cycle(MARKERS), strict=False):
        arm = curves[curves["arm"] == name]
        mean = 100 * arm.groupby("step")[[METRIC, "low", "high"]].mean()
        if banded:
            axes.fill_between(mean.index, mean["low"], mean["high"], color=colour, alpha=0.13, linewidth=0)
        if seeds > 1:
            _draw_seeds(axes, arm, color=colour, linestyle=line)
        axes.plot(mean.index, mean[METRIC], color=colour, linestyle=line, marker=marker, label=name)
    _draw_base(axes, curves)
    if not names:
        drawing.empty(axes, "no scores on validation")
    axes.set_xlabel("Optimiser steps")
    axes.set_ylabel("Validation instruction\naccuracy (%)")
    steps = sorted(curves["step"].unique())
    axes.xaxis.set_major_locator(FixedLocator(steps) if 0 < len(steps) <= 9 else MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    axes.margins(x=0.03)
    if names:
        figure.set_figheight(2.2 + 0.15 * (drawing.legend(figure, axes, said) + len(said)))
    return drawing.save(figure, path_stem)


def _curves_apart(curves: pd.DataFrame, names: list[str], path_stem: Path) -> list[Path]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    seeds, rows = _seeds(curves), -(-len(names) // PANELS)
    means = 100 * curves.groupby(["arm", "step"], sort=False)[METRIC].mean()
    figure = Figure(figsize=(3.5, 0.95 * rows + 0.55))
    panels = figure.subplots(rows, PANELS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for other in names:
            if other != name:
                axes.plot(means[other].index, means[other], color="#C8C8C8", linewidth=0.5, label="_other")
        if seeds > 1:
            _draw_seeds(axes, curves[curves["arm"] == name], color=BLUE, label="_seed")
        axes.plot(means[name].index, means[name], color=BLUE, label=name)
        _draw_base(axes, curves)
        axes.set_title(_broken_at(name, 17), fontsize=6.5, pad=2)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes in panels[len(names) - PANELS : len(names)]:
        axes.tick_params(labelbottom=True)
    said = f"thick: mean of {seeds} seeds, thin: each seed, " if seeds > 1 else ""
    figure.suptitle(f"{said}grey: the other arms,\ndotted: {BASE}", fontsize=7, x=0.01, ha="left")
    figure.supxlabel("Optimiser steps", fontsize=7.5)
    figure.supylabel("Validation instruction accuracy (%)", fontsize=7.5)
    return drawing.save(figure, path_stem)


def _broken_at(name: str, width: int) -> str:
    """A name in two lines, parted at an underscore near its middle, where it is wider than `width` characters."""
    places = [place + 1 for place, sign in enumerate(name[:-1]) if sign == "_"]
    if len(name) <= width or not places:
        return name
    place = min(places, key=lambda place: abs(2 * place - len(name)))
    return f"{name[:place]}\n{name[place:]}"


def difference_plot(paired: pd.DataFrame, against: str, path_stem: Path) -> list[Path]:
    """Differences from one arm in points, with intervals, a panel per benchmark: filled where Holm's p is below 0.05.

    Args:
        paired: rows of rtt.report.tables.paired_table that all subtract `against`.
        against: an arm.
        path_stem: where to write, without a suffix.

    Returns:
        The paths of the SVG and the PNG.
    """
    from matplotlib.figure import Figure

    rows = paired[paired["metric"] == METRIC]
    benchmarks, arms = list(rows["benchmark"].unique()), list(rows["arm"].unique())
    columns = min(2, len(benchmarks)) or 1
    lines = -(-len(benchmarks) // columns) or 1
    labels = [_broken_at(arm, 18) for arm in arms]
    # the height grows with the arms, so that any number of them stays legible
    heights = [0.26 if "\n" in label else 0.15 for label in labels]
    places = {arm: sum(heights[:row]) + heights[row] / 2 for row, arm in enumerate(arms)}
    with drawing.style():
        figure = Figure()
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, benchmark in zip(panels, benchmarks, strict=False):
            _draw_differences(axes, rows[rows["benchmark"] == benchmark], places)
            axes.set_title(benchmark.replace("_", " "))
            axes.tick_params(labelbottom=True)
        for axes in panels[max(1, len(benchmarks)) :]:
            axes.set_axis_off()
        first = panels[0]
        if arms:
            first.set_yticks(list(places.values()), labels)
            first.set_ylim(sum(heights) + 0.02, -0.02)  # downwards
            look: dict[str, Any] = {"linestyle": "", "marker": "o", "color": BLUE, "markersize": 4}
            first.plot([], [], label=f"p < {SIGNIFICANT} (Holm)", **look)
            first.plot([], [], label=f"p ≥ {SIGNIFICANT}", markerfacecolor="white", **look)
            said = [f"line: {_interval(int(rows['seeds'].max()))}"]
            legend = drawing.legend(figure, first, said, handlelength=1) + len(said)
            figure.set_figheight(0.4 + 0.16 * legend + lines * (sum(heights, 0.04) + 0.36))
        else:
            figure.set_figheight(1.2)
            first.set_yticks([])
            first.set_xticks([])
            drawing.empty(first, f"no arm was compared with {against}")
        figure.supxlabel(f"Strict instruction accuracy, points above {against}", fontsize=7.5)
        return drawing.save(figure, path_stem)


def _draw_differences(axes: Axes, rows: pd.DataFrame, places: Mapping[str, float]) -> None:
    """One benchmark's differences, each at its arm's height."""
    axes.axvline(0, color="black", linewidth=0.8)
    for row in rows_of(rows):
        y, fill = places[row.arm], BLUE if row.p_holm < SIGNIFICANT else "white"
        axes.hlines(y, 100 * row.low, 100 * row.high, color=BLUE, linewidth=1.0)
        axes.plot(100 * row.value, y, "o", color=BLUE, markerfacecolor=fill, markersize=4, label="_difference")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def comparison_bars(main: pd.DataFrame, path_stem: Path, metric: str = METRIC) -> list[Path]:
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
    with drawing.style():
        figure = Figure()
        axes = figure.add_subplot()
        height = 0.84 / max(1, len(arms))
        colours, hatches = drawing.colours([arm for arm in arms if arm != BASE]), cycle(HATCHES)
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
        legend_rows = drawing.legend(figure, axes, [f"line: {_interval(int(rows['seeds'].max()))}"]) if len(rows) else 0
        if rows.empty:
            drawing.empty(axes, "no scores")
        # the height grows with the bars, so that any number of arms and benchmarks stays legible
        bars = len(benchmarks) * max(0.34, 0.155 * len(arms) + 0.08)
        figure.set_figheight(0.75 + 0.15 * legend_rows + bars)
        return drawing.save(figure, path_stem)


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
    with drawing.style():
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
            drawing.legend(figure, last, [], handlelength=1)
        else:
            drawing.empty(last, "no labelled pairs")
        return drawing.save(figure, path_stem)


def _number(value: float | None) -> float:
    return -1.0 if value is None else value


def _short_kinds(kinds: list[str]) -> dict[str, str]:
    """Kinds without their group where that stays unambiguous."""
    short = {kind: kind.rpartition(":")[2] for kind in kinds}
    used = list(short.values())
    return {kind: (name if used.count(name) == 1 else kind).replace("_", " ") for kind, name in short.items()}
