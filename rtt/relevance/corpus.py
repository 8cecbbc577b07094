"""The labelled corpus the discriminator is trained and tested on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from rtt.config import Labels
from rtt.errors import UserError
from rtt.relevance.agreement import Labelled, agreement
from rtt.relevance.rules import LABELLED_KINDS, label
from rtt.rubrics import Rubric, parse_rubrics
from rtt.tables import rows_of

Annotator = Callable[[Sequence[Rubric], Sequence[str], Sequence[float]], list[list[tuple[int, int]] | None]]
"""Rubrics, responses and verdicts, one of each a pair, to each pair's labelled spans; None where there are none."""


def each(annotate: Callable[[str, dict, str], list[tuple[int, int]]]) -> Annotator:
    """An annotator that looks at kind, arguments and response of one pair at a time."""
    return lambda rubrics, responses, _verdicts: [
        annotate(rubric.kind, rubric.kwargs, response) for rubric, response in zip(rubrics, responses, strict=True)
    ]


def by_rule(rubrics: Sequence[Rubric], responses: Sequence[str], _verdicts: Sequence[float]) -> list[Any]:
    """The annotator that knows; a rubric no rule labels gets none."""
    return [
        label(rubric.kind, rubric.kwargs, response) if rubric.kind in LABELLED_KINDS else None
        for rubric, response in zip(rubrics, responses, strict=True)
    ]


def choose_prompts(prompts: pd.DataFrame, settings: Labels) -> pd.DataFrame:
    """The prompts whose responses get labelled: so many of the splits train, validation and heldout_kinds.

    Raises:
        UserError: a split has too few prompts.
    """
    wanted = {
        "train": settings.train_prompts,
        "validation": settings.unseen_topics_prompts,
        "heldout_kinds": settings.unseen_kinds_prompts,
    }
    parts = []
    for split, count in wanted.items():
        rows = prompts[prompts["split"] == split]
        if len(rows) < count:
            raise UserError(
                f"{count} prompts of the split {split} are to be labelled, and there are {len(rows)}",
                where="labels",
                todo="raise prompts.count or lower the number under labels",
            )
        parts.append(rows.sample(n=count, random_state=settings.seed))
    return pd.concat(parts).sort_values("prompt_id", ignore_index=True)


def label_splits(prompts: pd.DataFrame, settings: Labels) -> dict[str, str]:
    """Prompt id to the label's split. A share of the training topics is kept for choosing the threshold.

    Raises:
        UserError: no prompt has the split train.
    """
    topics = prompts.loc[prompts["split"] == "train", "topic"].drop_duplicates().sort_values()
    if topics.empty:
        raise UserError(
            "no response answers a prompt of the split train",
            where="column split of the prompts",
            todo="label responses to training prompts too; the discriminator learns from them",
        )
    count = max(1, round(settings.development_share * len(topics)))
    development = set(topics.sample(n=count, random_state=settings.seed))
    names = {"validation": "unseen_topics", "heldout_kinds": "unseen_kinds"}
    return {
        row.prompt_id: names.get(row.split, "development" if row.topic in development else "train")
        for row in rows_of(prompts)
    }


def label_corpus(
    responses: pd.DataFrame,
    verdicts: pd.DataFrame,
    prompts: pd.DataFrame,
    settings: Labels,
    annotate: Annotator,
    annotator: str,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Labels every (response, rubric) pair that has a verdict.

    Returns:
        Rows of rtt.tables.Labels, and how many pairs were left out: ``without_verdict``, ``without_labels``.

    Raises:
        UserError: a verdict on a rubric, a response or a prompt that is not there.
    """
    splits = label_splits(prompts[prompts["prompt_id"].isin(responses["prompt_id"])], settings)
    rubrics = {r.rubric_id: r for text in prompts["rubrics"] for r in parse_rubrics(text)}
    texts = responses.set_index("response_id")["response"]
    for name, found in (("rubric_id", rubrics), ("response_id", texts.index), ("prompt_id", splits)):
        unknown = sorted(set(verdicts[name]) - set(found))
        if unknown:
            raise UserError(
                f"{len(unknown)} verdict(s) have an unknown {name}, such as {unknown[0]!r}",
                where=f"column {name} of the verdicts",
                todo="label responses with the verdicts and the prompts that belong to them",
            )
    known = verdicts[verdicts["verdict"].notna()]
    about = [rubrics[identifier] for identifier in known["rubric_id"]]
    answers = [str(texts[identifier]) for identifier in known["response_id"]]
    spans = annotate(about, answers, known["verdict"].tolist())
    rows = [
        {
            "response_id": verdict.response_id,
            "prompt_id": verdict.prompt_id,
            "rubric_id": verdict.rubric_id,
            "kind": verdict.kind,
            "split": splits[verdict.prompt_id],
            "criterion": rubric.text,
            "response": response,
            "verdict": verdict.verdict,
            "spans": json.dumps([list(span) for span in found]),
            "annotator": annotator,
        }
        for verdict, rubric, response, found in zip(rows_of(known), about, answers, spans, strict=True)
        if found is not None
    ]
    return pd.DataFrame(rows), {"without_verdict": len(verdicts) - len(known), "without_labels": len(known) - len(rows)}


def rule_agreement(table: pd.DataFrame, rubrics: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
    """How far labels agree with the rules, where there are rules (rtt.relevance.agreement).

    Args:
        table: rows of rtt.tables.Labels.
        rubrics: the column `rubrics` of their prompts.
    """
    known = {rubric.rubric_id: rubric for text in rubrics for rubric in parse_rubrics(text)}
    return agreement(
        [
            Labelled(
                row.kind,
                len(row.response),
                label(row.kind, known[row.rubric_id].kwargs, row.response),
                [(start, end) for start, end in json.loads(row.spans)],
            )
            for row in rows_of(table)
            if row.kind in LABELLED_KINDS
        ]
    )
