"""Each rubric to the judge that can decide it: a rule checker, its own program in a sandbox, or a language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rtt.config import Config, Sandbox
from rtt.config import Judge as JudgeSettings
from rtt.errors import UserError
from rtt.judging.agreement import agreement
from rtt.judging.cache import Cache
from rtt.judging.canaries import Canaries, require_trustworthy, run_canaries
from rtt.judging.cases import Case, Judge, Verdict
from rtt.judging.endpoint import EndpointClient
from rtt.judging.llm import LLMJudge
from rtt.judging.rules import RULE, Rules
from rtt.judging.sandbox import Programs
from rtt.rubrics import JUDGED, PROGRAM, Rubric

ROUTES = (RULE, PROGRAM, JUDGED)


def route(rubric: Rubric) -> str:
    """Who decides a rubric: one of `ROUTES`."""
    return rubric.kind if rubric.kind in (JUDGED, PROGRAM) else RULE


class Router:
    """A judge that hands each case to another.

    Args:
        judges: route → how to open the judge; it is opened when the first case comes its way, and stays open.
    """

    def __init__(self, judges: Mapping[str, Callable[[], Judge]]) -> None:
        self.judges = dict(judges)
        self.opened: dict[str, Judge] = {}

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        places: dict[str, list[int]] = {}
        for number, case in enumerate(cases):
            places.setdefault(route(case.rubric), []).append(number)
        verdicts: dict[int, Verdict] = {}
        for name, numbers in places.items():
            if name not in self.opened:
                self.opened[name] = self._open(name, cases[numbers[0]].rubric)
            found = self.opened[name].judge([cases[number] for number in numbers])
            verdicts.update(zip(numbers, found, strict=True))
        return [verdicts[number] for number in range(len(cases))]

    def figures(self) -> dict[str, float]:
        """What the judges opened so far have to say of themselves."""
        found: dict[str, float] = {}
        for judge in self.opened.values():
            found |= getattr(judge, "figures", dict)()
        return found

    def _open(self, name: str, rubric: Rubric) -> Judge:
        if name not in self.judges:
            raise UserError(
                "this rubric needs a language model to judge it, and none is configured",
                where=f"rubric {rubric.rubric_id}: {rubric.text[:80]}",
                todo="set judge.endpoint in the configuration (docs/judge.md)",
            )
        return self.judges[name]()


class CheckedModel:
    """A language model whose verdicts are believed after it has been tried with canaries, on the first cases it gets.

    Args:
        settings: the judge's.
        cache: file of all answers.
    """

    def __init__(self, settings: JudgeSettings, cache: Path) -> None:
        self.settings = settings
        kept = Cache(cache)
        self.client = EndpointClient(settings.endpoint, kept)
        self.model = LLMJudge(self.client, settings.endpoint.model, settings)
        self.canaries: Canaries | None = None
        self.given: list[tuple[Case, Verdict]] = []
        self.second = None
        if settings.second is not None:
            asks = EndpointClient(settings.second, kept)
            self.second = LLMJudge(asks, settings.second.model, settings)

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        """Raises UserError when the judge lets too many canaries pass, and whatever :class:`LLMJudge` raises."""
        if self.canaries is None and self.settings.canaries:
            different = list({case.rubric.text: case for case in cases}.values())
            self.canaries = run_canaries(self.model, different[: self.settings.canaries])
            require_trustworthy(self.canaries, self.settings.canary_limit, self.model.name)
        verdicts = self.model.judge(cases)
        if self.second is not None:
            self.given += zip(cases, verdicts, strict=True)
        return verdicts

    def second_opinion(self) -> dict[str, Any] | None:
        """How far the second model agrees on the cases judged so far; None where none is configured."""
        if self.second is None:
            return None
        others = self.second.judge([case for case, _ in self.given])
        return {"judge": self.second.name, **agreement([verdict for _, verdict in self.given], others)}

    def figures(self) -> dict[str, float]:
        """Calls, latency, tokens, cost, missing verdicts and canaries, by name."""
        found = {**self.client.figures.flat(self.settings.endpoint), **self.model.figures()}
        return {**found, **(self.canaries.flat() if self.canaries else {})}


def open_judge(config: Config | None) -> Router:
    """The judges the configuration names; without one, those that need none."""
    limits = config.sandbox if config is not None else Sandbox()
    judges: dict[str, Callable[[], Judge]] = {RULE: Rules, PROGRAM: lambda: Programs(limits)}
    if config is not None and config.judge is not None:
        settings = config.judge
        cache = Path(settings.cache or f"{config.results}/judge/cache.sqlite")
        judges[JUDGED] = lambda: CheckedModel(settings, cache)
    return Router(judges)


def told_by(judge: Router) -> dict[str, Any] | None:
    """What a language model that judged has to tell: its figures, and the second model's agreement; else None."""
    model = judge.opened.get(JUDGED)
    if not isinstance(model, CheckedModel):
        return None
    return {"figures": model.figures(), "second": model.second_opinion()}
