"""Questions to a language model behind an OpenAI-compatible address."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, quantiles
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from rtt.config import Endpoint
from rtt.errors import UserError
from rtt.judging.cache import Cache, key_of
from rtt.judging.pace import Pace
from rtt.judging.requests import Reply, Request

if TYPE_CHECKING:
    import openai

_log = logging.getLogger(__name__)

FATAL = {
    401: "the key is not accepted",
    402: "the account cannot pay",
    403: "the key may not use this model",
    404: "there is no such model or address",
}
"""Statuses no question would fare better with; the run stops."""

AGAIN = {408, 409, 425, 429}
"""Statuses, besides those from 500 on, after which a question is asked again."""

_REFUSED = (Reply(None, "status 400"), Reply(None, "status 422"))
"""How a server refuses a question, be it for its schema or for something else."""

STAGGER = 0.002
"""Seconds between the first questions: sent at once, they are answered at once, and each answer waits for the others to
be read before the next question goes out, wave after wave."""

LONGEST_WAIT = 60.0
"""Seconds between two tries at most, unless the server asks for more."""


COUNTED = ("calls", "cache_hits", "tokens_input", "tokens_output", "cost")
"""Of the figures, those that add up."""


@dataclass
class Figures:
    """What a client has done so far."""

    calls: int = 0
    cache_hits: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def flat(self, settings: Endpoint) -> dict[str, float]:
        """Names and numbers, as MLflow takes them; no latency and no cost where nothing was asked or priced."""
        known: dict[str, float] = {
            "calls": self.calls,
            "cache_hits": self.cache_hits,
            "tokens_input": self.tokens_input,
            "tokens_output": self.tokens_output,
            **{f"failures/{cause}": count for cause, count in sorted(self.failures.items())},
        }
        if self.seconds:
            cuts = quantiles(self.seconds, n=20, method="inclusive") if len(self.seconds) > 1 else self.seconds * 19
            known |= {"latency_mean": fmean(self.seconds), "latency_p50": cuts[9], "latency_p95": cuts[18]}
        if settings.price_input is not None and settings.price_output is not None:
            spent = self.tokens_input * settings.price_input + self.tokens_output * settings.price_output
            known["cost"] = spent / 1e6
        return known


@dataclass(frozen=True)
class _Again:
    """A try that failed and may be made again.

    Attributes:
        problem: why.
        wait: seconds the server asks to wait; None leaves it to us.
    """

    problem: str
    wait: float | None = None


class EndpointClient:
    """Asks questions, many at a time, and keeps every answer (rtt.judging.requests.Asks).

    Args:
        settings: address, model and limits.
        cache: of earlier answers; with all of them there, nothing is asked and no key is needed.
    """

    def __init__(self, settings: Endpoint, cache: Cache | None = None) -> None:
        self.settings, self.cache, self.figures = settings, cache, Figures()
        self.holds_schema = settings.answer_format != "text"

    def ask(self, requests: Sequence[Request], title: str = "questions") -> list[Reply]:
        """One reply per request, in order; equal requests are asked once.

        Raises:
            UserError: no key; or the server refuses key, payment or model. Answers that came before are in the cache.
        """
        keys = [key_of(request, self.settings.model, self.parameters()) for request in requests]
        replies: dict[str, Reply] = {}
        open_: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            known = self.cache.get(key) if self.cache is not None else None
            if known is not None:
                self.figures.cache_hits += 1
                replies[key] = Reply(known)
            else:
                open_[key] = request
        if open_:
            replies |= asyncio.run(self._ask_all(open_, title))
        return [replies[key] for key in keys]

    def parameters(self) -> dict[str, Any]:
        """How the model is to sample, as it is asked; part of the cache's key."""
        return {"temperature": self.settings.temperature, "max_tokens": self.settings.max_tokens}

    async def _ask_all(self, requests: dict[str, Request], title: str) -> dict[str, Reply]:
        import openai  # slow to import, and many runs need none

        replies: dict[str, Reply] = {}
        places = asyncio.Semaphore(self.settings.concurrency)
        paces = Pace(self.settings.requests_per_minute), Pace(self.settings.tokens_per_minute)
        bar = tqdm(total=len(requests), desc=title, disable=None)

        async def one(client: openai.AsyncOpenAI, place: int, key: str, request: Request) -> None:
            async with places:
                if place < self.settings.concurrency:
                    await asyncio.sleep(place * STAGGER)
                reply = await self._ask(client, request, paces)
            replies[key] = reply
            if reply.text is None:
                self.figures.failures[reply.problem] += 1
            elif self.cache is not None:
                self.cache.put(key, request.task, self.settings.model, reply.text)
            bar.update()

        client = openai.AsyncOpenAI(base_url=self.settings.base_url, api_key=self._key(), max_retries=0, timeout=None)
        async with client:
            try:
                async with asyncio.TaskGroup() as group:
                    for place, (key, request) in enumerate(requests.items()):
                        group.create_task(one(client, place, key, request))
            except* UserError as several:
                raise several.exceptions[0] from None
            finally:
                bar.close()
        return replies

    async def _ask(self, client: openai.AsyncOpenAI, request: Request, paces: tuple[Pace, Pace]) -> Reply:
        """One question with all its tries."""
        size = sum(len(message["content"]) for message in request.messages) / 4 + self.settings.max_tokens
        problem = ""
        try:
            async with asyncio.timeout(self.settings.deadline_seconds) as deadline:
                for attempt in range(self.settings.retries + 1):
                    found = await self._try_in_form(client, request, partial(_turn, paces, size, deadline))
                    if isinstance(found, Reply):
                        return found
                    problem = found.problem
                    if attempt < self.settings.retries:
                        # Full jitter: many that failed together do not come back together.
                        jittered = random.uniform(0, min(LONGEST_WAIT, 0.5 * 2**attempt))
                        wait = jittered if found.wait is None else found.wait + 0.1 * jittered
                        if wait >= _left(deadline):
                            break  # sleeping until the deadline would keep the place from another question
                        await asyncio.sleep(wait)
                    else:
                        return Reply(None, problem)
        except TimeoutError:
            pass
        return Reply(None, f"deadline after {problem}" if problem else "deadline")

    async def _try_in_form(
        self, client: openai.AsyncOpenAI, request: Request, turn: Callable[[], Awaitable[None]]
    ) -> Reply | _Again:
        """One call, with the schema where the server has it; where it may be the schema that is refused, a second one
        without."""
        await turn()
        with_schema = self.holds_schema and request.schema is not None
        found = await self._try(client, request, with_schema)
        if not with_schema or self.settings.answer_format != "auto" or found not in _REFUSED:
            return found
        await turn()
        without = await self._try(client, request, False)
        # A question refused either way, such as one that is too long, says nothing about schemas.
        if isinstance(without, Reply) and without not in _REFUSED:
            if self.holds_schema:
                _log.warning("%s takes no JSON schema; asked without", self.settings.base_url)
            self.holds_schema = False
        return without

    async def _try(self, client: openai.AsyncOpenAI, request: Request, with_schema: bool) -> Reply | _Again:
        """One call."""
        import openai

        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": request.messages,
            **self.parameters(),
        }
        if with_schema:
            named = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        started = time.monotonic()
        self.figures.calls += 1
        try:
            # Not chat.completions.create: a third of its time goes into types that are of no use here.
            answer = await client.post("/chat/completions", cast_to=object, body=body)
        except openai.APIStatusError as error:
            status = error.status_code
            if status in FATAL:
                raise UserError(
                    f"the server answers {status}: {FATAL[status]}",
                    where=f"{self.settings.base_url}, model {self.settings.model}",
                    todo=f"check the endpoint's settings and the key in the environment variable "
                    f"{self.settings.api_key_variable}; what was answered so far is kept",
                ) from None
            if status in AGAIN or status >= 500:
                return _Again(f"status {status}", _retry_after(error.response.headers.get("retry-after")))
            return Reply(None, f"status {status}")
        except openai.APIConnectionError:  # a time-out is one, too
            return _Again("no connection")
        except (openai.APIError, ValueError):  # a body that is no JSON
            return _Again("no readable answer")
        return self._read(answer, time.monotonic() - started)

    def _read(self, answer: Any, seconds: float) -> Reply | _Again:
        """What stands in a body. Servers send anything: nothing is assumed."""
        choices = _field(answer, "choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = _field(choice, "message")
        text = message.get("content") if isinstance(message, dict) else False
        if not isinstance(text, str | None) or not _is_unicode(text or ""):
            return _Again("no readable answer")
        self.figures.seconds.append(seconds)
        usage = _field(answer, "usage")
        tokens = _count(_field(usage, "completion_tokens"))
        self.figures.tokens_input += _count(_field(usage, "prompt_tokens"))
        self.figures.tokens_output += tokens
        return self._reply(text or "", tokens, cut_off=_field(choice, "finish_reason") == "length")

    def _reply(self, text: str, tokens: int, *, cut_off: bool) -> Reply:
        """What a readable answer is worth here: cut off or empty, it answers no question."""
        if cut_off:
            return Reply(None, "answer cut off at max_tokens")
        return Reply(text) if text else Reply(None, "empty answer")

    def _key(self) -> str:
        key = os.environ.get(self.settings.api_key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            # As a header it would be refused, and be quoted by whoever logs the refusal.
            raise UserError(
                f"the key in the environment variable {self.settings.api_key_variable} has characters no key has",
                where="api_key_variable of the endpoint",
                todo="set it anew, as one line of plain characters",
            )
        if key:
            return key
        if _on_loopback(self.settings.base_url):
            return "none"
        raise UserError(
            f"the environment variable {self.settings.api_key_variable} with the server's key is not set",
            where="api_key_variable of the endpoint",
            todo="set it, or name the variable that holds the key",
        )


async def _turn(paces: tuple[Pace, Pace], size: float, deadline: asyncio.Timeout) -> None:
    """Waits for one's turn, which does not count towards the deadline: what we hold back has not failed."""
    left = _left(deadline)
    deadline.reschedule(None)
    await paces[0].turn()
    await paces[1].turn(size)
    deadline.reschedule(asyncio.get_running_loop().time() + left)


def _left(deadline: asyncio.Timeout) -> float:
    """Seconds to a deadline that is set."""
    return (deadline.when() or 0.0) - asyncio.get_running_loop().time()


def _field(value: Any, name: str) -> Any:
    """A field of what may be an object; None where it is not there."""
    return value.get(name) if isinstance(value, dict) else None


def _is_unicode(text: str) -> bool:
    """Whether a text can be written down: JSON may escape half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(value: str | None) -> float | None:
    """Seconds a server asks to wait: a number, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
