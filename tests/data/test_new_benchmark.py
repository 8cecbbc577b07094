"""A benchmark is added as docs/benchmarks/README.md says: a loader under its name, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rtt.cli import main
from rtt.data.benchmarks import LOADERS
from rtt.data.files import read_sniffed
from rtt.data.table import Row, make_table
from rtt.rubrics import Rubric


def load_haiku(path: Path, name: str) -> pd.DataFrame:
    def rows():
        for place, value in read_sniffed(path):
            prompt_id = f"{name}/{value['number']}"
            rubric = Rubric(rubric_id=f"{prompt_id}/0", kind="punctuation:no_comma", text="No commas.")
            messages = ({"role": "user", "content": value["ask"]},)
            groups = {"season": value["season"]}
            yield Row(prompt_id, name, name, messages, [rubric], str(place), kept_with=prompt_id, groups=groups)

    return make_table(rows(), path)


def test_a_loader_is_all_a_benchmark_needs(tmp_path, monkeypatch, nltk_data, scripted_server, capsys):
    monkeypatch.setitem(LOADERS, "haiku", load_haiku)
    rows = [
        {"number": 1, "ask": "A haiku on snow.", "season": "winter"},
        {"number": 2, "ask": "A haiku on sun.", "season": "summer"},
    ]
    (tmp_path / "haiku.json").write_text(json.dumps(rows))
    nltk = ["--nltk", str(nltk_data)]
    line = ["benchmark", "--name", "haiku", "--input", str(tmp_path / "haiku.json"), *nltk]
    main([*line, "--output", str(tmp_path / "haiku.parquet"), "--left-out", str(tmp_path / "left_out.json")])
    scripted_server.script = lambda asked, number: {
        "text": "snow, snow" if "snow" in asked["messages"][-1]["content"] else "sun"
    }
    line = ["evaluate", "--benchmark", "haiku", "--prompts", str(tmp_path / "haiku.parquet"), *nltk]
    line += ["--endpoint", scripted_server.url, "--model", "m", "--protocol", "config/protocols/quick.yaml"]
    line += ["--output", str(tmp_path / "out/scores.parquet"), "--responses", str(tmp_path / "out/responses.parquet")]
    monkeypatch.chdir(Path(__file__).parents[2])
    main(line)
    said = capsys.readouterr().out
    assert "haiku: 2 prompts, 2 instructions; quick/1, at most 96 tokens" in said
    assert f"{'season: winter':46} 0.0000 instructions, n = 1" in said
    assert f"{'season: summer':46} 1.0000 instructions, n = 1" in said
