"""The demo's server by HTTP; tests/report/browser opens its page."""

from __future__ import annotations

import http.client
import json
import shutil

import pytest

from rtt.cli import main
from rtt.judging.rules import follows, require_arguments
from rtt.policy.checkpoints import seal
from rtt.report.demo import LARGEST, Question, examples


@pytest.fixture
def server(demo_server):
    return demo_server


def call(server, method="POST", path="/answer", body=None, **headers):
    """Status and body, parsed where it is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json", **headers})
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, json.loads(content) if "json" in reply.headers["Content-Type"] else content.decode()


def question(**changes):
    rubric = {"text": "Use no commas.", "kind": "punctuation:no_comma", "kwargs": {}}
    return {"prompt": "Say something.", "rubrics": [rubric], "max_tokens": 8} | changes


def test_two_answers_with_verdicts(server):
    status, found = call(server, body=question())
    assert status == 200
    assert found["asked"] == "Say something.\n\nUse no commas."
    base, trained = found["answers"]
    assert (base.pop("name"), trained.pop("name")) == ("base", "trained")
    assert base == trained  # the same weights
    kept = follows("punctuation:no_comma", {}, base["text"])
    assert base["verdicts"] == [{"value": 1.0 if kept else -1.0, "judge": "rule", "reason": ""}]
    assert base["relevance"] is None  # there is no discriminator
    assert base["ends"] == sorted(base["ends"])
    assert base["ends"][-1] == len(base["text"].encode("utf-16-le")) // 2


def test_a_prompt_alone_is_asked_as_it_is():
    assert Question(prompt=" Hi. ", rubrics=[]).message == "Hi."


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "the question: Invalid JSON"),
        (question(prompt=""), "prompt: String should have at least 1 character"),
        (question(max_tokens=10**6), "max_tokens: Input should be less than or equal to 1024"),
        (question(more=1), "more: Extra inputs are not permitted"),
        (question(rubrics=[{"text": "x", "kind": "no:such", "kwargs": {}}]), "no:such"),
        (question(rubrics=[{"text": "x", "kind": "keywords:existence", "kwargs": {"keywords": 3}}]), "keywords"),
    ],
)
def test_a_bad_question_is_refused_by_name(server, body, said):
    status, found = call(server, body=body)
    assert status == 400
    assert said in found["error"]


def test_only_its_own_page_may_ask(server):
    port = server.server_address[1]
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": f"evil.example:{port}"}):
        assert call(server, body=question(), **headers)[0] == 403
        assert call(server, "GET", "/", **headers)[0] == 403
    assert call(server, body=question(), Origin=f"http://localhost:{port}")[0] == 200
    # a form on another page can send text without asking the browser's leave, but not JSON
    assert call(server, body=question(), **{"Content-Type": "text/plain"})[0] == 404


def test_other_paths_and_sizes(server):
    assert call(server, "GET", "/etc/passwd")[0] == 404
    assert call(server, path="/other", body=question())[0] == 404
    assert call(server, body="x" * (LARGEST + 1))[0] == 413
    assert call(server, body="{}", **{"Content-Length": "many"})[0] in (400, 413)
    status, text = call(server, "GET", "/")
    assert status == 200
    assert text.startswith("<!DOCTYPE html>")


def test_every_example_has_arguments_its_checker_takes():
    for example in examples():
        require_arguments(example["kind"], example["kwargs"])
        assert example["text"]


def test_what_is_missing_is_one_message(tiny_policy, tmp_path):
    lonely = str(tmp_path / "none")
    for arguments, said in [
        (["--checkpoint", lonely], "no models/policy lies in the folders above"),
        (["--checkpoint", lonely, "--policy", str(tiny_policy)], "none"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["demo", *arguments])
        assert said in str(stopped.value)


def test_a_taken_port_is_one_message(server, tiny_policy, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_policy, checkpoint)
    seal(checkpoint)
    arguments = ["--checkpoint", str(checkpoint), "--policy", str(tiny_policy)]
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *arguments, "--port", str(server.server_address[1])])
    assert "the page cannot be served: Address already in use" in str(stopped.value)
