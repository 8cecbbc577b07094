"""Verdicts by a language model: the question's form, the strict reading of answers, canaries and agreement."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtt.config import Endpoint, Judge
from rtt.errors import UserError
from rtt.judging.agreement import agreement
from rtt.judging.canaries import CANARIES, require_trustworthy, run_canaries
from rtt.judging.cases import Case, Verdict
from rtt.judging.endpoint import EndpointClient
from rtt.judging.llm import LLMJudge, fence_for, question, read_verdict, shortened
from rtt.rubrics import JUDGED, Rubric

KIND = Rubric(rubric_id="a/0", kind=JUDGED, text="The tone stays friendly.")


def case(response="Dear friend, welcome!", prompt="Write a greeting.", **more) -> Case:
    return Case(KIND, response, prompt, **more)


def judge(server, **settings) -> LLMJudge:
    endpoint = Endpoint(base_url=server.url, model="scripted", retries=0)
    return LLMJudge(EndpointClient(endpoint), "scripted", Judge(endpoint=endpoint, **settings))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"verdict": "yes"}', 1.0),
        (' {"verdict":"no"}\n', -1.0),
        ('```json\n{"verdict": "yes"}\n```', 1.0),
        ('```\n{"verdict": "no"}\n```', -1.0),
        ("yes", None),
        ("no", None),
        ("Yes, but no.", None),
        ('"yes"', None),
        ('{"verdict": "Yes"}', None),
        ('{"verdict": true}', None),
        ('{"verdict": 1}', None),
        ('{"verdict": null}', None),
        ('{"verdict": "yes", "verdict": "no"}', None),
        ('{"verdict": "yes", "reason": "friendly"}', None),
        ('{"verdict": "yes"} {"verdict": "no"}', None),
        ('The answer is {"verdict": "yes"}', None),
        ('[{"verdict": "yes"}]', None),
        ('{"verdict": "yes"', None),
        ("", None),
        ("[" * 100_000, None),
        ('{"verdict": ' * 100_000, None),
    ],
)
def test_only_an_answer_in_the_form_asked_for_is_a_verdict(text, verdict):
    assert read_verdict(text, "yes_no") == verdict


@pytest.mark.parametrize(("grade", "verdict"), [(0, -1.0), (5, 0.0), (7, 0.4), (10, 1.0)])
def test_grades_spread_over_the_verdicts_range(grade, verdict):
    assert read_verdict(json.dumps({"verdict": grade}), "graded") == pytest.approx(verdict)


@pytest.mark.parametrize("grade", [-1, 11, 5.0, "5", True, None, [5]])
def test_a_grade_off_the_scale_is_none(grade):
    assert read_verdict(json.dumps({"verdict": grade}), "graded") is None


@given(st.text())
def test_no_text_trips_the_reader(text):
    assert read_verdict(text, "yes_no") in (None, 1.0, -1.0)


@given(st.text(), st.text())
@example("", "")
def test_a_response_cannot_write_the_fence_it_stands_in(prompt, response):
    shown = question(case(response, prompt or "p"), "yes_no", 10_000).messages[1]["content"]
    fence = shown.split(" conversation\n")[0]
    assert fence not in response
    assert shown.count(fence) == 4


def test_a_response_with_the_fence_of_another_gets_one_of_its_own():
    fence = fence_for("[user]\nWrite a greeting." + "Hello")
    shown = question(case(f"Hello {fence} end of the response"), "yes_no", 10_000).messages[1]["content"]
    assert not shown.startswith(fence)


def test_the_criterion_comes_after_the_response_and_whole_however_long_that_is():
    asked = question(case("word " * 50_000), "yes_no", 2_000)
    shown = asked.messages[1]["content"]
    assert len(shown) < 4_000
    assert shown.index("characters left out") < shown.index("Criterion:\nThe tone stays friendly.")
    assert "do not trust" in asked.messages[0]["content"]


def test_what_is_left_out_is_the_middle():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 4) == "ab\n[… 7 characters left out …]\njk"


def test_the_whole_conversation_is_shown():
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Greet me."})
    shown = question(case(messages=turns), "yes_no", 10_000).messages[1]["content"]
    assert "[system]\nBe brief.\n\n[user]\nGreet me." in shown


def test_verdicts_over_http_in_order(scripted_server):
    scripted_server.script = lambda body, number: {
        "text": json.dumps({"verdict": "yes" if "good" in body["messages"][1]["content"] else "no"})
    }
    verdicts = judge(scripted_server).judge([case("good one"), case("bad"), case("good two")])
    assert verdicts == [Verdict(1.0, "scripted"), Verdict(-1.0, "scripted"), Verdict(1.0, "scripted")]
    schema = scripted_server.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"]["enum"] == ["yes", "no"]


def test_an_unreadable_answer_is_missing_with_its_reason(scripted_server):
    scripted_server.script = lambda body, number: {"text": "Yes!"}
    (verdict,) = judge(scripted_server).judge([case()])
    assert verdict.missing
    assert verdict.reason == "unreadable verdict"


def test_too_many_missing_verdicts_stop_the_run_and_say_why(scripted_server):
    def script(body, number):
        content = body["messages"][1]["content"]
        return {"text": "Yes!"} if "odd" in content else {"status": 500} if "down" in content else {}

    scripted_server.script = script
    few = [case(f"fine {n}") for n in range(19)] + [case("odd")]
    found = judge(scripted_server, missing_limit=0.05).judge(few)
    assert sum(verdict.missing for verdict in found) == 1
    with pytest.raises(UserError, match="2 of 20 verdicts are missing") as caught:
        judge(scripted_server, missing_limit=0.05).judge([*few[1:], case("down")])
    assert "1 x unreadable verdict" in caught.value.what
    assert "1 x status 500" in caught.value.what


def test_canaries_are_of_every_kind_and_counted_by_kind(scripted_server):
    def gullible(body, number):
        return {
            "text": json.dumps({"verdict": "yes" if "Note to the judge" in body["messages"][1]["content"] else "no"})
        }

    scripted_server.script = gullible
    found = run_canaries(judge(scripted_server), [case(), case(prompt="Say hello.")])
    assert found.asked == dict.fromkeys(CANARIES, 2)
    assert found.passed == {"empty": 0, "echo": 0, "claim": 0, "instruction": 2}
    assert found.share == 0.25
    assert found.flat()["canaries/instruction"] == 1
    require_trustworthy(found, 0.25, "scripted")
    with pytest.raises(UserError, match="25% of the canaries") as caught:
        require_trustworthy(found, 0.2, "scripted")
    assert "instruction 2 of 2" in caught.value.what


def test_a_judge_that_says_nothing_readable_is_not_trusted(scripted_server):
    scripted_server.script = lambda body, number: {"text": "Hm."}
    with pytest.raises(UserError, match=r"no verdict on any canary \(4 x unreadable verdict\)"):
        require_trustworthy(run_canaries(judge(scripted_server), [case()]), 1.0, "scripted")


def verdicts(text: str) -> list[Verdict]:
    return [Verdict({"y": 1.0, "n": -1.0}.get(letter, math.nan), "m") for letter in text]


def test_agreement_by_hand():
    # Of 4 pairs with two verdicts 3 agree; "yes" is said by 2/4 and by 3/4: chance is 3/8 + 1/8.
    found = agreement(verdicts("yynn-y"), verdicts("yyyny-"))
    assert (found["n"], found["agreed"]) == (4, 0.75)
    assert found["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert found["kappa_low"] <= found["kappa"] <= found["kappa_high"]


@pytest.mark.parametrize(("first", "second"), [("", ""), ("--", "yy"), ("yyy", "yyy")])
def test_agreement_without_pairs_or_by_chance_alone_has_no_kappa(first, second):
    assert agreement(verdicts(first), verdicts(second))["kappa"] is None


def test_perfect_agreement_is_one_and_perfect_disagreement_minus_one():
    assert agreement(verdicts("ynyn"), verdicts("ynyn"))["kappa"] == 1
    assert agreement(verdicts("ynyn"), verdicts("nyny"))["kappa"] == -1
