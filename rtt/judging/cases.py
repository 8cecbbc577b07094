"""What is judged and what comes out of it, whoever judges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rtt.rubrics import Rubric

Message = dict[str, str]
"""``role`` (system, user or assistant) and ``content``."""


@dataclass(frozen=True)
class Case:
    """One rubric of one response.

    Attributes:
        rubric: what is asked of the response.
        response: the answer.
        prompt: the last user message.
        messages: the whole conversation before the response, `prompt` last.
    """

    rubric: Rubric
    response: str
    prompt: str
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a judge said.

    Attributes:
        value: in [-1, 1]; NaN is missing, which is neither kept nor broken.
        judge: who said it: ``rule``, ``program``, or the model's name.
        reason: why it is missing, else empty.
    """

    value: float
    judge: str
    reason: str = ""

    @property
    def missing(self) -> bool:
        return math.isnan(self.value)


class Judge(Protocol):
    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict per case, in order. A case nobody could judge gets a missing one; only what stops the run is
        raised, as UserError."""
        ...
