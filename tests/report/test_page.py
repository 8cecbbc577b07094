"""The report page: its answer, its structure, and that nothing in it is taken for markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.report.outputs import curves_stem, differences_stem
from rtt.report.page import answers, question_pairs, write_page
from rtt.report.render import Layout
from rtt.report.results import Results
from rtt.report.tables import PAIRED_COLUMNS

VOID = {"meta", "img", "br", "wbr"}
HOSTILE = "</code></li><script>alert(1)</script><img src=x onerror=\"alert('2')\"> & \"'"
ARMS = {
    "rl_csr": {"reward": "csr", "credit": None},
    "rl_aon": {"reward": "aon", "credit": None},
    "rtt_csr": {"reward": "csr", "credit": {"relevance": "discriminator"}},
}


class Page(HTMLParser):
    """Elements with their attributes, text by element, and whether every element is closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.stack[-1] if self.stack else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self):
        return " ".join("".join(data for tag, data in self.texts if tag != "style").split())


def paired(rows):
    """Rows of the paired table from (arm, against, benchmark, low, high, Holm's p)."""
    return pd.DataFrame(
        [
            {
                "table": "main",
                "arm": arm,
                "against": against,
                "benchmark": benchmark,
                "metric": metric,
                "value": (low + high) / 2,
                "low": low,
                "high": high,
                "p": p / 2,
                "p_holm": p,
                "seed_std": 0.01,
                "seeds": 3,
                "n": 64,
            }
            for arm, against, benchmark, low, high, p in rows
            for metric in ("instruction_strict", "prompt_strict")
        ],
        columns=list(PAIRED_COLUMNS),
    )


def efficiency(**changes):
    row = {
        "arm": "rtt_csr",
        "seeds": 3,
        "end": 24,
        "area": 0.314,
        "area_low": 0.25,
        "area_high": 0.38,
        "area_std": 0.02,
        "target": 0.35,
        "target_from": "final accuracy of rl_csr",
        "reached": 3,
        "steps_to_target": 17.25,
        "steps_std": 2.5,
    }
    return pd.DataFrame([{**row, **changes}])


def main_table(arms=("base", "rl_csr", "rtt_csr"), benchmark="ifbench", seeds=1):
    metrics = {"instruction_strict": 0.25, "prompt_strict": 0.1, "response_tokens": 43.0, "truncated": 0.5, "empty": 0}
    rows = [
        {
            "arm": arm,
            "seeds": seeds,
            "step": 24,
            "benchmark": benchmark,
            "metric": metric,
            "value": value,
            "low": value * 0.8,
            "high": value * 1.2,
            "seed_std": 0.013 if seeds > 1 else None,
            "n_prompts": 64,
            "n_instructions": 120,
            "protocol": "greedy/1",
            "budget": 96,
            "judge": "if-verifiable 0.1.2",
            "paper_value": None,
            "paper_source": None,
            "discriminator_auprc": None,
        }
        for arm in arms
        for metric, value in metrics.items()
    ]
    return pd.DataFrame(rows)


def quality(kind="keywords:existence"):
    own = {"pairs": 9, "base_rate": 0.07, "auprc": 0.91, "f1": 0.8, "keyword_auprc": 0.31, "random_auprc": 0.08}
    undefined = {**dict.fromkeys(own), "pairs": 3}
    found = {
        "pairs": 12,
        "tokens": 480,
        "auprc": 0.87,
        "auprc_low": 0.83,
        "auprc_high": 0.9,
        "f1": 0.8,
        "precision": None,
        "recall": 0.7,
        "ece": 0.03,
        "base_rate": 0.07,
        "baselines": {"random": {"auprc": 0.07}, "keyword": {"auprc": 0.2}},
        "per_kind": {kind: own, "punctuation:no_comma": undefined},
    }
    return {"threshold": 0.41, "train_seconds": 90.0, "sets": {"unseen_topics": found}}


