"""Try it: a page on loopback where a prompt and rubrics are typed in, and base and trained policy answer."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rtt.config import Config, Generation
from rtt.data.kinds import KINDS
from rtt.errors import UserError
from rtt.judging.cases import Case, Judge, Verdict
from rtt.judging.routing import open_judge, route
from rtt.judging.rules import require_arguments
from rtt.report.view import ASSETS, FINE, page_of, rule_labels, utf16_places
from rtt.rubrics import JUDGED, Rubric

_log = logging.getLogger(__name__)

LARGEST = 1 << 16
"""Bytes of a question at most."""

NOT_JUDGED = "no language model is configured to judge it"
EXAMPLE_WORDS = ("garden", "water", "friend")


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AskedRubric(_Form):
    """A rubric as it is typed in."""

    text: str = Field(min_length=1, max_length=2000)
    kind: str = JUDGED
    kwargs: dict[str, Any] = {}


class Question(_Form):
    """What the page asks."""

    prompt: str = Field(min_length=1, max_length=8000)
    rubrics: list[AskedRubric] = Field(default=[], max_length=12)
    max_tokens: int = Field(default=128, ge=1, le=1024)

    @property
    def message(self) -> str:
        """What the policies read: the prompt and, in a paragraph of their own, the rubrics, as in training."""
        wanted = " ".join(rubric.text.strip() for rubric in self.rubrics)
        return f"{self.prompt.strip()}\n\n{wanted}" if wanted else self.prompt.strip()


class Demo:
    """Two policies, a judge and, where there is one, a discriminator.

    Args:
        policy: folder of the start policy.
        checkpoint: of a round.
        discriminator: folder; without one no token has a colour.
        config: names a language model for rubrics that no rule decides; None leaves them unjudged.
    """

    def __init__(self, policy: Path, checkpoint: Path, discriminator: Path | None, config: Config | None) -> None:
        from rtt.evaluation.generation import open_policy

        self.policies = {"base": open_policy(policy, None), "trained": open_policy(policy, checkpoint)}
        self.discriminator = None
        if discriminator is not None:
            from rtt.relevance.discriminator import Discriminator

            self.discriminator = Discriminator.load(discriminator)
        self.judge: Judge = open_judge(config)
        self.judges_text = config is not None and config.judge is not None
        self.turn = Lock()

    def answer(self, question: Question) -> dict[str, Any]:
        """Both answers with verdicts and relevance, as the page draws them.

        Raises:
            UserError: a rubric whose check does not exist or refuses its arguments; or the judge stops.
        """
        from rtt.evaluation.generation import generate

        rubrics = [
            Rubric(rubric_id=f"rubric {place}", kind=asked.kind, text=asked.text, kwargs=asked.kwargs)
            for place, asked in enumerate(question.rubrics, start=1)
        ]
        for rubric in rubrics:
            if rubric.kind != JUDGED:
                require_arguments(rubric.kind, rubric.kwargs, question.message)
        settings = Generation(max_tokens=question.max_tokens, temperature=0, batch_size=1)
        answers = []
        with self.turn:  # two at once would each take more than twice as long
            for name, (model, tokenizer) in self.policies.items():
                (found,) = generate(model, tokenizer, [question.message], settings, seed=0, title=name)
                answers.append(
                    {
                        "name": name,
                        "truncated": found.truncated,
                        **self._shown(found.text, tokenizer, rubrics),
                        "verdicts": self._verdicts(found.text, rubrics, question),
                    }
                )
        return {"fine": FINE, "asked": question.message, "answers": answers}

    def _verdicts(self, response: str, rubrics: Sequence[Rubric], question: Question) -> list[dict[str, Any]]:
        verdicts = []
        for rubric in rubrics:
            if route(rubric) == JUDGED and not self.judges_text:
                verdict = Verdict(float("nan"), "nobody", NOT_JUDGED)
            else:
                (verdict,) = self.judge.judge([Case(rubric, response, question.message)])
            value = None if verdict.missing else verdict.value
            verdicts.append({"value": value, "judge": verdict.judge, "reason": verdict.reason})
        return verdicts

    def _shown(self, response: str, tokenizer: Any, rubrics: Sequence[Rubric]) -> dict[str, Any]:
        """Text, tokens, labels and relevance. Tokens are those of the text; the policy may have sampled others."""
        units = utf16_places(response)
        offsets = tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        relevance = None
        if self.discriminator is not None and rubrics:
            characters = self.discriminator.relevance([(rubric.text, response) for rubric in rubrics])
            relevance = [
                [round(FINE * float(values[start:end].max(initial=0))) for start, end in offsets]
                for values in characters
            ]
        return {
            "text": response,
            "ends": [units[end] for _, end in offsets],
            "relevance": relevance,
            "labels": [rule_labels(rubric, response) or [] for rubric in rubrics],
        }


def examples() -> list[dict[str, Any]]:
    """Every kind that can be checked by rule, with a wording and arguments to start from."""
    found = []
    for name, kind in KINDS.items():
        draw = random.Random(name)
        kwargs = kind.draw(draw, EXAMPLE_WORDS)
        found.append({"kind": name, "text": kind.text(draw, kwargs), "kwargs": kwargs})
    return found


def page() -> str:
    """The page, which asks this server and nobody else."""
    body = (ASSETS / "demo.html").read_text(encoding="utf-8")
    return page_of("Rubrics to Tokens: try it", body, ("tokens", "demo"), {"kinds": examples()}, connect="'self'")


def make_server(demo: Demo, port: int) -> ThreadingHTTPServer:
    """A server on loopback. Raises UserError when the port is taken."""
    shown = page().encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._is_ours():
                return
            if self.path == "/":
                self._send(200, shown, "text/html; charset=utf-8")
            else:
                self._refuse(404, "there is no such page")

        def do_POST(self) -> None:
            if not self._is_ours():
                return
            try:
                length = int(self.headers.get("Content-Length") or -1)
            except ValueError:
                length = -1
            if self.path != "/answer" or not self.headers.get("Content-Type", "").startswith("application/json"):
                self._refuse(404, "ask /answer with JSON")
            elif not 0 <= length <= LARGEST:
                self._refuse(413, f"a question has at most {LARGEST} bytes")
            else:
                self._answer(self.rfile.read(length))

        def _answer(self, body: bytes) -> None:
            try:
                question = Question.model_validate_json(body)
                answer = demo.answer(question)
            except ValidationError as error:
                fault = error.errors()[0]
                place = ".".join(map(str, fault["loc"])) or "the question"
                self._refuse(400, f"{place}: {fault['msg']}")
            except UserError as error:
                self._refuse(400, str(error))
            except Exception:
                _log.exception("a question could not be answered")
                self._refuse(500, "this question could not be answered; the terminal says why")
            else:
                self._send(200, json.dumps(answer).encode(), "application/json")

        def _is_ours(self) -> bool:
            """Only pages from here may ask: not another site the browser has open, nor a name that leads here."""
            _, taken = self.request.getsockname()[:2]
            names = {f"{host}:{taken}" for host in ("127.0.0.1", "localhost")}
            origin = self.headers.get("Origin")
            if self.headers.get("Host") in names and (origin is None or origin.removeprefix("http://") in names):
                return True
            self._refuse(403, "this server answers its own page only")
            return False

        def _refuse(self, status: int, why: str) -> None:
            self._send(status, json.dumps({"error": why}).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            _log.info(format, *args)

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UserError(
            f"the page cannot be served: {error.strerror}", where=f"port {port}", todo="choose another with --port"
        ) from None
