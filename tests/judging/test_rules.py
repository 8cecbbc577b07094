"""Verdicts by rule: hand-made answers for each of IFEval's kinds, the real benchmarks' arguments, refusals, tables."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rtt.errors import UserError
from rtt.judging import rules
from rtt.judging.rules import check, follows, has_tagger, kinds, use_nltk_data
from tests.judging import ifbench_answers

SHARED = Path(__file__).parents[2] / "../shared/data"
NLTK_DATA = SHARED / "nltk_data"
needs_nltk_data = pytest.mark.skipif(not NLTK_DATA.is_dir(), reason="no NLTK data in shared/data/nltk_data")

ENGLISH = "The quiet harbour town wakes before sunrise and the fishing boats leave without a sound."


@pytest.fixture(autouse=True)
def _nltk_data():
    if NLTK_DATA.is_dir():
        use_nltk_data(NLTK_DATA)


# kind, arguments, answers that keep it, answers that break it; edge cases are in either.
ANSWERS = [
    ("punctuation:no_comma", {}, ["No comma here.", "An ideographic，one"], ["One, two.", ","]),
    (
        "keywords:existence",
        {"keywords": ["harbour", "boat"]},
        ["The HARBOUR has a boat.", "harbours, boats"],
        ["The harbour is empty.", "har bour boat"],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["bad", "very ill"]},
        ["All good.", "The badge", "very; ill"],
        ["It is BAD.", "(bad)", "He is very ill"],
    ),
    (
        "keywords:frequency",
        {"keyword": "tea", "frequency": 2, "relation": "at least"},
        ["Tea or tea?", "steam team"],
        ["One tea.", "coffee"],
    ),
    (
        "keywords:frequency",
        {"keyword": "tea", "frequency": 2, "relation": "less than"},
        ["One tea.", "coffee"],
        ["Tea or tea?", "teatea"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "O", "let_frequency": 2, "let_relation": "at least"},
        ["Oh no", "oo"],
        ["So it is", "a"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        ["#one", "none"],
        ["##", "#a #b"],
    ),
    ("language:response_language", {"language": "de"}, ["Das ist ein schöner Tag am Meer.", "123"], [ENGLISH]),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["one two three", "it's me", "a-b-c"],
        ["one two", "...", "one_two three"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["one two", "!"], ["one two three"]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["One. Two.", "Wait! no end"],
        ["One, Dr. Two.", "no end"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        ["It costs 3.5 pounds.", "no end"],
        ["One. Two.", "!!"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["One\n***\nTwo", "***One***Two***"],
        ["One", "One\n***\n***\nTwo", "One\n\nTwo"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Tea"},
        ["One\n\nTea, then.", 'One\n\n"TEA" is'],
        ["Tea\n\nOne", "One\n\nTea\n\nThree", "One\nTea"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] of [town]", "[][]"],
        ["[name] of (town)", "[a\nb] [c]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. Tea.", "Bye p. s. tea"],
        ["Bye.", "Bye. PS Tea"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S more", "p.p.s"], ["P.S. more", "pps"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* one\n* two", "  - one\n- two", "* one\n-two"],
        ["* one", "* one\n* two\n* three", "** one\n** two"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "So: My answer is no."],
        ["Yes.", "my answer is no."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*one* and *two*", "**one** and *two*"],
        ["*one*", "** ** *two*", "*one\ntwo* *x*"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\nText\nSection 2\nText", "Section1Section2"],
        ["Section 1\nText", "SECTION 1 SECTION 2", "Section A Section B"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', "3"],
        ["{'a': 1}", 'Here: {"a": 1}', "```"],
    ),
    ("detectable_format:title", {}, ["<<Tea>>\nText", "Text <<T>>"], ["<Tea>", "<<Tea\n>>", "<< >>"]),
    (
        "combination:two_responses",
        {},
        ["Tea.\n******\nMilk.", "******a******b******"],
        ["Tea.", "Tea.******Tea.", "a******b******c"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Name a tea."},
        ["Name a tea. Assam.", "  name A TEA."],
        ["Sure! Name a tea. Assam.", "Assam."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "That is all."},
        ["Tea. That is all.", 'Tea. THAT IS ALL."', "That is all. \n"],
        ["That is all. Bye.", "That is all"],
    ),
    ("startend:quotation", {}, ['"Tea."', ' "Tea" \n', '""'], ['"Tea.', "“Tea.”", '"']),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["BIG TEA", "I DO", "A-B C"],
        ["BIG tea", "Tea Tea", "BIG-TEA"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        ["BIG tea", "no"],
        ["BIG TEA", "CAN'T"],
    ),
    (
        "change_case:english_capital",
        {},
        [ENGLISH.upper()],
        [ENGLISH, ENGLISH.upper() + " x", "1234", "DAS IST EIN SCHÖNER TAG AM MEER."],
    ),
    ("change_case:english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, "1234", "das ist ein schöner tag am meer."]),
]


def _cases(kept):
    for kind, kwargs, keeping, breaking in [*ANSWERS, *ifbench_answers.ANSWERS]:
        for answer in keeping if kept else breaking:
            yield pytest.param(kind, kwargs, answer, id=f"{kind}-{answer[:20]!r}")


@needs_nltk_data
@pytest.mark.parametrize(("kind", "kwargs", "answer"), _cases(kept=True))
def test_answer_keeps(kind, kwargs, answer):
    assert check(kind, kwargs, answer) == (True, True)


@needs_nltk_data
@pytest.mark.parametrize(("kind", "kwargs", "answer"), _cases(kept=False))
def test_answer_breaks(kind, kwargs, answer):
    assert not follows(kind, kwargs, answer)
    assert not check(kind, kwargs, answer)[0]


def test_answers_cover_every_kind_of_both_benchmarks():
    published = {kind for kind in kinds() if not kind.startswith("muldimif:")}
    every = [*ANSWERS, *ifbench_answers.ANSWERS]
    assert {kind for kind, *_ in every} == published
    assert len(published) == 25 + 58
    for kind in published:
        own = [(kept, broken) for name, _, kept, broken in every if name == kind]
        assert sum(len(kept) + len(broken) for kept, broken in own) >= 3, kind
        assert all(any(side[place] for side in own) for place in (0, 1)), kind


def _rows(path):
    if not path.is_file():
        pytest.skip(f"no {path.name} in shared/data")
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for kind, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            yield kind, kwargs, row["prompt"]


@needs_nltk_data
@pytest.mark.parametrize(("file", "count"), [("ifeval/input_data.jsonl", 834), ("ifbench/IFBench_test.jsonl", 335)])
def test_every_instruction_of_the_benchmark_can_be_scored(file, count):
    answer = '"Go home," she said. Did Emma and Liam stay? Yes!\n\n* One: [name], 14 < 21.\n- Two 😀 (tea) <i>x</i> y'
    verdicts = [follows(*row[:2], answer, row[2]) for row in _rows(SHARED / file)]
    assert len(verdicts) == count
    assert 0 < sum(verdicts) < count


@needs_nltk_data
def test_loose_accepts_what_the_variants_mend():
    end = {"end_phrase": "That is all."}
    assert check("startend:end_checker", end, "Tea. That is all.\nHope it helps!") == (False, True)  # last line removed
    assert check("startend:quotation", {}, 'Sure:\n"Tea."') == (False, True)  # first line removed
    assert check("startend:quotation", {}, 'Sure:\n**"Tea."**\nBye') == (False, True)  # both, and asterisks
    assert check("startend:quotation", {}, 'Sure:\nSure:\n"Tea."') == (False, False)  # two lines are too many


@needs_nltk_data
def test_strict_implies_loose_though_every_variant_fails():
    assert check("detectable_format:number_bullet_lists", {"num_bullets": 1}, "* tea") == (True, True)
    assert not follows("detectable_format:number_bullet_lists", {"num_bullets": 1}, " tea")


def test_loose_variant_that_trips_the_checker_does_not_pass():
    # Without its first line the answer is punctuation only, on which this checker raises.
    assert check("format:quote_unquote", {}, 'Said "tea"\n...') == (False, False)
    with pytest.raises(IndexError):
        follows("format:quote_unquote", {}, "...")


@needs_nltk_data
@pytest.mark.parametrize("answer", ["", " ", "\n\t \u00a0\n"])
@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("punctuation:no_comma", {}),
        ("keywords:forbidden_words", {"forbidden_words": ["x"]}),
        ("sentence:increment", {"small_n": 1}),
    ],
)
def test_blank_answer_fails_everything(kind, kwargs, answer):
    assert check(kind, kwargs, answer) == (False, False)


@pytest.mark.parametrize("answer", ["tea", ""])
def test_unknown_kind_is_refused_by_name(answer):
    with pytest.raises(UserError, match="'punctuation:no_coma'"):
        check("punctuation:no_coma", {}, answer)


REFUSED = [
    ("keywords:frequency", {}),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2}),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": None}),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "around"}),
    ("keywords:frequency", {"keyword": "tea", "frequency": -1, "relation": "at least"}),
    ("keywords:existence", {"keywords": []}),
    ("keywords:existence", {"keywords": ["("]}),
    ("keywords:existence", {"keywords": {"tea"}}),
    ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}),
    ("length_constraints:number_words", {"num_words": "ten", "relation": "at least"}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "tea"}),
    ("language:response_language", {"language": "klingon"}),
    ("punctuation:no_comma", {"number": 3}),
    ("startend:end_checker", {"end_phrase": 3}),
    ("combination:repeat_prompt", {}),
    ("ratio:overlap", {"percentage": 10}),
    ("count:numbers", {}),
]


@pytest.mark.parametrize(("kind", "kwargs"), REFUSED)
def test_bad_arguments_are_refused_by_name(kind, kwargs):
    with pytest.raises(UserError) as caught:
        check(kind, kwargs, "tea")
    assert repr(kind) in caught.value.what
    for name, value in kwargs.items():
        assert value is None or repr(name) in caught.value.what


def test_arguments_that_are_none_are_left_out():
    assert follows("punctuation:no_comma", {"keyword": None, "N": None}, "tea")


def test_given_values_win_over_random_ones():
    # IFEval asks for '#' and '!', IFBench for a span from index 0; the checkers themselves would draw other values.
    letters = {"letter": "!", "let_frequency": 2, "let_relation": "at least"}
    assert follows("keywords:letter_frequency", letters, "Tea!!")
    assert not follows("keywords:letter_frequency", letters, "abcdefghijklmnopqrstuvwxyz" * 2)
    span = {"prompt_to_repeat": "One two three four", "n_start": 0, "n_end": 2}
    assert follows("repeat:repeat_span", span, "one two")
    assert not follows("repeat:repeat_span", span, "two three")


def test_random_state_is_untouched():
    rules._build.cache_clear()
    random.seed(5)
    before = random.getstate()
    with pytest.raises(UserError):
        check("keywords:frequency", {}, "tea")
    assert follows("punctuation:no_comma", {}, "tea")
    assert random.getstate() == before


def test_language_verdicts_are_reproducible():
    unclear = "da ser casa mus"  # unseeded, langdetect calls it Portuguese twice in three times, else Indonesian
    verdicts = {follows("language:response_language", {"language": "pt"}, unclear) for _ in range(40)}
    assert len(verdicts) == 1


def test_ending_verdicts_do_not_depend_on_earlier_ones():
    end = {"end_phrase": " That is ALL. "}
    verdicts = [follows("startend:end_checker", end, "tea, that is all.") for _ in range(3)]
    assert verdicts == [True] * 3
    assert not follows("startend:end_checker", end, "tea")


def test_checkers_that_compare_with_the_prompt_get_it(monkeypatch):
    class Echo:
        def __init__(self, id_):
            self.id = id_

        def get_instruction_args_keys(self):
            return ["prompt"]

        def build_description(self, *, prompt):
            self._prompt = prompt

        def check_following(self, value):
            return value == self._prompt

    monkeypatch.setattr(rules, "_registry", lambda: {"test:echo": Echo})
    assert follows("test:echo", {}, "Name a tea.", "Name a tea.")
    assert not follows("test:echo", {}, "Name a tea.", "Name a cake.")


# NLTK data.


@needs_nltk_data
def test_nltk_data_comes_first_and_once(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", ["/elsewhere"])
    monkeypatch.setenv("NLTK_DATA", "/elsewhere")
    use_nltk_data(NLTK_DATA)
    use_nltk_data(NLTK_DATA)
    assert nltk.data.path == [str(NLTK_DATA.resolve()), "/elsewhere"]
    assert os.environ["NLTK_DATA"] == str(NLTK_DATA.resolve())


@needs_nltk_data
@pytest.mark.parametrize("absent", ["tokenizers/punkt_tab", "corpora/stopwords"])
def test_incomplete_nltk_data_is_refused(tmp_path, monkeypatch, absent):
    import nltk

    paths = list(nltk.data.path)
    for part in {"tokenizers/punkt_tab", "corpora/stopwords"} - {absent}:
        (tmp_path / part).parent.mkdir()
        (tmp_path / part).symlink_to((NLTK_DATA / part).resolve())
    with pytest.raises(UserError, match=absent) as caught:
        use_nltk_data(tmp_path)
    assert caught.value.where == str(tmp_path)
    assert nltk.data.path == paths


@needs_nltk_data
def test_missing_tagger_is_noticed(monkeypatch):
    import nltk

    found = nltk.data.find

    def find_no_tagger(resource, *args, **kwargs):
        if "tagger" in resource:
            raise LookupError("*****\n  Resource 'averaged_perceptron_tagger_eng' not found.\n*****")
        return found(resource, *args, **kwargs)

    assert has_tagger()
    rules._build.cache_clear()
    monkeypatch.setattr(nltk.data, "find", find_no_tagger)
    monkeypatch.setattr(nltk.tag.perceptron, "find", find_no_tagger)
    nltk.tag._get_tagger.cache_clear()
    assert not has_tagger()
    with pytest.raises(UserError, match="averaged_perceptron_tagger_eng"):
        follows("words:start_verb", {}, "Go home.")
    assert follows("punctuation:no_comma", {}, "Go home.")


def test_import_never_touches_the_network(tmp_path):
    script = """
import socket
def refuse(*args, **kwargs): raise SystemExit("tried the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import nltk
def caught(*args, **kwargs): raise SystemExit("tried to download")
nltk.download = caught
nltk.data.path[:] = []
from rtt.judging.rules import check
assert check("punctuation:no_comma", {}, "tea") == (True, True)
assert nltk.download is caught
print("done")
"""
    environment = {**os.environ, "NLTK_DATA": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.strip() == "done", ran.stdout + ran.stderr


@needs_nltk_data
def test_an_answer_the_checker_trips_over_is_not_followed_and_told(caplog):
    answer = "ID,Country\rItaly,Rome"  # csv.Error: new-line character seen in unquoted field
    with pytest.raises(Exception, match="new-line character"):
        follows("custom:csv_city", {}, answer)
    assert check("custom:csv_city", {}, answer) == (False, False)
    assert "custom:csv_city cannot read an answer" in caplog.text
