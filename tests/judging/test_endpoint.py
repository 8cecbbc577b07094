"""Questions over real HTTP on loopback: limits, failures, the cache and the key."""

from __future__ import annotations

import email.utils
import json
import logging
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rtt.config import Endpoint, load_config
from rtt.errors import UserError
from rtt.judging.cache import Cache, key_of
from rtt.judging.endpoint import EndpointClient
from rtt.judging.requests import Request

ROOT = Path(__file__).parents[2]
SCHEMA = {"type": "object", "properties": {"verdict": {"type": "string"}}, "required": ["verdict"]}
KEY = "sk-distinctive-4711-never-to-be-seen"


MALFORMED = {
    "null": b"null",
    "list": b"[]",
    "choices null": b'{"choices": null}',
    "choices object": b'{"choices": {"a": 1}}',
    "choices numbers": b'{"choices": [5]}',
    "choices empty": b'{"choices": []}',
    "no message": b'{"choices": [{}]}',
    "message text": b'{"choices": [{"message": "yes"}]}',
    "content list": b'{"choices": [{"message": {"content": ["yes"]}}]}',
    "half a character": b'{"choices": [{"message": {"content": "\\ud800"}}]}',
}


def questions(count: int, word: str = "question") -> list[Request]:
    return [Request(({"role": "user", "content": f"{word} {n}"},), SCHEMA, "test/1") for n in range(count)]


def client(server, cache: Cache | None = None, **settings) -> EndpointClient:
    return EndpointClient(Endpoint(base_url=server.url, model="scripted", **settings), cache)


def test_answers_come_back_in_the_order_of_the_questions(scripted_server):
    def script(question, number):
        # The later it is asked, the sooner it is answered.
        return {"text": question["messages"][0]["content"], "delay": 0.2 - 0.02 * number}

    scripted_server.script = script
    replies = client(scripted_server).ask(questions(8))
    assert [reply.text for reply in replies] == [f"question {n}" for n in range(8)]


def test_no_more_questions_are_under_way_than_allowed(scripted_server):
    scripted_server.script = lambda question, number: {"delay": 0.05}
    client(scripted_server, concurrency=3).ask(questions(12))
    assert scripted_server.most_under_way == 3


def test_equal_questions_are_asked_once(scripted_server):
    replies = client(scripted_server).ask(questions(2) * 3)
    assert len(replies) == 6
    assert len(scripted_server.asked) == 2


def test_requests_come_at_the_rate_that_is_allowed(scripted_server):
    started = time.monotonic()
    client(scripted_server, requests_per_minute=600).ask(questions(6))
    assert scripted_server.times[-1] - started >= 5 * 0.1


def test_tokens_come_at_the_rate_that_is_allowed(scripted_server):
    # Each question counts as 10 / 4 + 97 = 99.5 tokens, so one is allowed every 0.0995 s.
    asked = [Request(({"role": "user", "content": f"question {n}"},), SCHEMA, "t") for n in range(5)]
    started = time.monotonic()
    client(scripted_server, tokens_per_minute=60_000, max_tokens=97).ask(asked)
    assert scripted_server.times[-1] - started >= 4 * 0.0995


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 500},
        {"status": 503},
        {"status": 408},
        {"drop": True},
        {"body": b'{"choices": [{"mess'},
        {"body": b"<html>Bad gateway</html>"},
        {"body": b"<html>Back soon</html>", "headers": {"Content-Type": "text/html"}},
        *({"body": body} for body in MALFORMED.values()),
    ],
    ids=["429", "500", "503", "408", "closed connection", "truncated", "malformed", "page", *MALFORMED],
)
def test_a_passing_fault_is_tried_again(scripted_server, fault):
    scripted_server.script = lambda question, number: fault if number == 0 else {"text": "fine"}
    (reply,) = client(scripted_server).ask(questions(1))
    assert reply.text == "fine"
    assert len(scripted_server.asked) == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_wait_a_server_asks_for_is_kept(scripted_server, form):
    def script(question, number):
        when = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
        return {"status": 429, "headers": {"Retry-After": when}} if number == 0 else {}

    scripted_server.script = script
    client(scripted_server).ask(questions(1))
    waited = scripted_server.times[1] - scripted_server.times[0]
    assert 1 <= waited < 3.5


