"""A model served elsewhere answers a benchmark: real HTTP, nothing asked twice, what is missing refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rtt.cli import main
from rtt.config import Endpoint, Protocol
from rtt.errors import UserError
from rtt.evaluation.kept import Answer
from rtt.evaluation.served import Served

ROOT = Path(__file__).parents[2]
TURNS = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}] for text in ("one", "two")]
SAMPLED = Protocol(name="sampled", samples=2, temperature=0.7, top_p=0.8, top_k=20, max_tokens=9)


def served(server, tmp_path, protocol=SAMPLED, **more) -> Served:
    settings = Endpoint(base_url=server.url, model="m", retries=0)
    return Served(settings, protocol, tmp_path / "asked.sqlite", **more)


def test_each_conversation_is_asked_as_often_and_as_the_protocol_says(scripted_server, tmp_path):
    scripted_server.script = lambda asked, number: {"text": asked["messages"][-1]["content"].upper()}
    answers = served(scripted_server, tmp_path).answer(TURNS, "x")
    assert answers == [Answer("ONE", 5, False)] * 2 + [Answer("TWO", 5, False)] * 2
    assert len(scripted_server.asked) == 4
    for question in scripted_server.asked:
        assert question["messages"][0]["content"] == "Be brief."
        sampling = {name: question[name] for name in ("temperature", "top_p", "top_k", "max_tokens")}
        assert sampling == {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_tokens": 9}
        assert "response_format" not in question
        assert "chat_template_kwargs" not in question


def test_a_greedy_protocol_sends_no_parameter_a_server_might_not_know(scripted_server, tmp_path):
    served(scripted_server, tmp_path, Protocol()).answer(TURNS, "x")
    assert not {"top_p", "top_k"} & set(scripted_server.asked[0])


def test_nothing_is_asked_twice(scripted_server, tmp_path):
    scripted_server.script = lambda asked, number: {"status": 500} if number == 3 else {"text": "fine"}
    with pytest.raises(UserError, match=r"1 of 4 answers are missing: 1 x status 500"):
        served(scripted_server, tmp_path).answer(TURNS, "x")
    answers = served(scripted_server, tmp_path).answer(TURNS, "x")
    assert len(answers) == 4
    assert len(scripted_server.asked) == 5
    assert served(scripted_server, tmp_path).answer(TURNS, "x") == answers
    assert len(scripted_server.asked) == 5


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"text": "cut", "finish": "length"}, Answer("cut", 5, True)),
        ({"text": ""}, Answer("", 5, False)),
        ({"text": None}, Answer("", 5, False)),
        ({"text": "<think>\nhm\n</think>\n\nso"}, Answer("so", 5, False)),
        ({"text": "<think>\nhm and hm", "finish": "length"}, Answer("", 5, True)),
    ],
)
def test_cut_short_empty_and_thoughts(scripted_server, tmp_path, given, wanted):
    scripted_server.script = lambda asked, number: given
    assert served(scripted_server, tmp_path, Protocol()).answer(TURNS[:1], "x") == [wanted]


@pytest.mark.parametrize(("thinking", "said"), [(True, "on"), (False, "off")])
def test_the_switch_for_thinking_is_sent_where_it_is_asked_for(scripted_server, tmp_path, thinking, said):
    one = served(scripted_server, tmp_path, Protocol(thinking=thinking), switch=True)
    one.answer(TURNS[:1], "x")
    assert scripted_server.asked[0]["chat_template_kwargs"] == {"enable_thinking": thinking}
    assert one.record()["chat_template"]["thinking"] == said


def test_a_benchmark_is_answered_and_scored_by_command(scripted_server, tmp_path, nltk_data, capsys, monkeypatch):
    rows = [
        {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"key": 2, "prompt": "No commas at all.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    ]
    (tmp_path / "ifeval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scripted_server.script = lambda asked, number: {
        "text": "a, b" if asked["messages"][-1]["content"].endswith("all.") else "a b"
    }
    line = ["evaluate", "--benchmark", "ifeval", "--prompts", tmp_path / "ifeval.jsonl", "--nltk", nltk_data]
    line += ["--endpoint", scripted_server.url, "--model", "m", "--output", tmp_path / "out" / "scores.parquet"]
    line += ["--responses", tmp_path / "out" / "responses.parquet"]
    main(list(map(str, line)))
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert scores["strict"].tolist() == [True, False]
    assert set(scores["protocol"]) == {"greedy/1"}
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["model"] == "m"
    assert record["metrics"]["instruction_strict"]["value"] == 0.5
    assert (record["prompts"], record["instructions"], record["protocol"]["max_tokens"]) == (2, 2, 1024)
    assert record["judge"].startswith("if-verifiable ")
    assert "instruction_strict 0.5000" in capsys.readouterr().out
    main(list(map(str, line)))  # again: everything is known
    assert len(scripted_server.asked) == 2
    # the shortest command there is finds what the last run left, and says where it put the scores
    monkeypatch.chdir(tmp_path)
    made = ["benchmark", "--name", "ifeval", "--input", "ifeval.jsonl", "--nltk", str(nltk_data)]
    main([*made, "--output", "results/data/benchmarks/ifeval.parquet", "--left-out", "left_out.json"])
    Path("results/models").mkdir()
    Path("results/models/nltk").symlink_to(nltk_data)
    main(["evaluate", "--endpoint", scripted_server.url, "--model", "m", "--benchmark", "ifeval"])
    assert len(pd.read_parquet("results/evaluations/model/ifeval/scores.parquet")) == 2
    assert "are at results/evaluations/model/ifeval" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="the model at the endpoint has no name"):
        main([str(part) for part in line if part not in ("--model", "m")])


def test_advancedif_is_answered_by_one_model_and_judged_by_another(scripted_server, tmp_path, nltk_data, capsys):
    turns = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Name a river."},
    ]
    rows = [
        {
            "conversation_history": json.dumps(turns),
            "benchmark_name": aspect,
            "prompt_metadata": json.dumps({"rubrics": ["Is it one word?", f"Does it flow {aspect}?"]}),
        }
        for aspect in ("north", "south")
    ]
    (tmp_path / "advancedif.json").write_text(json.dumps(rows))

    def script(asked, number):
        if asked["model"] == "answering":
            assert asked["messages"] == turns  # all turns, the system's too
            return {"text": "Rhine"}
        question = asked["messages"][1]["content"]
        kept = "\nRhine\n" in question and "south" not in question
        return {"text": json.dumps({"verdict": "yes" if kept else "no"})}

    scripted_server.script = script
    values = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    values["results"] = str(tmp_path / "results")
    values["judge"] = {"endpoint": {"base_url": scripted_server.url, "model": "judging"}, "canaries": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    line = ["evaluate", "--benchmark", "advancedif", "--prompts", tmp_path / "advancedif.json", "--nltk", nltk_data]
    line += ["--config", tmp_path / "config.yaml", "--protocol", ROOT / "config/protocols/quick.yaml"]
    line += ["--endpoint", scripted_server.url, "--model", "answering"]
    line += ["--output", tmp_path / "out" / "scores.parquet", "--responses", tmp_path / "out" / "responses.parquet"]
    main(list(map(str, line)))
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["judge"] == "judging"
    # north keeps both, south one of two: all or nothing 1 of 2, rubric by rubric 3 of 4
    assert record["metrics"]["prompt_strict"]["value"] == 0.5
    assert record["metrics"]["instruction_strict"]["value"] == 0.75
    by_aspect = {one["value"]: one["prompt_strict"] for one in record["groups"]}
    assert by_aspect == {"north": 1, "south": 0}
    assert "quick/1, at most 96 tokens; judged by judging" in capsys.readouterr().out
    # without a judge nobody decides
    without = [part for part in line if part not in ("--config", tmp_path / "config.yaml")]
    with pytest.raises(SystemExit, match="no prompt of advancedif can be scored"):
        main(list(map(str, without)))
