"""Each rubric to the judge that can decide it: a rule checker, its own program in a sandbox, or a language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rtt.config import Config
from rtt.errors import UserError
from rtt.judging.cases import Case, Judge, Verdict
from rtt.judging.rules import RULE, Rules
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

    def _open(self, name: str, rubric: Rubric) -> Judge:
        if name not in self.judges:
            raise UserError(
                "this rubric needs a language model to judge it, and none is configured",
                where=f"rubric {rubric.rubric_id}: {rubric.text[:80]}",
                todo="set judge.endpoint in the configuration (docs/judge.md)",
            )
        return self.judges[name]()


def open_judge(config: Config | None) -> Router:
    """The judges the configuration names; without one, those that need none."""
    return Router({RULE: Rules})