def test_a_lasting_fault_is_a_missing_answer_with_its_cause(scripted_server):
    def script(question, number):
        return {"status": 500} if "1" in question["messages"][0]["content"] else {"text": "fine"}

    scripted_server.script = script
    asks = client(scripted_server, retries=1)
    replies = asks.ask(questions(3))
    assert [(reply.text, reply.problem) for reply in replies] == [("fine", ""), (None, "status 500"), ("fine", "")]
    assert asks.figures.flat(asks.settings)["failures/status 500"] == 1


def test_a_slow_answer_ends_at_the_deadline(scripted_server):
    scripted_server.script = lambda question, number: {"delay": 8}
    started = time.monotonic()
    (reply,) = client(scripted_server, deadline_seconds=0.3).ask(questions(1))
    assert (reply.text, reply.problem) == (None, "deadline")
    assert time.monotonic() - started < 6


@pytest.mark.parametrize("usage", ["{}", '"many"', '{"prompt_tokens": "5", "completion_tokens": null}', "null"])
def test_an_answer_counts_even_when_its_tokens_are_not_told(scripted_server, usage):
    body = '{"choices": [{"message": {"content": "fine"}}], "usage": ' + usage + "}"
    scripted_server.script = lambda question, number: {"body": body.encode()}
    asks = client(scripted_server)
    assert [reply.text for reply in asks.ask(questions(1))] == ["fine"]
    assert asks.figures.flat(asks.settings)["tokens_input"] == 0


def test_waiting_for_ones_turn_does_not_count_towards_the_deadline(scripted_server):
    # The last of 16 has its turn after 1.5 s.
    replies = client(scripted_server, requests_per_minute=600, deadline_seconds=0.5).ask(questions(16))
    assert [reply.problem for reply in replies] == [""] * 16


def test_a_wait_beyond_the_deadline_is_not_begun_and_its_cause_is_told(scripted_server):
    scripted_server.script = lambda question, number: {"status": 429, "headers": {"Retry-After": "300"}}
    started = time.monotonic()
    (reply,) = client(scripted_server, deadline_seconds=20).ask(questions(1))
    assert reply.problem == "deadline after status 429"
    assert time.monotonic() - started < 5


def test_an_answer_that_is_cut_off_or_empty_is_none(scripted_server):
    def script(question, number):
        return {"text": '{"verd', "finish": "length"} if "0" in question["messages"][0]["content"] else {"text": ""}

    scripted_server.script = script
    replies = client(scripted_server).ask(questions(2))
    assert [reply.problem for reply in replies] == ["answer cut off at max_tokens", "empty answer"]
    assert [reply.text for reply in replies] == [None, None]


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_stops_the_run_and_keeps_what_was_answered(scripted_server, tmp_path, status):
    def script(question, number):
        return {"text": "fine"} if number < 3 else {"status": status, "delay": 0.1}

    scripted_server.script = script
    cache = Cache(tmp_path / "cache.sqlite")
    with pytest.raises(UserError, match=str(status)) as caught:
        client(scripted_server, cache, concurrency=2).ask(questions(20))
    assert scripted_server.url in caught.value.where
    assert "OPENAI_API_KEY" in caught.value.todo
    assert len(cache) == 3
    assert len(scripted_server.asked) < 10


def test_a_server_without_schemas_is_asked_without_and_only_told_once(scripted_server, caplog):
    scripted_server.script = lambda question, number: (
        {"status": 400} if "response_format" in question else {"text": "fine"}
    )
    asks = client(scripted_server, concurrency=1)
    with caplog.at_level(logging.WARNING):
        assert [reply.text for reply in asks.ask(questions(3))] == ["fine"] * 3
    assert sum("response_format" in question for question in scripted_server.asked) == 1
    assert len([record for record in caplog.records if "no JSON schema" in record.getMessage()]) == 1


def test_a_refused_schema_costs_no_question_even_without_retries(scripted_server):
    scripted_server.script = lambda question, number: (
        {"status": 400} if "response_format" in question else {"text": "fine"}
    )
    replies = client(scripted_server, retries=0, concurrency=4).ask(questions(6))
    assert [reply.text for reply in replies] == ["fine"] * 6


