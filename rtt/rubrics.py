"""A rubric: one criterion of a prompt, and how it is written into a table."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

JUDGED = "judge"
"""Kind of a rubric no program decides: a language model reads it."""

PROGRAM = "program"
"""Kind of a rubric that comes with a program of its own, ``kwargs["source"]``; it runs in a sandbox alone."""


class Rubric(BaseModel):
    """One criterion a response is judged by.

    Attributes:
        rubric_id: unique over all prompts, ``<prompt_id>/<position>``.
        kind: the checker's name, for example ``punctuation:no_comma``.
        text: the criterion in words, as the discriminator and a judge read it.
        kwargs: the checker's arguments, without the ones that are None.
        weight: how much it counts beside the prompt's other rubrics.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rubric_id: str
    kind: str
    text: str
    kwargs: dict[str, Any] = {}
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


_RUBRICS = TypeAdapter(list[Rubric])


def dump_rubrics(rubrics: list[Rubric]) -> str:
    """Rubrics as the JSON string the ``rubrics`` column holds (kwargs differ by row, so Arrow structs would merge)."""
    plain = [rubric.model_dump(exclude={"weight"} if rubric.weight == 1 else None) for rubric in rubrics]
    return json.dumps(plain, ensure_ascii=False, sort_keys=True)


def parse_rubrics(text: str) -> list[Rubric]:
    """The inverse of :func:`dump_rubrics`. Raises ``pydantic.ValidationError`` on anything else."""
    return _RUBRICS.validate_json(text)