@pytest.fixture
def write(tmp_path):
    """Writes a page, with what a test changes, and returns its text."""
    figure = tmp_path / "learning_curves.svg"
    figure.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(3)</script></svg>")
    curves = pd.DataFrame(
        {
            "arm": ["rtt_csr"] * 2,
            "seed": [0, 0],
            "step": [0, 24],
            "instruction_strict": [0.1, 0.4],
            "prompt_strict": [0.1, 0.2],
            "low": [0.05, 0.3],
            "high": [0.2, 0.5],
        }
    )

    def written(figures=None, configuration=None, title="Rubrics to Tokens", versions=None, **changes):
        main = changes.pop("main", main_table())
        arms, benchmarks = list(main["arm"].unique()), list(main["benchmark"].unique())
        values = {
            "tables": {"main": main},
            "layouts": {"main": Layout("main", arms, benchmarks, "", changes.pop("table_notes", ()))},
            "paired": paired([("rtt_csr", "rl_csr", "ifbench", 0.01, 0.09, 0.004)]),
            "curves": curves,
            "groups": pd.DataFrame(),
            "efficiency": efficiency(),
            "efficiency_seeds": pd.DataFrame(),
            "quality": quality(),
            "left_out": [],
            "gaps": [],
        }
        names = [figure for table in {**values, **changes}["tables"] for figure in _figures_of(table)]
        destination = tmp_path / "report" / "index.html"
        write_page(
            destination,
            title=title,
            results=Results(**{**values, **changes}),
            figures=dict.fromkeys([*names, "comparison", "discriminator"], figure) if figures is None else figures,
            configuration={"arms": ARMS, "seeds": (0,)} if configuration is None else configuration,
            versions=versions or {"torch": "2.13.0"},
        )
        assert [path.name for path in destination.parent.iterdir()] == ["index.html"]
        return destination.read_text(encoding="utf-8")

    return written


def _figures_of(table):
    return curves_stem(table), differences_stem(table)


def sentences(rows):
    return [sentence for sentence, _ in answers(paired(rows))]


@pytest.mark.parametrize(
    ("ends", "p", "answer"),
    [
        ((0.01, 0.09), 0.004, "rtt_csr follows more instructions than rl_csr on 1 of 1 benchmarks."),
        ((-0.09, -0.01), 0.004, "rtt_csr follows fewer instructions than rl_csr on 1 of 1 benchmarks."),
        ((-0.01, 0.09), 0.3, "rtt_csr shows no clear difference from rl_csr on 1 of 1 benchmarks."),
        # its own interval excludes zero, but not after the correction
        ((0.01, 0.09), 0.06, "rtt_csr shows no clear difference from rl_csr on 1 of 1 benchmarks."),
        ((0.01, 0.09), 0.05, "rtt_csr shows no clear difference from rl_csr on 1 of 1 benchmarks."),
    ],
)
def test_the_answer_follows_the_corrected_p_either_way(ends, p, answer, write):
    assert sentences([("rtt_csr", "rl_csr", "ifbench", *ends, p)]) == [answer]
    assert answer in Page(write(paired=paired([("rtt_csr", "rl_csr", "ifbench", *ends, p)]))).text()


def test_mixed_results_are_all_counted():
    rows = [("a", "b", "one", 0.1, 0.2, 0.01), ("a", "b", "two", -0.2, -0.1, 0.01), ("a", "b", "three", -0.1, 0.1, 1)]
    [sentence] = sentences(rows)
    assert sentence == (
        "a follows more instructions than b on 1 of 3 benchmarks, and follows fewer instructions than b on 1 of 3 "
        "benchmarks, and shows no clear difference from b on 1 of 3 benchmarks."
    )


def test_each_benchmark_is_listed_with_its_interval():
    [(_, details)] = answers(paired([("a", "b", "ifbench", -0.012, 0.05, 0.04)]))
    assert details == ["ifbench: +1.9 points, 95 % interval −1.2 to +5.0 (Holm’s p = 0.040; 3 seeds, 64 prompts)"]


def test_the_headline_is_the_question_and_is_turned_as_configured():
    rows = paired([("rtt_csr", "base", "ifbench", 0.1, 0.2, 0.01), ("rl_csr", "rtt_csr", "ifbench", 0.01, 0.09, 0.01)])
    asked = question_pairs(rows, {"arms": ARMS, "headline": ["rtt_csr", "rl_csr"]})
    assert set(zip(asked["arm"], asked["against"], strict=True)) == {("rtt_csr", "rl_csr")}
    assert asked["value"].tolist() == pytest.approx([-0.05, -0.05])
    asked = question_pairs(rows, {"arms": ARMS, "headline": ["rtt_csr", "base"]})
    assert set(zip(asked["arm"], asked["against"], strict=True)) == {("rtt_csr", "base")}


def test_the_question_is_asked_of_credit_against_the_same_reward_without():
    rows = paired(
        [
            (a, b, "ifbench", 0.01, 0.09, 0.01)
            for a, b in [("rtt_csr", "base"), ("rtt_csr", "rl_aon"), ("rtt_csr", "rl_csr")]
        ]
    )
    asked = question_pairs(rows, {"arms": ARMS})
    assert set(zip(asked["arm"], asked["against"], strict=True)) == {("rtt_csr", "rl_csr")}


