"""From a user's own rubrics to verdicts, labels and a trained round, with a language model behind real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rtt.cli import main
from rtt.tables import Labels, Responses, Rollouts, Scores, Verdicts, read_table, write_table

ROOT = Path(__file__).parents[2]
KEY = "sk-distinctive-chain-0815"


@pytest.fixture
def study(tmp_path, scripted_server, nltk_data, monkeypatch):
    """Own prompts with judged rubrics, responses to them, and a configuration that names the scripted server."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def script(question, number):
        content = question["messages"][1]["content"]
        if "Quote what decides" in content:
            return {"text": json.dumps({"quotes": ["tea"] if "tea" in content.split("Criterion:")[0] else []})}
        response = content.split(" response\n")[1].split("\n=====")[0]
        return {"text": json.dumps({"verdict": "yes" if "e" in response and "judge" not in response else "no"})}

    scripted_server.script = script
    rubrics = [
        {"text": "It speaks of tea.", "weight": 2},
        {"text": "No commas.", "check": {"kind": "punctuation:no_comma"}},
    ]
    splits = ["train"] * 6 + ["validation", "heldout_kinds"]
    rows = [
        {
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Write line {n}."}],
            "rubrics": rubrics,
            "split": split,
            "topic": f"topic {n}",
            "id": f"p{n}",
        }
        for n, split in enumerate(splits)
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["results"] = str(tmp_path / "results")
    values["judge"] = {"endpoint": {"base_url": scripted_server.url, "model": "scripted"}, "canary_limit": 0.5}
    values["labels"]["annotator"] = {"source": "llm"}
    values["policy"] |= {"rounds": 1, "steps_per_round": 1}
    values["arms"] = {"rl_csr": {"reward": "csr"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    answers = ["hot tea", "tea, cold", "milk", "words", "tea", "sober", "a tea", "tea"]
    responses = pd.DataFrame(
        {
            "response_id": [f"p{n}#0" for n in range(8)],
            "prompt_id": [f"p{n}" for n in range(8)],
            "sample": 0,
            "response": answers,
            "tokens": 2,
            "truncated": False,
        }
    )
    write_table(responses, Responses, tmp_path / "responses.parquet")
    main(
        [
            "prompts",
            *common(tmp_path),
            "--input",
            str(tmp_path / "own.jsonl"),
            "--output",
            str(tmp_path / "prompts.parquet"),
        ]
    )
    return tmp_path


def common(folder: Path) -> list[str]:
    return ["--config", str(folder / "config.yaml")]


def tables(folder: Path, *names: str) -> list[str]:
    return [part for name in names for part in (f"--{name}", str(folder / f"{name}.parquet"))]


def judged(study: Path, nltk_data: Path) -> pd.DataFrame:
    main(
        [
            "verdicts",
            *common(study),
            *tables(study, "prompts", "responses"),
            "--nltk",
            str(nltk_data),
            "--output",
            str(study / "verdicts.parquet"),
        ]
    )
    return read_table(study / "verdicts.parquet", Verdicts)


def test_rules_and_the_model_judge_each_their_own_and_the_key_stands_nowhere(study, nltk_data, scripted_server, capfd):
    verdicts = judged(study, nltk_data)
    assert verdicts[verdicts["kind"] == "judge"]["verdict"].tolist() == [1, 1, -1, -1, 1, 1, 1, 1]
    assert verdicts[verdicts["kind"] != "judge"]["verdict"].tolist() == [1, -1, 1, 1, 1, 1, 1, 1]
    assert set(verdicts["judge"]) == {"rule", "scripted"}
    told = json.loads((study / "verdicts.judge.json").read_text())
    assert told["figures"]["verdicts"] == 8 + 4
    assert told["figures"]["canaries/passed"] == 0.5  # the echo and the claim have an e; one rubric, four canaries
    asked = len(scripted_server.asked)
    again = judged(study, nltk_data)
    assert again.equals(verdicts)
    assert len(scripted_server.asked) == asked
    written = [path for path in study.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in written)
    assert KEY not in "".join(capfd.readouterr())


def test_a_second_judge_is_asked_the_same_and_its_agreement_told(study, nltk_data, scripted_server, tiny_policy):
    first = scripted_server.script
    scripted_server.script = lambda question, number: (
        {"text": '{"verdict": "no"}'} if question["model"] == "stern" else first(question, number)
    )
    values = yaml.safe_load((study / "config.yaml").read_text())
    values["judge"]["second"] = {**values["judge"]["endpoint"], "model": "stern"}
    (study / "config.yaml").write_text(yaml.safe_dump(values))
    judged(study, nltk_data)
    told = json.loads((study / "verdicts.judge.json").read_text())["second"]
    assert (told["judge"], told["n"], told["agreed"], told["kappa"]) == ("stern", 8, 0.25, 0.0)
    main(
        [
            *("evaluate", *common(study), "--arm", "base", "--seed", "0", "--step", "0", "--benchmark", "validation"),
            *(*tables(study, "prompts"), "--nltk", str(nltk_data), "--policy", str(tiny_policy)),
            *("--responses", str(study / "answers.parquet"), "--output", str(study / "scores.parquet")),
        ]
    )
    scores = read_table(study / "scores.parquet", Scores)
    assert set(scores["kind"]) == {"judge", "punctuation:no_comma"}
    assert json.loads((study / "scores.judge.json").read_text())["second"]["n"] == 1


def test_labels_by_model_hold_its_quotes_and_tell_how_far_they_agree_with_the_rules(study, nltk_data):
    judged(study, nltk_data)
    main(
        [
            "labels",
            *common(study),
            *tables(study, "responses", "verdicts", "prompts"),
            "--nltk",
            str(nltk_data),
            "--output",
            str(study / "labels.parquet"),
        ]
    )
    labels = read_table(study / "labels.parquet", Labels)
    assert len(labels) == 16
    assert set(labels["annotator"]) == {"scripted"}
    by_response = labels[labels["kind"] == "judge"].set_index("response_id")["spans"].map(json.loads)
    assert by_response["p0#0"] == [[4, 7]]
    assert by_response["p2#0"] == []
    told = json.loads((study / "labels.annotator.json").read_text())
    assert told["figures"]["quotes_verbatim"] == 2 * 5
    assert told["agreement"]["all"]["n"] == 8
    assert told["agreement"]["punctuation:no_comma"]["recall"] == 0


def test_a_round_learns_from_the_models_verdicts(study, nltk_data, tiny_policy):
    main(
        [
            "round",
            *common(study),
            "--arm",
            "rl_csr",
            "--seed",
            "0",
            "--round",
            "1",
            *tables(study, "prompts"),
            "--nltk",
            str(nltk_data),
            "--policy",
            str(tiny_policy),
            "--output",
            str(study / "round_1"),
        ]
    )
    rollouts = read_table(study / "round_1" / "rollouts.parquet", Rollouts)
    for row in rollouts.itertuples():
        tea, commas = json.loads(row.verdicts).values()
        assert tea == (1 if "e" in row.response else -1)
        assert row.reward == pytest.approx((2 * (tea > 0) + (commas > 0)) / 3)


def test_a_judge_that_lets_canaries_pass_stops_the_run(study, nltk_data, scripted_server):
    scripted_server.script = lambda question, number: {"text": '{"verdict": "yes"}'}
    with pytest.raises(SystemExit, match="lets 100% of the canaries pass"):
        judged(study, nltk_data)
    assert not (study / "verdicts.parquet").exists()


def test_without_a_judge_the_rubric_that_needs_one_is_named(study, nltk_data):
    values = yaml.safe_load((study / "config.yaml").read_text())
    del values["judge"], values["labels"]["annotator"]
    (study / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit, match="needs a language model") as stopped:
        judged(study, nltk_data)
    assert "It speaks of tea." in str(stopped.value)


def test_labels_by_model_need_a_model(study):
    values = yaml.safe_load((study / "config.yaml").read_text())
    del values["judge"]
    (study / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit, match=r"labels\.annotator\.source is llm"):
        main(["prompts", *common(study), "--output", str(study / "other.parquet")])
