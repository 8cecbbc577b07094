"""Which training prompts a benchmark has seen: normalised n-grams they share."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from rtt.tables import rows_of

COLUMNS = ("benchmark", "prompt_id", "split", "benchmark_prompt_id", "share", "shared")


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case: case, punctuation and white space do not tell texts apart."""
    return re.findall(r"[^\W_]+", text.lower())


def ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    """Every run of `size` words; a shorter text is one run as a whole, an empty one none."""
    found = words(text)
    if len(found) <= size:
        return {tuple(found)} if found else set()
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)}


def overlaps(prompts: pd.DataFrame, benchmarks: Mapping[str, pd.DataFrame], size: int) -> pd.DataFrame:
    """For each prompt that shares an n-gram with a benchmark, the benchmark's prompt it shares most with.

    Args:
        prompts: rows of rtt.tables.Prompts.
        benchmarks: name → the same.
        size: words of an n-gram.

    Returns:
        COLUMNS: ``share`` of the prompt's n-grams that stand in that benchmark prompt, in (0, 1], and ``shared``, the
        first of them; by falling share.
    """
    rows = []
    for name, table in benchmarks.items():
        places: dict[tuple[str, ...], set[str]] = {}
        for row in rows_of(table):
            for gram in ngrams(row.prompt, size):
                places.setdefault(gram, set()).add(row.prompt_id)
        for row in rows_of(prompts):
            own = ngrams(row.prompt, size)
            hits: dict[str, set[tuple[str, ...]]] = {}
            for gram in own:
                for prompt_id in places.get(gram, ()):
                    hits.setdefault(prompt_id, set()).add(gram)
            if hits:
                most, shared = min(hits.items(), key=lambda item: (-len(item[1]), item[0]))
                rows.append((name, row.prompt_id, row.split, most, len(shared) / len(own), " ".join(min(shared))))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["share", "benchmark", "prompt_id"], ascending=[False, True, True], ignore_index=True)


def without(prompts: pd.DataFrame, found: pd.DataFrame, share: float) -> pd.DataFrame:
    """The prompts but for those of the split train that share at least so much with a benchmark."""
    seen = set(found.loc[found["share"] >= share, "prompt_id"])
    return prompts[~((prompts["split"] == "train") & prompts["prompt_id"].isin(seen))].reset_index(drop=True)
