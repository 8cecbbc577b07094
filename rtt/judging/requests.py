"""What is asked of a language model behind an endpoint, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rtt.judging.cases import Message


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        messages: system and user messages.
        schema: JSON schema of the answer; servers that cannot hold to it are asked without. None lets it be free.
        task: what the answer is for and in which version, such as ``verdict/1``; part of the cache's key.
        sample: number of the answer among several to one question; part of the cache's key.
    """

    messages: tuple[Message, ...]
    schema: dict[str, Any] | None
    task: str
    sample: int = 0


@dataclass(frozen=True)
class Reply:
    """An answer, or why there is none.

    Attributes:
        text: as the model wrote it; None when there is none.
        problem: why there is none, in a few words; else empty.
    """

    text: str | None
    problem: str = ""


class Asks(Protocol):
    def ask(self, requests: Sequence[Request], title: str = "questions") -> list[Reply]:
        """One reply per request, in order."""
        ...
