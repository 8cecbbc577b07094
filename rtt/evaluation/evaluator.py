"""A benchmark's own evaluator, as a process of its own: its code never runs inside ours."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from rtt.errors import UserError
from rtt.evaluation.scoring import Given, groups_of
from rtt.judging.verdicts import conversations_of
from rtt.rubrics import parse_rubrics
from rtt.sources import tree_sha256
from rtt.tables import rows_of

SECONDS = 3600.0
"""An evaluator that takes longer is stopped."""

_MULDIMIF = """
import json, sys
sys.path.insert(0, ".")
import evaluation
with open(sys.argv[1], encoding="utf-8") as file:
    rows = json.load(file)
judged = [item["judges"] for item in evaluation.check(rows)]
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(judged, file)
"""


def _muldimif_rows(responses: pd.DataFrame, prompts: pd.DataFrame) -> list[dict[str, Any]]:
    """MulDimIF's rows with the answer as the last turn, in the order of the responses."""
    groups, conversations = groups_of(prompts), conversations_of(prompts)
    rubrics = {row.prompt_id: parse_rubrics(row.rubrics) for row in rows_of(prompts)}
    rows = []
    for row in rows_of(responses):
        types = [json.loads(groups[rubric.rubric_id])["type"].split(": ", 1) for rubric in rubrics[row.prompt_id]]
        listed = [[*kind, one.text] for kind, one in zip(types, rubrics[row.prompt_id], strict=True)]
        answer = {"role": "assistant", "content": row.response}
        turns = [*conversations[row.prompt_id], answer]
        rows.append({"id": row.response_id, "conversations": turns, "constraints": listed})
    return rows


EVALUATORS: dict[str, tuple[str, Callable[[pd.DataFrame, pd.DataFrame], list[dict[str, Any]]]]] = {
    "muldimif": (_MULDIMIF, _muldimif_rows),
}
"""By benchmark: the program that calls its evaluator from the folder it lies in, and the rows it reads."""


def ask_evaluator(benchmark: str, folder: Path, responses: pd.DataFrame, prompts: pd.DataFrame) -> tuple[str, Given]:
    """The evaluator's name with its digest, and its verdicts by (response, rubric). An empty answer fails everything.

    Args:
        folder: where the evaluator's module lies.

    Raises:
        UserError: the benchmark has no evaluator we know how to call, it stops, or it judges something else.
    """
    if benchmark not in EVALUATORS:
        raise UserError(
            f"{benchmark} has no evaluator of its own here",
            where="--evaluator",
            todo=f"it goes with {', '.join(EVALUATORS)}",
        )
    if not folder.is_dir():
        raise UserError("the evaluator is not there", where=folder, todo="name the folder its evaluation.py lies in")
    program, rows_for = EVALUATORS[benchmark]
    rows = rows_for(responses, prompts)
    with tempfile.TemporaryDirectory(prefix="rtt-evaluator-") as work:
        asked, told = Path(work) / "asked.json", Path(work) / "told.json"
        asked.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        line = [sys.executable, "-c", program, str(asked), str(told)]
        try:
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise _stopped(folder, f"it took more than {SECONDS:.0f} seconds") from None
        if done.returncode or not told.exists():
            said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise _stopped(folder, said)
        judged = json.loads(told.read_text(encoding="utf-8"))
    given: dict[tuple[str, str], bool] = {}
    rubrics = {row.prompt_id: parse_rubrics(row.rubrics) for row in rows_of(prompts)}
    for row, verdicts in zip(rows_of(responses), judged, strict=True):
        own = rubrics[row.prompt_id]
        if len(verdicts) != len(own):
            raise _stopped(folder, f"it gave {len(verdicts)} verdicts on {row.response_id}, which has {len(own)}")
        filled = bool(row.response.strip())
        given |= {
            (row.response_id, one.rubric_id): bool(kept) and filled for one, kept in zip(own, verdicts, strict=True)
        }
    return f"{benchmark}'s evaluator {tree_sha256(folder)[:12]}", given


def _stopped(folder: Path, why: str) -> UserError:
    return UserError(
        f"the benchmark's evaluator stopped: {why}",
        where=folder,
        todo="install what it imports, or leave --evaluator out: checkers and judge decide then",
    )