def test_rewards_of_another_mixture_are_not_the_same_reward():
    arms = {"rl": {"reward": "mix", "beta": 0.2, "credit": None}, "rtt": {"reward": "mix", "beta": 0.5}}
    arms["rtt"]["credit"] = {"relevance": "rules"}
    rows = paired([("rtt", "rl", "ifbench", 0.01, 0.09, 0.004)])
    assert question_pairs(rows, {"arms": arms}).empty
    arms["rl"]["beta"] = 0.5
    assert len(question_pairs(rows, {"arms": arms})) == len(rows)


def test_a_pair_listed_the_other_way_is_turned_round():
    asked = question_pairs(paired([("rl_csr", "rtt_csr", "ifbench", 0.01, 0.09, 0.004)]), {"arms": ARMS})
    row = asked.iloc[0]
    assert (row["arm"], row["against"]) == ("rtt_csr", "rl_csr")
    assert (row["low"], row["value"], row["high"]) == pytest.approx((-0.09, -0.05, -0.01))
    assert answers(asked)[0][0].startswith("rtt_csr follows fewer instructions than rl_csr")


def test_without_such_a_pair_all_pairs_are_answered(write):
    text = Page(write(paired=paired([("rl_csr", "base", "ifbench", 0.01, 0.09, 0.004)]), configuration={})).text()
    assert "rl_csr follows more instructions than base" in text
    assert "How do the arms compare" in text


def test_without_pairs_the_page_says_that_there_is_no_answer(write):
    text = Page(write(paired=paired([]))).text()
    assert "hold no answer" in text
    assert "Differences on the same prompts" not in text


def test_one_seed_is_called_one_seed(write):
    rows = paired([("rtt_csr", "rl_csr", "ifbench", 0.01, 0.09, 0.004)])
    assert "There is one training seed" in Page(write(paired=rows.assign(seeds=1))).text()
    assert "hold the spread between training seeds" in Page(write(paired=rows)).text()


def test_hostile_text_stays_text_everywhere(write):
    text = write(
        title=HOSTILE,
        main=main_table((HOSTILE,), HOSTILE),
        paired=paired([(HOSTILE, "base", HOSTILE, 0.01, 0.09, 0.004)]),
        table_notes=[HOSTILE],
        efficiency=efficiency(arm=HOSTILE, target_from=HOSTILE),
        gaps=[HOSTILE],
        quality=quality(HOSTILE),
        configuration={HOSTILE: {"key": HOSTILE}},
        versions={HOSTILE: HOSTILE},
        left_out=[HOSTILE],
    )
    page = Page(text)
    assert page.all("script") == []
    assert all(set(attributes) == {"src", "alt"} for attributes in page.all("img"))
    assert len(page.all("img")) == 4
    assert "<script" not in text
    assert [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)] == []
    assert HOSTILE in page.text()


def test_the_page_needs_no_network(write):
    text = write()
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert page.all("link") == []
    assert all(attributes["src"].startswith("data:image/svg+xml;base64,") for attributes in page.all("img"))
    assert any("default-src 'none'" in attributes.get("content", "") for attributes in page.all("meta"))


def test_structure_serves_readers_and_screen_readers(write):
    page = Page(write())
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert {attributes["scope"] for attributes in page.all("th")} == {"col", "row", "rowgroup"}
    assert all(len(attributes["alt"]) > 40 for attributes in page.all("img"))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    regions = [attributes for attributes in page.all("div") if attributes.get("role") == "region"]
    assert {attributes["aria-labelledby"] for attributes in regions} <= set(names)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_every_row_has_as_many_cells_as_its_table_has_columns(write):
    body = write(main=pd.concat([main_table(), main_table(("rl_aon",)).iloc[:1]]))
    for table in body.split("<table>")[1:]:
        rows = table.split("</table>")[0].split("<tr>")[1:]
        columns = rows[0].count("<th")
        for row in rows[1:]:
            cells = row.count("<th") + row.count("<td")
            assert cells == columns or f'colspan="{columns}"' in row


