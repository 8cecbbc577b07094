"""Verdicts of many responses at once, as the padded arrays the credit maths takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rtt.judging.rules import judge_one
from rtt.rubrics import Rubric


def verdict_arrays(
    rubrics: Sequence[Sequence[Rubric]], responses: Sequence[str], prompts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Judges every rubric of every response by its rule.

    Args:
        rubrics: one list of rubrics per response.
        responses: B responses.
        prompts: the B prompts they answer; some checkers read them.

    Returns:
        `verdicts` (B, K) float32 in [-1, 1] and `valid` (B, K) bool, K the longest list of rubrics. A verdict nobody
        could give has `valid` False, as has padding; its value is 0 and means nothing.
    """
    width = max(len(row) for row in rubrics)
    verdicts = np.zeros((len(responses), width), dtype=np.float32)
    valid = np.zeros((len(responses), width), dtype=bool)
    for j, (row, response, prompt) in enumerate(zip(rubrics, responses, prompts, strict=True)):
        for k, rubric in enumerate(row):
            verdict, _reason = judge_one(rubric, response, prompt)
            if not math.isnan(verdict):
                verdicts[j, k], valid[j, k] = verdict, True
    return verdicts, valid
