"""HIR-16K: prompts with rubrics in four types, each rubric sent to what can decide it.

======  ================================================================  ==============================
type    fields of ``ground_truth``, aligned with the rubrics               goes to
======  ================================================================  ==============================
type1   ``instruction_id_list``, ``kwargs``                                IFEval's checkers
type2   the same                                                           IFBench's checkers
type3   ``constraints``: [category, subcategory, text]                     MulDimIF's, where they decide
type4   ``checker``: "[rule]…" or "[llm]…"; ``functions``: programs        the sandbox, or a reader
======  ================================================================  ==============================

What no program decides goes to a language model, by name: ``kwargs["why"]`` of its rubric says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rtt.data.files import Place
from rtt.data.own import Text, Turn, check_turns, not_blank, problem
from rtt.data.table import Row
from rtt.errors import UserError
from rtt.judging import rules
from rtt.judging.cases import Message
from rtt.judging.constraints import decide
from rtt.rubrics import JUDGED, PROGRAM, Rubric


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")  # published files differ in what else they carry


class _Description(_Lenient):
    description: Text
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class _Truth(_Lenient):
    instruction_id_list: list[str] | None = None
    kwargs: list[dict[str, Any] | None] | None = None
    constraints: list[tuple[str, str, str]] | None = None
    checker: list[str] | None = None
    functions: list[str | None] | None = None


class _HirRow(_Lenient):
    id: str | int | None = None
    prompt: str | list[Turn] | None = None
    messages: list[Turn] | None = None
    rubrics: list[_Description] = Field(min_length=1)
    source: Literal["type1", "type2", "type3", "type4"]
    ground_truth: _Truth

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        return not_blank(value)

    @field_validator("rubrics", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"description": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("ground_truth", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("it is a text that is no JSON") from None
        return value


def hir_rows(records: Iterator[tuple[Place, Any]]) -> Iterator[Row | UserError]:
    """Rows of HIR-16K, all in the split train, with the type as topic; or what is wrong with one.

    prompt_id is ``<file>/<id>``, or ``<file>/<line>`` where a row has no id.

    Args:
        records: where each row stands, and its value.
    """
    for place, value in records:
        if isinstance(value, UserError):
            yield value
            continue
        try:
            yield _row(value, place)
        except UserError as error:
            yield error


def _row(value: Any, place: Place) -> Row:
    where = str(place)
    todo = "give prompt or messages, rubrics with a description, source and ground_truth (docs/data.md)"
    try:
        row = _HirRow.model_validate(value)
        asked = row.messages or row.prompt
        if not asked:
            raise UserError("prompt: there is neither a prompt nor messages", where=where, todo=todo)
        turns = check_turns([Turn(role="user", content=asked)] if isinstance(asked, str) else asked)
    except ValidationError as error:
        raise UserError(problem(error), where=where, todo=todo) from None
    except ValueError as error:
        raise UserError(f"messages: {error}", where=where, todo=todo) from None
    messages: tuple[Message, ...] = tuple({"role": turn.role, "content": turn.content} for turn in turns)
    prompt_id = f"{place.file.stem}/{row.id if row.id is not None else place.number}"
    checks = _checks(row, messages[-1]["content"])
    if len(checks) != len(row.rubrics):
        what = f"ground_truth: there are {len(row.rubrics)} rubrics and {len(checks)} entries for them"
        raise UserError(what, where=where, todo=todo)
    programs = row.ground_truth.functions
    if row.source == "type4" and programs and len(programs) != len(checks):
        what = f"ground_truth: there are {len(row.rubrics)} rubrics and {len(programs)} functions"
        raise UserError(
            what, where=where, todo="give a function or null for each rubric, so that it is known whose it is"
        )
    rubrics = [
        Rubric(rubric_id=f"{prompt_id}/{k}", kind=kind, text=text.description, kwargs=kwargs, weight=text.weight)
        for k, (text, (kind, kwargs)) in enumerate(zip(row.rubrics, checks, strict=True))
    ]
    return Row(prompt_id, "train", row.source, messages, rubrics, where, kept_with=prompt_id)


def _checks(row: _HirRow, prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and arguments of each rubric, in order."""
    truth = row.ground_truth
    if row.source in ("type1", "type2"):
        names = truth.instruction_id_list or []
        arguments = truth.kwargs or [None] * len(names)
        if len(names) != len(arguments):
            return []
        return [_by_rule(name, kwargs or {}, prompt) for name, kwargs in zip(names, arguments, strict=True)]
    if row.source == "type3":
        return [
            decide(*constraint) or _to_reader(f"no checker decides {constraint[0]}, {constraint[1]}")
            for constraint in truth.constraints or []
        ]
    checkers = truth.checker or []
    programs = [*(truth.functions or []), *[None] * len(checkers)]
    return [_by_program(tag, source, prompt) for tag, source in zip(checkers, programs, strict=False)]


def _by_rule(name: str, kwargs: dict[str, Any], prompt: str) -> tuple[str, dict[str, Any]]:
    given = {key: value for key, value in kwargs.items() if value is not None}
    if name not in rules.kinds():
        return _to_reader(f"no checker is called {name}")
    try:
        rules.require_arguments(name, given, prompt)
    except UserError:
        return _to_reader(f"the checker {name} refuses the arguments")
    return name, given


def _by_program(tag: str, source: str | None, prompt: str) -> tuple[str, dict[str, Any]]:
    if tag.strip().lower().startswith("[llm]"):
        return _to_reader("marked for a reader")
    if not tag.strip().lower().startswith("[rule]"):
        return _to_reader("marked neither for a rule nor for a reader")
    if not source or "check_following" not in source:
        return _to_reader("marked for a rule, and has no program")
    return PROGRAM, {"source": source, "instruction": prompt}


def _to_reader(why: str) -> tuple[str, dict[str, Any]]:
    return JUDGED, {"why": why}