def test_a_question_that_is_refused_in_any_form_leaves_the_others_their_schema(scripted_server):
    def script(question, number):
        return {"status": 400} if "question 0" in question["messages"][0]["content"] else {"text": "fine"}

    scripted_server.script = script
    replies = client(scripted_server, concurrency=1).ask(questions(3))
    assert [reply.problem for reply in replies] == ["status 400", "", ""]
    assert ["response_format" in question for question in scripted_server.asked] == [True, False, True, True]


def test_the_schema_is_sent_where_it_is_asked_for_and_a_refusal_is_final(scripted_server):
    scripted_server.script = lambda question, number: {"status": 400}
    (reply,) = client(scripted_server, answer_format="json_schema").ask(questions(1))
    assert reply.problem == "status 400"
    assert scripted_server.asked[0]["response_format"]["json_schema"]["schema"] == SCHEMA
    client(scripted_server, answer_format="text").ask(questions(1))
    assert "response_format" not in scripted_server.asked[-1]


def test_nothing_is_asked_twice(scripted_server, tmp_path):
    first = client(scripted_server, Cache(tmp_path / "cache.sqlite")).ask(questions(5))
    asks = client(scripted_server, Cache(tmp_path / "cache.sqlite"))
    assert asks.ask(questions(5)) == first
    assert len(scripted_server.asked) == 5
    assert asks.figures.flat(asks.settings)["cache_hits"] == 5


def test_a_whole_cache_needs_neither_server_nor_key(scripted_server, tmp_path, monkeypatch):
    first = client(scripted_server, Cache(tmp_path / "cache.sqlite")).ask(questions(3))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    elsewhere = Endpoint(base_url="https://judge.invalid/v1", model="scripted")
    assert EndpointClient(elsewhere, Cache(tmp_path / "cache.sqlite")).ask(questions(3)) == first


def test_failures_are_not_kept(scripted_server, tmp_path):
    scripted_server.script = lambda question, number: {"status": 500}
    cache = Cache(tmp_path / "cache.sqlite")
    client(scripted_server, cache, retries=0).ask(questions(2))
    assert len(cache) == 0


def test_the_key_of_an_answer_is_all_it_depends_on():
    (request,) = questions(1)
    parameters = {"temperature": 0.0, "max_tokens": 64}
    base = key_of(request, "m", parameters)
    assert base == key_of(Request(request.messages, SCHEMA, "test/1"), "m", dict(parameters))
    others = [
        key_of(request, "n", parameters),
        key_of(request, "m", {**parameters, "temperature": 1.0}),
        key_of(Request(request.messages, SCHEMA, "test/2"), "m", parameters),
        key_of(Request(request.messages, SCHEMA, "test/1", sample=1), "m", parameters),
        key_of(questions(1, "other")[0], "m", parameters),
    ]
    assert len({base, *others}) == 6


