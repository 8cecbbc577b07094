"""Benchmarks as prompts with rubrics, each by the loader of its format."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rtt.data.advancedif import load_advancedif
from rtt.data.files import read_json_lines
from rtt.data.muldimif import load_muldimif
from rtt.data.prompts import COLUMNS
from rtt.errors import UserError
from rtt.judging import rules
from rtt.rubrics import JUDGED, Rubric, dump_rubrics, parse_rubrics
from rtt.tables import Prompts, check_table

TAGGER_KINDS = frozenset({"words:start_verb"})
"""Kinds whose checker needs NLTK's ``averaged_perceptron_tagger_eng``."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")  # published files differ in what else they carry

    key: int | str
    prompt: str = Field(min_length=1)
    instruction_id_list: list[str] = Field(min_length=1)
    kwargs: list[dict[str, Any] | None]


def load_benchmark(path: Path, name: str) -> pd.DataFrame:
    """A benchmark's prompts, valid for ``rtt.tables.Prompts``; prompt_id is ``<name>/<key>``, split the name.

    Raises:
        UserError: unknown name; whatever the loader of its format refuses.
    """
    if name not in LOADERS:
        raise UserError(
            f"unknown benchmark {name!r}", where="sources.benchmarks", todo=f"take one of {', '.join(LOADERS)}"
        )
    return LOADERS[name](path, name)


def load_ifeval(path: Path, name: str) -> pd.DataFrame:
    """A benchmark in IFEval's format, sorted by key.

    Args:
        path: JSONL with the fields key, prompt, instruction_id_list and kwargs (one object an instruction).
        name: the split and the topic of every row.

    Returns:
        One row a prompt. A rubric's text is the checker's own wording, or its kind where the checker has none for these
        arguments; arguments that are None are left out.

    Raises:
        UserError: file absent or empty; naming the line: bad JSON, a missing field, a repeated key, an unknown
            instruction, fewer or more kwargs than instructions, arguments the checker refuses.
    """
    rows: dict[str, dict[str, str]] = {}
    for line, value in read_json_lines(path):
        where = f"{path}, line {line}"
        row = _checked_row(value, where)
        key = str(row.key)
        if key in rows:
            raise UserError(f"the key {key!r} is repeated", where=where, todo="give every prompt a key of its own")
        prompt_id = f"{name}/{key}"
        rubrics = [
            _rubric(f"{prompt_id}/{k}", kind, kwargs or {}, row.prompt)
            for k, (kind, kwargs) in enumerate(zip(row.instruction_id_list, row.kwargs, strict=True))
        ]
        for rubric in rubrics:
            try:
                rules.require_arguments(rubric.kind, rubric.kwargs, row.prompt)
            except UserError as error:
                raise UserError(error.what, where=f"{where}, prompt {prompt_id}", todo=error.todo) from None
        rows[key] = dict(zip(COLUMNS, (prompt_id, name, name, row.prompt, dump_rubrics(rubrics)), strict=True))

    keys = sorted(rows, key=_by_number)
    return check_table(pd.DataFrame([rows[key] for key in keys], columns=COLUMNS), Prompts, path)


LOADERS: dict[str, Callable[[Path, str], pd.DataFrame]] = {
    "ifeval": load_ifeval,
    "ifbench": load_ifeval,
    "muldimif": load_muldimif,
    "advancedif": load_advancedif,
}
"""The benchmarks there are. One more is a loader here, a page in docs/benchmarks and a name in the configuration."""

NO_TAGGER = "their checker lacks its NLTK data"
NO_READER = "they have rubrics no program decides, and no judge is configured"


def split_scorable(prompts: pd.DataFrame, has_tagger: bool, has_reader: bool) -> tuple[pd.DataFrame, dict[str, str]]:
    """The prompts whose rubrics can all be judged, and the ids of those left out, in order, with the reason why.

    Args:
        prompts: prompts, valid for ``rtt.tables.Prompts``.
        has_tagger: whether NLTK's ``averaged_perceptron_tagger_eng`` is there, without which prompts with a rubric of
            ``TAGGER_KINDS`` are left out.
        has_reader: whether a language model, or the benchmark's own evaluator, decides what no checker here does.

    Raises:
        UserError: nothing is left.
    """
    left_out = {}
    for prompt_id, text in zip(prompts["prompt_id"], prompts["rubrics"], strict=True):
        found = {rubric.kind for rubric in parse_rubrics(text)}
        if not has_reader and JUDGED in found:
            left_out[prompt_id] = NO_READER
        elif not has_tagger and not TAGGER_KINDS.isdisjoint(found):
            left_out[prompt_id] = NO_TAGGER
    if len(left_out) == len(prompts):
        raise UserError(
            f"no prompt of {prompts['split'].iloc[0]} can be scored: {next(iter(left_out.values()))}",
            where=f"its {len(prompts)} prompts",
            todo="configure a judge (docs/judge.md), or name the benchmark's own evaluator",
        )
    return prompts[~prompts["prompt_id"].isin(list(left_out))].reset_index(drop=True), left_out


def _by_number(key: str) -> tuple[int, str]:
    """Sorts keys that are numbers as numbers, before any others."""
    return (int(key) if key.isascii() and key.isdigit() else 2**63, key)


def _checked_row(value: Any, where: str) -> _Row:
    try:
        row = _Row.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{place or 'the row'}: {first['msg']}",
            where=where,
            todo="give key, prompt, instruction_id_list and kwargs, as IFEval's published file does",
        ) from None
    if len(row.kwargs) != len(row.instruction_id_list):
        raise UserError(
            f"{len(row.instruction_id_list)} instruction(s) but {len(row.kwargs)} kwargs",
            where=where,
            todo="give one object of kwargs, which may be empty, for each instruction",
        )
    unknown = [kind for kind in row.instruction_id_list if kind not in rules.kinds()]
    if unknown:
        raise UserError(
            f"unknown instruction {unknown[0]!r}",
            where=where,
            todo="correct it, or use a file whose instructions all have a checker in if-verifiable",
        )
    return row


def _rubric(rubric_id: str, kind: str, kwargs: dict[str, Any], prompt: str) -> Rubric:
    given = {name: value for name, value in kwargs.items() if value is not None}
    return Rubric(rubric_id=rubric_id, kind=kind, text=_describe(kind, given, prompt) or kind, kwargs=given)


def _describe(kind: str, kwargs: dict[str, Any], prompt: str) -> str:
    """The checker's own wording, or "" where it refuses the arguments or would make some up at random."""
    # Importing these downloads data unless rules.kinds() has imported them before, which load_benchmark's check did.
    from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL

    checker = {**IFBENCH, **IFEVAL}[kind](kind)
    given = {**kwargs, "prompt": prompt} if "prompt" in checker.get_instruction_args_keys() else kwargs
    state = random.getstate()
    try:
        text = checker.build_description(**given)
        drew = random.getstate() != state
    except Exception:  # a checker meets a bad argument with any of TypeError, ValueError, KeyError
        return ""
    finally:
        random.setstate(state)
    return "" if drew or not isinstance(text, str) else text.strip()