def test_figures_of_all_sections_are_there(write):
    text = Page(write(main=main_table(seeds=3), left_out=["ifbench: 3 prompts are left out"], gaps=["rl lost"])).text()
    for part in (
        "25.020.0 to 30.0; seeds ±1.3",  # main, value over interval and deviation
        "+5.0 *+1.0 to +9.00.0020.004",  # paired, starred, p and Holm's p
        "31.425.0 to 38.0; seeds ±2.017.2seeds ±2.53 of 3",  # efficiency
        "The target: final accuracy of rl_csr.",
        "0.870.83 to 0.90",  # discriminator
        "0.910.310.080.07",  # a kind beside its baselines
        "3––––",  # a kind without a relevant token
        "Trained in 1.5 minutes",
        "ifbench: 3 prompts are left out",
        "What is missing",
        "rl lost",
        "reward: aon",
        "2.13.0",
        "make ui",
    ):
        assert part in text


def test_a_complete_study_has_no_section_of_what_is_missing(write):
    assert "What is missing" not in Page(write()).text()


def test_a_target_never_reached_is_a_dash(write):
    text = Page(write(efficiency=efficiency(reached=1, steps_to_target=None, steps_std=None))).text()
    assert "±2.0–1 of 3" in text


def test_an_arm_without_scores_has_dashes(write):
    layout = Layout("main", ["base", "sft"], ["ifbench"], "")
    text = Page(write(main=main_table(("base",)), layouts={"main": layout})).text()
    assert "sft" + "–" * 8 in text.replace(" ", "")


def test_every_table_has_its_section_and_a_link_to_it(write):
    layouts = {name: Layout(name, ["base", "rl_csr"], ["ifbench"], "") for name in ("main", "peers")}
    rows = paired([("rl_csr", "base", "ifbench", 0.01, 0.09, 0.004)])
    page = Page(
        write(
            tables=dict.fromkeys(layouts, main_table(("base", "rl_csr"))),
            layouts=layouts,
            paired=pd.concat([rows, rows.assign(table="peers")]),
        )
    )
    targets = {attributes["href"].removeprefix("#") for attributes in page.all("a")}
    assert {"table-main", "table-peers", "efficiency", "discriminator", "origin"} == targets
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert targets <= set(names)
    assert len(names) == len(set(names))
    assert "Table: peers" in page.text()
    assert len(page.all("img")) == 6  # two curves, two of differences, bars and kinds
    assert page.all("nav") == [{"aria-label": "Contents"}]


def test_reported_figures_and_auprc_have_their_columns(write):
    layout = Layout("main", ["base"], ["ifbench"], "", sources=["paper, ifbench"], auprc=True)
    table = main_table(("base",)).assign(paper_value=0.3095, discriminator_auprc=0.874)
    text = Page(write(main=table, layouts={"main": layout})).text()
    assert "AUPRC, discriminator" in text
    assert "Paper (%)" in text
    assert "30.95" in text
    assert "0.87" in text
    assert "paper, ifbench" in text


def test_the_alternative_text_tells_the_curve_and_the_differences(write):
    alternatives = [image["alt"] for image in Page(write(paired=paired(BASES))).all("img")]
    assert any("rtt_csr goes from 10.0% at step 0 to 40.0% at step 24" in text for text in alternatives)
    assert (
        "Dot plot of differences from base: ifbench, rl_csr +5.0 (significant); ifbench, rtt_csr +1.0." in alternatives
    )


BASES = [("rl_csr", "base", "ifbench", 0.01, 0.09, 0.004), ("rtt_csr", "base", "ifbench", -0.01, 0.03, 0.4)]


@pytest.mark.parametrize("discriminator", [None, {}])
def test_without_a_discriminator_the_page_says_so(discriminator, write):
    assert "There are no figures of a discriminator." in Page(write(quality=discriminator)).text()


def test_same_input_same_bytes(write):
    assert write() == write()


def test_a_missing_figure_is_a_user_error(write, tmp_path):
    names = ("learning_curves", "differences_main", "comparison", "discriminator")
    with pytest.raises(UserError, match=r"absent\.svg"):
        write(figures=dict.fromkeys(names, tmp_path / "absent.svg"))


def test_scores_by_group_have_a_section_where_there_are_such(write):
    assert 'id="groups"' not in write()
    groups = pd.DataFrame(
        [
            {"arm": arm, "benchmark": "muldimif", "group": group, "value": value, "prompt_strict": 0.1}
            | {"instruction_strict": figure, "n_prompts": 3, "n_instructions": 7}
            for arm, group, value, figure in (
                ("base", "family", "Length", 0.25),
                ("rtt_csr", "family", "Length", 0.5),
                ("rtt_csr", "level", "Level 1", 0.125),
            )
        ]
    )
    text = Page(write(groups=groups)).text()
    assert "muldimif, by family" in text
    assert "muldimif, by level" in text
    assert "25.0" in text
    assert "12.5" in text