def test_several_processes_may_fill_one_cache(tmp_path):
    path = tmp_path / "cache.sqlite"
    program = (
        "import sys; from pathlib import Path; from rtt.judging.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "for n in range(200): cache.put(f'{sys.argv[2]}/{n}', 't', 'm', 'text')\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert len(Cache(path)) == 800


def test_a_cache_that_is_none_is_refused_in_one_message(tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database at all, and long enough to be read as one" * 100)
    with pytest.raises(UserError, match="cannot be used") as caught:
        Cache(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes().startswith(b"this is no")


def test_processes_that_open_a_new_cache_at_once_wait_for_one_another(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from rtt.judging.cache import Cache\n"
        "for number in range(25):\n"
        "    time.sleep(max(0, float(sys.argv[2]) + 0.06 * number - time.time()))\n"
        "    Cache(Path(sys.argv[1]) / f'{number}.sqlite').put(sys.argv[3], 't', 'm', 'text')\n"
    )
    start = str(time.time() + 1)
    command = [sys.executable, "-c", program, str(tmp_path), start]
    running = [subprocess.Popen([*command, str(n)]) for n in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    assert [len(Cache(tmp_path / f"{number}.sqlite")) for number in range(25)] == [6] * 25


def test_a_cache_where_no_folder_can_be_is_refused_in_one_message(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be used"):
        Cache(tmp_path / "file" / "cache.sqlite")


def test_a_cache_another_process_holds_is_not_called_broken(tmp_path, monkeypatch):
    monkeypatch.setattr("rtt.judging.cache.PATIENCE", 0.1)
    cache = Cache(tmp_path / "cache.sqlite")
    holder = sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="held by another process") as caught:
        cache.put("a", "t", "m", "text")
    assert "move" not in caught.value.todo
    holder.execute("ROLLBACK")
    cache.put("a", "t", "m", "text")
    assert cache.get("a") == "text"


def test_a_shipped_cache_is_one_file(scripted_server, tmp_path):
    cache = Cache(tmp_path / "cache.sqlite")
    client(scripted_server, cache).ask(questions(2))
    cache.close()
    assert [path.name for path in tmp_path.iterdir()] == ["cache.sqlite"]
    assert sqlite3.connect(tmp_path / "cache.sqlite").execute("SELECT count(*) FROM replies").fetchone() == (2,)


def test_the_key_is_sent_and_stands_nowhere_else(scripted_server, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    scripted_server.script = lambda question, number: (
        {"text": "fine"} if number == 0 else {"status": 401, "body": json.dumps({"error": f"bad {KEY}"}).encode()}
    )
    cache = Cache(tmp_path / "cache.sqlite")
    asks = client(scripted_server, cache, api_key_variable="JUDGE_KEY", concurrency=1)
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError) as caught:
        asks.ask(questions(2))
    cache.close()
    assert scripted_server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value)
    assert "JUDGE_KEY" in str(caught.value)
    assert KEY not in str(asks.figures) + "".join(capfd.readouterr()) + asks.settings.model_dump_json()
    assert not any(KEY in record.getMessage() for record in caplog.records)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("key", ["\n" + KEY + " \n", KEY])
def test_blanks_around_a_key_are_not_sent(scripted_server, monkeypatch, key):
    monkeypatch.setenv("JUDGE_KEY", key)
    client(scripted_server, api_key_variable="JUDGE_KEY").ask(questions(1))
    assert scripted_server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [KEY + "\n" + KEY, KEY + "\u00e9"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_logged(scripted_server, monkeypatch, caplog, key):
    monkeypatch.setenv("JUDGE_KEY", key)
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError, match="JUDGE_KEY") as caught:
        client(scripted_server, api_key_variable="JUDGE_KEY").ask(questions(1))
    assert KEY not in str(caught.value) + caplog.text
    assert not scripted_server.asked


@pytest.mark.parametrize(
    "address",
    [
        f"https://user:{KEY}@judge.invalid/v1",
        f"https://{KEY}@judge.invalid/v1",
        f"https://judge.invalid/v1?api-key={KEY}",
        f"judge.invalid/{KEY}",
        f"https://[{KEY}/v1",
    ],
)
def test_an_address_with_a_key_in_it_or_none_at_all_is_refused_without_being_quoted(tmp_path, address):
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["judge"] = {"endpoint": {"base_url": address, "model": "m"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"judge\.endpoint\.base_url") as caught:
        load_config(tmp_path / "config.yaml")
    assert KEY not in str(caught.value)


def test_a_missing_key_is_named_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    settings = Endpoint(base_url="https://judge.invalid/v1", model="m", api_key_variable="JUDGE_KEY")
    with pytest.raises(UserError, match="JUDGE_KEY"):
        EndpointClient(settings).ask(questions(1))


def test_nobody_at_the_address_is_a_missing_answer(tmp_path):
    settings = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", retries=1)
    (reply,) = EndpointClient(settings).ask(questions(1))
    assert reply.problem == "no connection"


def test_figures_say_what_was_spent(scripted_server):
    asks = client(scripted_server, price_input=2.0, price_output=10.0)
    asks.ask(questions(4))
    figures = asks.figures.flat(asks.settings)
    assert (figures["calls"], figures["tokens_input"], figures["tokens_output"]) == (4, 400, 20)
    assert figures["cost"] == pytest.approx((400 * 2 + 20 * 10) / 1e6)
    assert 0 < figures["latency_p50"] <= figures["latency_p95"]
    unpriced = client(scripted_server)
    assert "cost" not in unpriced.figures.flat(unpriced.settings)
    assert "latency_mean" not in unpriced.figures.flat(unpriced.settings)
