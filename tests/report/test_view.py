"""What the token view is made from; tests/report/browser opens it."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from rtt.cli import main
from rtt.report.view import find_rollouts, inert, page_of, read_groups, scale_of, shown, utf16_places, write_view
from rtt.rubrics import Rubric, dump_rubrics
from rtt.tables import Prompts, Rollouts, write_table

RUBRICS = [
    Rubric(rubric_id="p/0", kind="punctuation:no_comma", text="Use no commas."),
    Rubric(rubric_id="p/1", kind="judge", text="Stay friendly."),
]


@pytest.fixture
def prompts(tmp_path):
    table = pd.DataFrame(
        [
            {
                "prompt_id": "p",
                "split": "train",
                "topic": "t",
                "prompt": "Write.",
                "rubrics": dump_rubrics(RUBRICS),
                "messages": json.dumps(
                    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write."}]
                ),
            }
        ]
    )
    write_table(table, Prompts, tmp_path / "data" / "prompts.parquet")
    return table


def rollout(**changes):
    return {
        "step": 0,
        "row": 0,
        "prompt_id": "p",
        "response": "\U0001f600, hi",
        "verdicts": json.dumps({"p/0": -1.0, "p/1": None}),
        "reward": 0.25,
        "response_advantage": -1.5,
        "token_spans": json.dumps([[0, 1], [1, 2], [2, 5]]),
        "relevance": json.dumps({"p/0": [0.0, 0.9876, 0.1], "p/1": [0.5, 0.5, 0.5]}),
        "token_advantages": json.dumps([0.1, -0.2, 0.3]),
        "advantages": json.dumps([-1.4, -1.7, -1.2]),
    } | changes


@pytest.fixture
def rollouts(tmp_path):
    def write(*rows, folder="policies/rtt_csr/seed_3/round_2"):
        path = tmp_path / folder / "rollouts.parquet"
        write_table(pd.DataFrame(rows), Rollouts, path)
        return path

    return write


def test_a_response_as_the_page_reads_it(prompts, rollouts):
    (group,) = read_groups([rollouts(rollout())], prompts)
    (response,) = group.pop("responses")
    assert group == {
        "arm": "rtt_csr",
        "seed": "3",
        "round": "2",
        "step": 0,
        "prompt": "Write.",
        "before": [["system", "Be brief."]],
        "rubrics": [
            {"text": "Use no commas.", "kind": "punctuation:no_comma"},
            {"text": "Stay friendly.", "kind": "judge"},
        ],
    }
    assert response == {
        "text": "\U0001f600, hi",
        "ends": [2, 3, 6],  # the face is two units
        "verdicts": [-1.0, None],
        "reward": 0.25,
        "response_level": -1500,
        "relevance": [[0, 988, 100], [500, 500, 500]],
        "token_level": [100, -200, 300],
        "combined": [-1400, -1700, -1200],
        "labels": [[[2, 3]], None],  # no rule labels what a model judges
    }


def test_missing_rewards_and_relevance_stay_missing(prompts, rollouts):
    (group,) = read_groups([rollouts(rollout(reward=float("nan"), relevance="{}"))], prompts)
    (response,) = group["responses"]
    assert response["reward"] is None
    assert response["relevance"] is None


def test_neighbours_with_one_prompt_and_step_are_a_group(prompts, rollouts):
    path = rollouts(*(rollout(step=step, row=row) for step, row in [(1, 1), (0, 1), (0, 0), (1, 0), (2, 0)]))
    assert [len(group["responses"]) for group in read_groups([path], prompts)] == [2, 2, 1]


def test_places_in_utf16_units():
    assert utf16_places("a\U0001f600é") == [0, 1, 3, 4]
    assert shown("", []) == {"text": "", "ends": []}


def test_an_outlier_does_not_pale_the_rest():
    response = {"combined": [100] * 98 + [-200] + [9000], "response_level": 0}
    groups = [{"responses": [response]}]
    assert scale_of(groups, "combined") == 200
    assert scale_of(groups, "response_level") == 1000  # nothing has a size: any scale will do but 0


def test_data_cannot_end_its_element():
    text = inert({"a": "</script><!--&amp;\u2028\ud800"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--&amp;\u2028\ud800"}


def test_a_page_is_whole_and_the_same_each_time(prompts, rollouts, tmp_path):
    groups = read_groups([rollouts(rollout())], prompts)
    write_view(groups, tmp_path / "one" / "a.html")
    write_view(groups, tmp_path / "b.html")
    text = (tmp_path / "b.html").read_text()
    assert (tmp_path / "one" / "a.html").read_text() == text
    assert "http" not in text.replace("http-equiv", "")
    assert page_of("<T>", "@TITLE@", (), None).count("&lt;T&gt;") == 2


def test_folders_give_their_rounds_in_order(prompts, rollouts, tmp_path):
    paths = [rollouts(rollout(), folder=f"policies/a/seed_0/round_{number}") for number in (10, 2)]
    assert find_rollouts([tmp_path / "policies", paths[0]]) == [paths[1], paths[0]]


def test_by_command(prompts, rollouts, tmp_path, capsys):
    path = rollouts(rollout())
    main(["view", str(path)])
    assert "1 responses to 1 prompts" in capsys.readouterr().out
    assert path.with_name("view.html").stat().st_size > 5000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt_id": "q"}, "1 of its prompts are not in the table of prompts, such as 'q'"),
        ({"advantages": "[1.0]"}, "the row of step 0, place 0 is malformed: not one number a token"),
        ({"relevance": '{"p/0": [0, 0, 0]}'}, "the row of step 0, place 0 is malformed: 'p/1'"),
        ({"token_spans": "[[0"}, "the row of step 0, place 0 is malformed"),
    ],
)
def test_refuses_what_does_not_fit(prompts, rollouts, change, said):
    path = rollouts(rollout(**change))
    with pytest.raises(SystemExit) as stopped:
        main(["view", str(path)])
    assert said in str(stopped.value)
    assert str(path) in str(stopped.value)
    assert not path.with_name("view.html").exists()


def test_refuses_what_is_not_there(rollouts, tmp_path):
    for arguments, said in [
        ([str(tmp_path / "none.parquet")], "there is no such file"),
        ([str(tmp_path)], "no rollouts.parquet lies in this folder"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["view", *arguments])
        assert said in str(stopped.value)
    with pytest.raises(SystemExit) as stopped:
        main(["view", str(rollouts(rollout()))])
    assert "no data/prompts.parquet lies in the folders above" in str(stopped.value)
