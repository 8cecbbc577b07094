"""Figures reported by others: the file, its checks, and where they are shown."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from rtt.errors import UserError
from rtt.report.reference import read_references, with_references
from rtt.report.statistics import METRICS
from rtt.report.tables import main_table


@pytest.fixture
def file(tmp_path):
    """Writes a file of one figure, with what a test changes."""

    def make(*more, **changes):
        one = {
            "benchmark": "ifbench",
            "arm": "rtt_csr",
            "metric": "not stated",
            "value": 34.69,
            "setting": "backbone not stated",
            "source": "arXiv 2604.02795",
        }
        path = tmp_path / "reference.yaml"
        path.write_text(yaml.safe_dump({"note": "No comparison.", "results": [{**one, **changes}, *more]}))
        return path

    return make


def test_the_shipped_file_holds_what_is_published():
    found = {(one.benchmark, one.arm): one.value for one in read_references().results}
    assert found == {
        ("ifbench", "rtt_csr"): 34.69,
        ("muldimif", "rtt_csr"): 76.75,
        ("advancedif", "rtt_csr"): 48.39,
        ("math_500", "rtt_csr"): 91.8,
        ("gpqa", "rtt_csr"): 52.01,
        ("mmlu_pro", "rtt_csr"): 66.76,
        ("muldimif", "rl_csr"): 74.38,
        ("muldimif", "rl_aon"): 74.25,
        ("ifeval", "base"): 82.99,
        ("ifbench", "base"): 30.95,
        ("muldimif", "base"): 57.17,
        ("muldimif", "cort"): 80.48,
        ("muldimif", "cort_aon"): 81.6,
    }
    assert "no comparison" in read_references().note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "Qwen3"}, r"results\.0\.backbone"),
        ({"value": 134}, r"results\.0\.value"),
        ({"metric": "accuracy"}, r"results\.0\.metric"),
        ({"source": ""}, r"results\.0\.source"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_its_place(file, changes, message):
    with pytest.raises(UserError, match=message):
        read_references(file(**changes))


def test_the_same_figure_twice_is_refused(file):
    again = yaml.safe_load(file().read_text())["results"][0]
    with pytest.raises(UserError, match="ifbench rtt_csr not stated is given twice"):
        read_references(file(again))


def test_an_absent_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_references(tmp_path / "absent.yaml")


def test_a_figure_stands_in_the_rows_of_its_benchmark_and_arm_alone(file, scores):
    import pandas as pd

    rows = pd.concat(
        [
            scores(["s"], "rtt_csr", 0, 8, "ifbench"),
            scores(["s"], "rtt_csr", 0, 8, "validation"),
            scores(["s"], "rl_csr", 0, 8, "ifbench"),
        ]
    )
    table = with_references(main_table(rows), read_references(file()))
    known = table.dropna(subset=["paper_value"])
    assert set(zip(known["arm"], known["benchmark"], strict=True)) == {("rtt_csr", "ifbench")}
    assert set(known["metric"]) == set(METRICS) - {
        "response_tokens",
        "truncated",
        "empty",
    }  # any accuracy, and nothing else
    assert known["paper_value"].tolist() == pytest.approx([0.3469] * 4)
    assert set(known["paper_source"]) == {"arXiv 2604.02795; backbone not stated; metric not stated"}


def test_a_stated_metric_has_its_own_row_and_goes_before_one_not_stated(file, scores):
    stated = {
        "benchmark": "ifbench",
        "arm": "rtt_csr",
        "metric": "prompt_loose",
        "value": 40,
        "setting": "Qwen3-4B",
        "source": "elsewhere",
    }
    table = main_table(scores(["s"], "rtt_csr", 0, 8, "ifbench"))
    values = with_references(table, read_references(file(stated))).set_index("metric")["paper_value"]
    assert values["prompt_loose"] == pytest.approx(0.4)
    assert values["prompt_strict"] == pytest.approx(0.3469)
    assert np.isnan(values["truncated"])
