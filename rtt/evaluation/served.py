"""Answers of a model behind an OpenAI-compatible address."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtt.config import Endpoint, Protocol
from rtt.errors import UserError
from rtt.evaluation.kept import Answer
from rtt.evaluation.templates import SWITCH, without_thoughts
from rtt.judging.cache import Cache
from rtt.judging.cases import Message
from rtt.judging.endpoint import EndpointClient
from rtt.judging.requests import Reply, Request

TASK = "answer/1"


class _Client(EndpointClient):
    """Takes an answer as it is, cut off or empty, and notes which it was."""

    def __init__(self, settings: Endpoint, protocol: Protocol, cache: Cache, switch: bool) -> None:
        super().__init__(settings, cache)
        self.protocol, self.switch = protocol, switch

    def parameters(self) -> dict[str, Any]:
        # What has its default is left out: not every server knows top_k, which is none of OpenAI's parameters.
        chosen: dict[str, Any] = super().parameters()
        if self.protocol.top_p < 1:
            chosen["top_p"] = self.protocol.top_p
        if self.protocol.top_k:
            chosen["top_k"] = self.protocol.top_k
        if self.switch:
            chosen["chat_template_kwargs"] = {SWITCH: self.protocol.thinking}
        return chosen

    def _reply(self, text: str, tokens: int, *, cut_off: bool) -> Reply:
        return Reply(json.dumps({"text": without_thoughts(text), "tokens": tokens, "truncated": cut_off}))


class Served:
    """A model at an address.

    Args:
        settings: address, model and limits; budget and temperature are the protocol's.
        protocol: how answers are asked for.
        cache: file of all answers: none is asked for twice.
        switch: whether the server is told by ``chat_template_kwargs`` whether the model thinks first, as vLLM's and
            SGLang's can be.
    """

    def __init__(self, settings: Endpoint, protocol: Protocol, cache: Path, switch: bool = False) -> None:
        asked = {"max_tokens": protocol.max_tokens, "temperature": protocol.temperature, "answer_format": "text"}
        self.settings, self.protocol, self.switch = settings.model_copy(update=asked), protocol, switch
        self.client = _Client(self.settings, protocol, Cache(cache), switch)

    def answer(self, conversations: Sequence[Sequence[Message]], title: str) -> list[Answer]:
        """`samples` answers in a row for each conversation.

        Raises:
            UserError: the server refuses key or model, or some answers are missing; those that came are kept.
        """
        asked = [
            Request(tuple(turns), None, TASK, sample)
            for turns in conversations
            for sample in range(self.protocol.samples)
        ]
        replies = self.client.ask(asked, title)
        lost = Counter(reply.problem for reply in replies if reply.text is None)
        if lost:
            causes = "; ".join(f"{count} x {cause}" for cause, count in lost.most_common(5))
            raise UserError(
                f"{lost.total()} of {len(replies)} answers are missing: {causes}",
                where=f"{self.settings.base_url}, model {self.settings.model}",
                todo="look at the server and run the same command again: what was answered is kept. Status 400 may "
                "mean that it does not take the protocol's top_k",
            )
        return [Answer(**json.loads(reply.text)) for reply in replies if reply.text is not None]

    def record(self) -> dict[str, Any]:
        """Who answered, for the record beside the scores."""
        switched = ("on" if self.protocol.thinking else "off") if self.switch else "left to the server"
        return {
            "generator": "OpenAI-compatible endpoint",
            "endpoint": self.settings.base_url,
            "model": self.settings.model,
            "chat_template": {"thinking": switched, "template": "the server's"},
        }

    def done(self) -> None:
        """Called when the scores are written; answers stay, so that the same command asks nothing again."""
