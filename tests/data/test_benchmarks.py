import json
import random
import re
from pathlib import Path

import pytest

from rtt.data.benchmarks import NO_TAGGER, TAGGER_KINDS, load_benchmark, split_scorable
from rtt.errors import UserError
from rtt.judging import rules
from rtt.rubrics import parse_rubrics
from rtt.tables import Prompts

FILES = {"ifbench": ("ifbench/IFBench_test.jsonl", 294), "ifeval": ("ifeval/input_data.jsonl", 541)}


def row(key, *kinds, kwargs=None):
    kinds = kinds or ("punctuation:no_comma",)
    kwargs = [{} for _ in kinds] if kwargs is None else kwargs
    return {"key": key, "prompt": f"Question {key}", "instruction_id_list": list(kinds), "kwargs": kwargs}


@pytest.fixture
def write(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
        return path

    return write


@pytest.fixture
def published(shared_data):
    def load(name, **arguments):
        path = shared_data / FILES[name][0]
        if not path.is_file():
            pytest.skip(f"no benchmark file at {path}")
        return load_benchmark(path, name, **arguments)

    return load


@pytest.mark.parametrize("name", FILES)
def test_the_published_file_is_read_whole(published, name):
    table = published(name)
    Prompts.validate(table, lazy=True)
    assert len(table) == FILES[name][1]
    assert set(table["split"]) == set(table["topic"]) == {name}
    keys = [int(prompt_id.removeprefix(f"{name}/")) for prompt_id in table["prompt_id"]]
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", FILES)
def test_published_rubrics_have_wordings_and_no_none(published, name):
    rubrics = [rubric for text in published(name)["rubrics"] for rubric in parse_rubrics(text)]
    assert all(None not in rubric.kwargs.values() for rubric in rubrics)
    # Without wording: letters that are none ("#", "!"), and a span that starts at 0, which checkers make up anew.
    bare = sorted(rubric.kind for rubric in rubrics if rubric.text == rubric.kind)
    expected = {"ifeval": ["keywords:letter_frequency"] * 2, "ifbench": ["repeat:repeat_span"]}
    assert bare == expected[name]


def test_reading_twice_gives_the_same_and_leaves_the_random_state_alone(published):
    random.seed(5)
    state = random.getstate()
    first = published("ifbench")
    assert random.getstate() == state
    random.seed(6)
    assert first.equals(published("ifbench"))


def test_without_the_tagger_six_published_prompts_are_left_out(published):
    table = published("ifbench")
    kept, left_out = split_scorable(table, has_tagger=False, has_reader=False)
    assert left_out == {f"ifbench/{key}": NO_TAGGER for key in range(257, 263)}
    assert len(kept) == 288
    assert not set(kept["prompt_id"]) & set(left_out)
    assert kept.index.tolist() == list(range(288))


def test_with_the_tagger_nothing_is_left_out(published):
    table = published("ifbench")
    kept, left_out = split_scorable(table, has_tagger=True, has_reader=False)
    assert left_out == {}
    assert kept.equals(table)


def test_no_other_checker_uses_the_tagger():
    rules.kinds()  # imports the registries without downloading anything
    from if_verifiable.ifbench import instructions as ifbench
    from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
    from if_verifiable.ifeval import instructions as ifeval
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL

    users = set()
    for module, registry in ((ifbench, IFBENCH), (ifeval, IFEVAL)):
        classes = re.split(r"^class (?=\w+)", Path(module.__file__).read_text(), flags=re.MULTILINE)
        names = {re.match(r"\w+", body).group() for body in classes[1:] if "pos_tag" in body}
        users |= {kind for kind, checker in registry.items() if checker.__name__ in names}
    assert users == TAGGER_KINDS


def test_a_rubric_is_worded_by_its_checker_and_none_is_dropped(write):
    kwargs = [{"letter": None}, {"num_words": 40, "relation": "at least", "keywords": None}]
    path = write(row("7", "punctuation:no_comma", "length_constraints:number_words", kwargs=kwargs))
    [text] = load_benchmark(path, "ifeval")["rubrics"]
    assert [rubric.model_dump(exclude={"weight"}) for rubric in parse_rubrics(text)] == [
        {
            "rubric_id": "ifeval/7/0",
            "kind": "punctuation:no_comma",
            "text": "In your entire response, refrain from the use of any commas.",
            "kwargs": {},
        },
        {
            "rubric_id": "ifeval/7/1",
            "kind": "length_constraints:number_words",
            "text": "Answer with at least 40 words.",
            "kwargs": {"num_words": 40, "relation": "at least"},
        },
    ]


@pytest.mark.parametrize("kwargs", [{}, {"num_words": 40, "relation": "around"}, {"number": 3}])
def test_arguments_the_checker_refuses_or_would_make_up_are_refused_by_row(write, kwargs):
    path = write(row(1), row(2, "length_constraints:number_words", kwargs=[kwargs]))
    with pytest.raises(UserError, match="length_constraints:number_words' cannot use the arguments") as caught:
        load_benchmark(path, "ifeval")
    assert str(caught.value.where) == f"{path}, line 2, prompt ifeval/2"


def test_rows_are_sorted_by_key_as_a_number(write):
    path = write(row("10"), row("x"), row("9"), row(100))
    assert load_benchmark(path, "ifbench")["prompt_id"].tolist() == [f"ifbench/{key}" for key in (9, 10, 100, "x")]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ('{"key": 1', "not JSON"),
        ('"text"', "the row"),
        ({name: value for name, value in row(2).items() if name != "key"}, "key"),
        ({name: value for name, value in row(2).items() if name != "kwargs"}, "kwargs"),
        ({**row(2), "instruction_id_list": []}, "instruction_id_list"),
        ({**row(2), "prompt": ""}, "prompt"),
        (row(2, kwargs=[{}, {}]), "1 instruction.* but 2 kwargs"),
        (row(2, "punctuation:no_comma", "startend:quotation", kwargs=[{}]), "2 instruction.* but 1 kwargs"),
        (row(2, "punctuation:no_coma"), "unknown instruction 'punctuation:no_coma'"),
        (row(1), "key '1' is repeated"),
        (row("1"), "key '1' is repeated"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(write, bad, what):
    path = write(row(1), bad)
    with pytest.raises(UserError, match=what) as caught:
        load_benchmark(path, "ifeval")
    assert caught.value.where == f"{path}, line 2"
    assert caught.value.todo


@pytest.mark.parametrize(
    ("arguments", "what"),
    [({"name": "mmlu"}, "unknown benchmark 'mmlu'")],
)
def test_arguments_that_make_no_sense_are_refused(write, arguments, what):
    with pytest.raises(UserError, match=what):
        load_benchmark(write(row(1)), **arguments)


def test_an_empty_or_absent_file_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match="cannot be read"):
        load_benchmark(path, "ifbench")
    path.write_text("\n")
    with pytest.raises(UserError, match="empty"):
        load_benchmark(path, "ifbench")
