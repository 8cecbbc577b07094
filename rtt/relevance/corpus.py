"""The labelled corpus the discriminator is trained and tested on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd

from rtt.config import Labels
from rtt.errors import UserError
from rtt.rubrics import parse_rubrics
from rtt.tables import rows_of

Annotator = Callable[[str, dict, str], list[tuple[int, int]]]
"""(kind, kwargs, response) to the labelled spans."""


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
) -> tuple[pd.DataFrame, int]:
    """Labels every (response, rubric) pair that has a verdict.

    Returns:
        Rows of rtt.tables.Labels, and how many pairs were left out because their verdict is missing.

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
    rows = []
    for verdict in rows_of(known):
        rubric, response = rubrics[verdict.rubric_id], texts[verdict.response_id]
        rows.append(
            {
                "response_id": verdict.response_id,
                "prompt_id": verdict.prompt_id,
                "rubric_id": verdict.rubric_id,
                "kind": verdict.kind,
                "split": splits[verdict.prompt_id],
                "criterion": rubric.text,
                "response": response,
                "verdict": verdict.verdict,
                "spans": json.dumps([list(span) for span in annotate(rubric.kind, rubric.kwargs, response)]),
                "annotator": annotator,
            }
        )
    return pd.DataFrame(rows), len(verdicts) - len(known)
