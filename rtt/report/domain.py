"""Out-of-domain scores beside the base's: the change, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rtt.config import BASE
from rtt.evaluation.domain import common, read_record
from rtt.report.statistics import bootstrap, interval

COLUMNS = ("arm", "seed", "task", "metric", "value", "low", "high", "change", "change_low", "change_high", "n")


def domain_table(records: Mapping[tuple[str, int], Path], *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row per policy and task, with COLUMNS; intervals by bootstrap over examples, of the change by pairs of them.

    Args:
        records: (arm, seed) → what `rtt domain` wrote; the base's among them.
        draws: bootstrap draws.
        seed: of the draws.
    """
    base = read_record(records[BASE, 0])
    rows = []
    for (arm, number), path in records.items():
        for task, one in read_record(path).items():
            places = common(base[task], one, task)
            own = np.array([one.examples[place] for place in places])
            before = np.array([base[task].examples[place] for place in places])
            ones = np.ones((len(places), 1))
            ends = [
                tuple(float(end[0]) for end in interval(bootstrap(values[None, :, None], ones, draws, seed)))
                for values in (own, own - before)
            ]
            change = (np.nan, np.nan, np.nan) if arm == BASE else (float((own - before).mean()), *ends[1])
            rows.append((arm, number, task, one.metric, float(own.mean()), *ends[0], *change, len(places)))
    return pd.DataFrame(rows, columns=list(COLUMNS))
