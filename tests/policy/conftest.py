"""Fixtures that tests of the policy share."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rtt.rubrics import Rubric, dump_rubrics
from rtt.tables import Prompts, write_table


@pytest.fixture(scope="session")
def prompts(tmp_path_factory) -> Path:
    """Prompts whose rubrics a random model keeps in some answers and breaks in others."""
    rows = []
    for number in range(12):
        prompt_id = f"letters/{number:04d}"
        rubrics = [
            Rubric(
                rubric_id=f"{prompt_id}/{k}",
                kind="keywords:letter_frequency",
                text=f'Use the letter "{letter}" at least {count} times.',
                kwargs={"letter": letter, "let_frequency": count, "let_relation": "at least"},
            )
            for k, (letter, count) in enumerate(zip("eat", (4, 3, 2 + number % 3), strict=True))
        ]
        rows.append(
            {
                "prompt_id": prompt_id,
                "split": "train",
                "topic": "letters",
                "prompt": " ".join([f"Write line {number}.", *(r.text for r in rubrics[: 1 + number % 3])]),
                "rubrics": dump_rubrics(rubrics[: 1 + number % 3]),
            }
        )
    path = tmp_path_factory.mktemp("prompts") / "prompts.parquet"
    write_table(pd.DataFrame(rows), Prompts, path)
    return path
