"""A user's own prompts with rubrics (docs/data.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rtt.data.files import Place
from rtt.data.table import Row
from rtt.errors import UserError
from rtt.judging import rules
from rtt.judging.cases import Message
from rtt.rubrics import JUDGED, PROGRAM, Rubric
from rtt.tables import SPLITS


def not_blank(value: Any) -> Any:
    """The value, unless it is a text of white space alone, which raises ValueError."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is blank")
    return value


Text = Annotated[str, AfterValidator(not_blank)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Turn(_Strict):
    role: Literal["system", "user", "assistant"]
    content: Text


def check_turns(turns: list[Turn]) -> list[Turn]:
    """A conversation somebody can answer. Raises ValueError for any other."""
    if not turns or turns[-1].role != "user":
        raise ValueError("the last message must be the user's")
    if any(turn.role == "system" for turn in turns[1:]):
        raise ValueError("a system message stands first or not at all")
    return turns


class _Check(_Strict):
    kind: str | None = None
    kwargs: dict[str, Any] = {}
    program: str | None = None

    @model_validator(mode="after")
    def _one(self) -> _Check:
        if (self.kind is None) == (self.program is None):
            raise ValueError("name either a kind or a program")
        if self.program is not None and "check_following" not in self.program:
            raise ValueError("the program does not define check_following(instruction, response)")
        return self


class _OwnRubric(_Strict):
    text: Text
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    check: _Check | None = None
    kind: str | None = None
    kwargs: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one(self) -> _OwnRubric:
        if self.kind is not None and self.check is not None:
            raise ValueError("name the checker as kind or as check, not as both")
        return self


class _OwnPrompt(_Strict):
    prompt: str | list[Turn]
    rubrics: list[_OwnRubric] = Field(min_length=1)
    id: str | int | None = None
    topic: str | None = None
    split: str = "train"

    @field_validator("rubrics", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return (
            [{"text": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
        )

    @field_validator("prompt", "id", "topic")
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        return not_blank(value)

    @field_validator("prompt")
    @classmethod
    def _answerable(cls, value: str | list[Turn]) -> str | list[Turn]:
        return value if isinstance(value, str) else check_turns(value)


def is_own(value: Any) -> bool:
    """Whether a row looks like one of these, and not like HIR-16K's."""
    return not (isinstance(value, dict) and "ground_truth" in value)


def own_rows(records: Iterator[tuple[Place, Any]]) -> Iterator[Row | UserError]:
    """Rows of a user's own file, or what is wrong with one; prompt_id is ``<file>/<line>`` where a row has no id.

    Args:
        records: where each row stands, and its value.
    """
    for place, value in records:
        if isinstance(value, UserError):
            yield value
            continue
        try:
            yield _row(value, f"{place.file.stem}/{place.number:04d}", str(place))
        except UserError as error:
            yield error


def _row(value: Any, identifier: str, where: str) -> Row:
    try:
        own = _OwnPrompt.model_validate(value)
    except ValidationError as error:
        raise UserError(
            problem(error),
            where=where,
            todo="give prompt (text or messages) and rubrics (text, or objects with text and, where needed, check and "
            "weight); id, topic and split are optional (docs/data.md)",
        ) from None
    if own.split not in SPLITS:
        raise UserError(f"unknown split {own.split!r}", where=where, todo=f"take one of {', '.join(SPLITS)}")
    turns: tuple[Message, ...] = (
        ({"role": "user", "content": own.prompt},)
        if isinstance(own.prompt, str)
        else tuple({"role": turn.role, "content": turn.content} for turn in own.prompt)
    )
    prompt_id = identifier if own.id is None else str(own.id)
    topic = own.topic or prompt_id
    rubrics = [_rubric(f"{prompt_id}/{k}", rubric, turns[-1]["content"], where) for k, rubric in enumerate(own.rubrics)]
    return Row(prompt_id, own.split, topic, turns, rubrics, where, kept_with=topic)


def _rubric(identifier: str, own: _OwnRubric, prompt: str, where: str) -> Rubric:
    check = own.check or (None if own.kind is None else _Check(kind=own.kind, kwargs=own.kwargs))
    kind, kwargs = _kind(check, prompt, where)
    return Rubric(rubric_id=identifier, kind=kind, text=own.text, kwargs=kwargs, weight=own.weight)


def _kind(check: _Check | None, prompt: str, where: str) -> tuple[str, dict[str, Any]]:
    """Kind and arguments of a rubric. Raises UserError for a checker that is not there or refuses its arguments."""
    if check is None:
        return JUDGED, {"why": "no check given"}
    if check.program is not None:
        return PROGRAM, {"source": check.program, "instruction": prompt}
    assert check.kind is not None
    kwargs = {name: item for name, item in check.kwargs.items() if item is not None}
    if check.kind not in rules.kinds():
        known = ", ".join(sorted(rules.kinds()))
        raise UserError(f"unknown rubric kind {check.kind!r}", where=where, todo=f"take one of: {known}")
    try:
        rules.require_arguments(check.kind, kwargs, prompt)
    except UserError as error:
        raise UserError(error.what, where=where, todo=error.todo) from None
    return check.kind, kwargs


def problem(error: ValidationError) -> str:
    """The first thing wrong with a row, with its place in it."""
    # A prompt is a text or messages; that it is not the other of the two says nothing to the user.
    found = error.errors()
    first = next((one for one in found if one["loc"][-1:] not in (("str",), ("list[Turn]",))), found[0])
    place = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[Turn]"))
    return f"{place or 'the row'}: {first['msg'].removeprefix('Value error, ')}"
