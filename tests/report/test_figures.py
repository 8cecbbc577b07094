"""Figures: what is drawn, and that the same numbers give the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rtt.report import drawing, figures
from rtt.report.tables import PAIRED_COLUMNS


def curves(arms=("rl_csr", "rtt_csr"), seeds=(0, 1)):
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "instruction_strict": 0.1 + 0.02 * step + 0.01 * seed * (step > 0),
            "prompt_strict": 0.1,
            "low": 0.05 + 0.02 * step,
            "high": 0.2 + 0.02 * step,
        }
        for arm in arms
        for seed in seeds
        for step in (0, 8, 16)
    ]
    return pd.DataFrame(rows)


def main_table(arms=("base", "rl_csr", "rtt_csr"), benchmarks=("validation", "heldout_topics")):
    rows = [
        {
            "arm": arm,
            "seeds": 1,
            "step": 0 if arm == "base" else 16,
            "benchmark": benchmark,
            "metric": metric,
            "value": 0.2 + 0.1 * place,
            "low": 0.15 + 0.1 * place,
            "high": 0.3 + 0.1 * place,
            "seed_std": None,
            "n_prompts": 64,
            "n_instructions": 120,
        }
        for place, arm in enumerate(arms)
        for benchmark in benchmarks
        for metric in ("instruction_strict", "prompt_strict")
    ]
    return pd.DataFrame(rows)


def quality():
    kind = {"pairs": 9, "base_rate": 0.07, "auprc": 0.9, "keyword_auprc": 0.3, "random_auprc": 0.07}
    undefined = {**kind, "auprc": None, "keyword_auprc": None, "random_auprc": None}
    kinds = {
        "keywords:existence": kind,
        "keywords:frequency": {**kind, "auprc": 0.4},
        "punctuation:no_comma": undefined,
    }
    return {"sets": {"unseen_topics": {"per_kind": kinds}, "unseen_kinds": {"per_kind": {"change_case:title": kind}}}}


def paired(arms=("rl_csr", "rtt_csr"), benchmarks=("validation", "heldout_topics", "ifbench")):
    """Differences from base; of each benchmark the first arm's is significant, the others' are not."""
    rows = [
        {
            "table": "main",
            "arm": arm,
            "against": "base",
            "benchmark": benchmark,
            "metric": metric,
            "value": 0.1 - 0.01 * place,
            "low": 0.02 - 0.01 * place,
            "high": 0.15,
            "p": 0.001,
            "p_holm": 0.01 if place == 0 else 0.05,
            "seed_std": 0.01,
            "seeds": 3,
            "n": 64,
        }
        for benchmark in benchmarks
        for place, arm in enumerate(arms)
        for metric in ("instruction_strict", "prompt_strict")
    ]
    return pd.DataFrame(rows, columns=list(PAIRED_COLUMNS))


MANY = tuple(f"rtt_csr_another_setting_{place}" for place in range(35))

DRAWINGS = {
    "learning_curves": lambda stem: figures.learning_curves(curves(), stem),
    "learning_curves_many": lambda stem: figures.learning_curves(curves(MANY), stem),
    "differences": lambda stem: figures.difference_plot(paired(), "base", stem),
    "differences_one": lambda stem: figures.difference_plot(paired(("rtt_csr",), ("ifbench",)), "rl_csr", stem),
    "differences_many": lambda stem: figures.difference_plot(paired(MANY), "base", stem),
    "comparison": lambda stem: figures.comparison_bars(main_table(), stem),
    "discriminator": lambda stem: figures.discriminator_by_kind(quality(), stem),
}


@pytest.fixture
def drawn(monkeypatch):
    """The figure as it stood when it was saved."""
    seen = []
    save = drawing.save

    def keep(figure, stem):
        seen.append(figure)
        return save(figure, stem)

    monkeypatch.setattr(drawing, "save", keep)
    return seen


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawn_twice_the_files_are_equal_and_hold_no_date(name, tmp_path):
    first, second = (DRAWINGS[name](tmp_path / folder / name) for folder in ("one", "two"))
    assert [path.name for path in first] == [f"{name}.svg", f"{name}.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"<svg" in first[0].read_bytes()
    assert b"dc:date" not in first[0].read_bytes()
    assert first[1].read_bytes().startswith(b"\x89PNG")
    assert b"Software" not in first[1].read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [f"{name}.png", f"{name}.svg"]


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_leaves_the_figure_or_overlaps_another(name, tmp_path, drawn):
    DRAWINGS[name](tmp_path / name)
    figure = drawn[0]
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [text for text in (figure._supxlabel, figure._supylabel, figure._suptitle) if text]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, axes._left_title, *axes.texts]
        for axis, place, side in ((axes.xaxis, 0, "labelbottom"), (axes.yaxis, 1, "labelleft")):
            low, high = sorted(axis.get_view_interval())
            within = [label for label in axis.get_ticklabels() if low <= label.get_position()[place] <= high]
            texts += within if axis.get_tick_params()[side] else []
    texts += [text for legend in figure.legends for text in [*legend.get_texts(), legend.get_title()]]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
    assert len(boxes) > 8
    for place, (text, box) in enumerate(boxes):
        assert figure.bbox.padded(1).contains(box.x0, box.y0), text
        assert figure.bbox.padded(1).contains(box.x1, box.y1), text
        for other, other_box in boxes[:place]:
            assert not box.overlaps(other_box), (text, other)


def test_curves_draw_each_seed_thin_their_mean_thick_and_the_base_level(tmp_path, drawn):
    figures.learning_curves(curves(), tmp_path / "curves")
    axes = drawn[0].axes[0]
    thick = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    thin = [line for line in axes.lines if line.get_label().startswith("_")]
    assert set(thick) == {"rl_csr", "rtt_csr", "base"}
    assert len(thin) == 4
    assert list(thick["rtt_csr"].get_xdata()) == [0, 8, 16]
    # seeds 0.26 and 0.27 at step 8
    assert list(thick["rtt_csr"].get_ydata()) == pytest.approx([10, 26.5, 42.5])
    assert thick["base"].get_ydata()[0] == pytest.approx(10)
    assert len(axes.collections) == 2  # a band an arm
    assert axes.get_xlabel() == "Optimiser steps"
    assert "(%)" in axes.get_ylabel()


def test_many_arms_have_a_panel_each(tmp_path, drawn):
    names = [f"arm_{place}" for place in range(8)]
    figures.learning_curves(curves(names), tmp_path / "curves")
    panels = [axes for axes in drawn[0].axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == names
    labels = [[line.get_label() for line in axes.lines] for axes in panels]
    assert all(found.count("_other") == 7 and found.count("_seed") == 2 for found in labels)
    [own] = [line for line in panels[3].lines if line.get_label() == "arm_3"]
    assert list(own.get_ydata()) == pytest.approx([10, 26.5, 42.5])
    assert all("base" in found for found in labels)


def test_a_difference_is_filled_where_holms_p_is_small_and_lies_on_its_arm(tmp_path, drawn):
    figures.difference_plot(paired(), "base", tmp_path / "differences")
    panels = [axes for axes in drawn[0].axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["validation", "heldout topics", "ifbench"]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == ["rl_csr", "rtt_csr"]
    for axes in panels:
        points = [line for line in axes.lines if line.get_label() == "_difference"]
        assert [line.get_xdata()[0] for line in points] == pytest.approx([10, 9])
        assert [line.get_markerfacecolor() for line in points] == [figures.BLUE, "white"]
        assert [line.get_ydata()[0] for line in points] == pytest.approx(list(panels[0].get_yticks()))
        ends = [line.get_segments()[0][:, 0].tolist() for line in axes.collections]
        assert ends == [pytest.approx([2, 15]), pytest.approx([1, 15])]
    assert panels[0].yaxis_inverted()
    assert drawn[0]._supxlabel.get_text().endswith("points above base")


def test_the_interval_says_what_was_resampled(tmp_path, drawn):
    figures.difference_plot(paired(), "base", tmp_path / "several")
    figures.difference_plot(paired().assign(seeds=1), "base", tmp_path / "one")
    said = [figure.legends[0].get_title().get_text() for figure in drawn]
    assert said == ["line: 95 % interval over seeds and prompts", "line: 95 % interval over prompts"]


def test_one_seed_has_no_thin_line(tmp_path, drawn):
    figures.learning_curves(curves(seeds=(3,)), tmp_path / "curves")
    assert len(drawn[0].axes[0].lines) == 3


def test_arms_differ_without_colour(tmp_path, drawn):
    names = tuple(f"arm_{place}" for place in range(8))
    most = figures.MOST_LINES
    figures.learning_curves(curves(names[:most], seeds=(0,)), tmp_path / "curves")
    lines = [line for line in drawn[0].axes[0].lines if line.get_label() in names]
    assert len({(str(line._dash_pattern), line.get_marker()) for line in lines}) == most
    figures.comparison_bars(main_table(("base", *names[:7])), tmp_path / "bars")
    bars = drawn[1].axes[0].containers
    assert len({(group.patches[0].get_hatch(), group.get_label() == "base") for group in bars}) == 8


def test_bars_hold_value_and_interval_in_percent(tmp_path, drawn):
    figures.comparison_bars(main_table(), tmp_path / "bars")
    axes = drawn[0].axes[0]
    widths = [[patch.get_width() for patch in group] for group in axes.containers]
    assert widths == [pytest.approx([20, 20]), pytest.approx([30, 30]), pytest.approx([40, 40])]
    assert [text.get_text() for text in axes.texts] == ["20.0", "20.0", "30.0", "30.0", "40.0", "40.0"]
    assert axes.collections[0].get_segments()[0][:, 0] == pytest.approx([15, 30])


def test_an_arm_without_a_benchmark_has_no_bar_there(tmp_path, drawn):
    table = main_table()
    table = table[~((table["arm"] == "rl_csr") & (table["benchmark"] == "heldout_topics"))]
    figures.comparison_bars(table, tmp_path / "bars")
    assert [len(group.patches) for group in drawn[0].axes[0].containers] == [2, 1, 2]


def test_kinds_are_sorted_and_an_undefined_one_is_named_without_a_dot(tmp_path, drawn):
    figures.discriminator_by_kind(quality(), tmp_path / "kinds")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["existence", "frequency", "no comma"]
    found = {dots.get_label(): dots.get_offsets().tolist() for dots in axes.collections}
    assert found["discriminator"] == [[0.9, 0], [0.4, 1]]
    assert [text.get_text() for text in axes.texts] == ["no relevant token"]


def test_kinds_of_one_name_in_two_groups_keep_their_group():
    short = figures._short_kinds(["keywords:frequency", "letters:frequency", "startend:quotation"])
    assert list(short.values()) == ["keywords:frequency", "letters:frequency", "quotation"]


def test_nothing_to_draw_is_said_in_the_figure(tmp_path, drawn):
    figures.learning_curves(curves().iloc[:0], tmp_path / "curves")
    figures.comparison_bars(main_table().iloc[:0], tmp_path / "bars")
    figures.discriminator_by_kind({"sets": {"unseen_kinds": {"per_kind": {}}}}, tmp_path / "kinds")
    figures.difference_plot(paired().iloc[:0], "base", tmp_path / "differences")
    said = [figure.axes[0].texts[0].get_text() for figure in drawn]
    assert said == ["no scores on validation", "no scores", "no labelled pairs", "no arm was compared with base"]


def test_drawing_leaves_the_settings_of_the_process_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.comparison_bars(main_table(), tmp_path / "bars")
    assert dict(matplotlib.rcParams) == before


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, rtt.report.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60).returncode == 0
