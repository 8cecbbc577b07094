"""Answers from anywhere, scored on a benchmark in IFEval's format: matched to its prompts by their text."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from rtt.data.benchmarks import load_benchmark, split_scorable
from rtt.data.files import read_records
from rtt.errors import UserError
from rtt.judging.rules import has_tagger
from rtt.tables import Prompts, read_table

COLUMNS = ("key", "instruction", "instruction_id", "strict", "loose")
WRITERS = (".jsonl", ".csv", ".parquet")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")  # published files differ in what else they carry

    prompt: str
    response: str


def read_benchmark(
    path: Path, name: str, has_reader: bool = False
) -> tuple[pd.DataFrame, dict[str, str], pd.DataFrame]:
    """The prompts of a benchmark that can be scored; those that cannot, id → reason; and all of them.

    Args:
        path: the benchmark's own file, or the table `rtt benchmark` wrote.
        name: of the benchmark.
        has_reader: whether somebody decides what no checker does.

    Raises:
        UserError: a malformed file, an unknown instruction, or arguments its checker refuses, naming the row.
    """
    if path.suffix == ".parquet":
        table = read_table(path, Prompts)
        table = table[table["split"] == name]
        if table.empty:
            raise UserError(f"the table has no prompt of {name}", where=path, todo="give that benchmark's prompts")
    else:
        table = load_benchmark(path, name)
    scorable, left_out = split_scorable(table, has_tagger(), has_reader)
    return scorable, left_out, table


def read_answers(path: Path, prompts: pd.DataFrame, all_prompts: pd.DataFrame | None = None) -> dict[str, str]:
    """The response to each prompt, by prompt id.

    Args:
        path: JSONL, JSON or Parquet with `prompt` and `response`; a prompt is the last user message.
        prompts: the benchmark's, as far as they are scored.
        all_prompts: all of the benchmark's; answers to those that are not scored are passed over.

    Raises:
        UserError: naming the line: a missing field, a prompt answered twice or not of the benchmark; or prompts without
            an answer, of which there is never half a score.
    """
    ids = dict(zip(prompts["prompt"], prompts["prompt_id"], strict=True))
    if len(ids) < len(prompts):
        raise UserError(
            f"{len(prompts) - len(ids)} prompts of the benchmark end with the same message as another",
            where="--prompts",
            todo="such a benchmark cannot be matched by its prompts; have it answered by `rtt evaluate`",
        )
    passed_over = set() if all_prompts is None else set(all_prompts["prompt"])
    found: dict[str, str] = {}
    strangers = []
    for place, value in read_records(path):
        if isinstance(value, UserError):
            raise value
        try:
            answer = _Answer.model_validate(value)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(map(str, fault["loc"])) or "the row"
            raise UserError(
                f"{field}: {fault['msg']}", where=place, todo="give an object with the texts prompt and response"
            ) from None
        identifier = ids.get(answer.prompt)
        if identifier is None:
            strangers += [place] * (answer.prompt not in passed_over)
        elif identifier in found:
            raise UserError(f"{identifier} is answered a second time", where=place, todo="give one answer a prompt")
        else:
            found[identifier] = answer.response
    if strangers:
        raise UserError(
            f"{len(strangers)} answers are to no prompt of the benchmark",
            where=strangers[0],
            todo="leave them out; a prompt has to be the benchmark's to the letter",
        )
    lacking = [identifier for identifier in ids.values() if identifier not in found]
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(ids)} prompts have no answer, such as {lacking[0]}",
            where=path,
            todo="answer every prompt; an empty answer counts as a failure, a missing one as nothing",
        )
    return found


def answers_table(prompts: pd.DataFrame, answers: dict[str, str]) -> pd.DataFrame:
    """Rows of rtt.tables.Responses; how long an answer is in tokens is not known, and 0."""
    return pd.DataFrame(
        {
            "response_id": identifier,
            "prompt_id": identifier,
            "sample": 0,
            "response": answers[identifier],
            "tokens": 0,
            "truncated": False,
        }
        for identifier in prompts["prompt_id"]
    )


def verdicts_of(scores: pd.DataFrame) -> pd.DataFrame:
    """One row an instruction, as the benchmark names them: with `COLUMNS`."""
    place = scores["rubric_id"].str.rpartition("/")[2].astype(int)
    key = scores["prompt_id"].str.partition("/")[2]
    return pd.DataFrame(
        dict(zip(COLUMNS, (key, place, scores["kind"], scores["strict"], scores["loose"]), strict=True))
    )


def write_verdicts(verdicts: pd.DataFrame, path: Path) -> None:
    """Writes beside `path` and renames, in the form its suffix names. Raises UserError for another one."""
    if path.suffix not in WRITERS:
        raise UserError(
            f"no form goes with {path.suffix or 'a name without a suffix'}",
            where=path,
            todo=f"name a file that ends with {', '.join(WRITERS)}",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".parquet":
        verdicts.to_parquet(partial, index=False)
    elif path.suffix == ".csv":
        verdicts.to_csv(partial, index=False)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in verdicts.to_dict("records")]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)
