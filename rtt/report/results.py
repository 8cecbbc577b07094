"""All numbers of a report, collected from a study's scores before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rtt.config import BASE, FULL, Config
from rtt.errors import UserError
from rtt.layout import DISCRIMINATOR_COSTS
from rtt.report.efficiency import efficiency_tables
from rtt.report.groups import group_table
from rtt.report.outputs import draws_kinds, tables_of
from rtt.report.reference import References, with_references
from rtt.report.render import AUPRC, Layout, reference_notes
from rtt.report.study import check_scores, final_scores, gap_notes, pairs_of, read_gaps
from rtt.report.tables import curve_table, main_table, paired_table
from rtt.tables import Scores, read_table

RELEVANCE = "relevance"
"""The table that compares where relevance comes from, and so shows how good each discriminator is."""
UNSEEN = "unseen_topics"
SHOWN = 6
"""Left-out prompts that are named, at most."""


@dataclass(frozen=True)
class Results:
    """Everything the report shows.

    Attributes:
        tables: by name, as rtt.report.tables.main_table returns it, with the columns of rtt.report.reference and
            ``discriminator_auprc``.
        layouts: by name, what each table shows, also where there are no scores.
        paired: as rtt.report.tables.paired_table returns it.
        curves: as rtt.report.tables.curve_table returns it.
        groups: as rtt.report.groups.group_table returns it.
        efficiency: by arm, and `efficiency_seeds` by seed, as rtt.report.efficiency returns them.
        quality: figures of the discriminator `full`, or None where no arm learns from it or they are missing.
        left_out: one sentence per benchmark that lost prompts.
        gaps: one sentence for each thing that is missing.
    """

    tables: Mapping[str, pd.DataFrame]
    layouts: Mapping[str, Layout]
    paired: pd.DataFrame
    curves: pd.DataFrame
    groups: pd.DataFrame
    efficiency: pd.DataFrame
    efficiency_seeds: pd.DataFrame
    quality: Mapping[str, Any] | None
    left_out: Sequence[str]
    gaps: Sequence[str]


def read_scores(paths: Sequence[Path]) -> pd.DataFrame:
    """All evaluations as one table of rtt.tables.Scores. Raises UserError where there is none."""
    if not paths:
        raise UserError("there are no scores to report", where="--scores", todo="evaluate the base at least")
    return pd.concat([read_table(path, Scores) for path in paths], ignore_index=True)


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{what} cannot be read: {error}", where=path, todo="run the step that writes it") from None


def read_left_out(paths: Sequence[Path]) -> list[str]:
    """One sentence per benchmark that lost prompts."""
    notes = []
    for path in paths:
        listed = _read_json(path, "the list of left-out prompts")
        whole = listed["kept"] + len(listed["left_out"])
        for why in dict.fromkeys(listed["left_out"].values()):
            names = [name for name, reason in listed["left_out"].items() if reason == why]
            shown = ", ".join(names[:SHOWN]) + ", …" * (len(names) > SHOWN)
            notes.append(
                f"{listed['benchmark']}: {len(names)} of {whole} prompts are left out, because {why} ({shown})"
            )
    return notes


def read_discriminators(paths: Mapping[str, Path], config: Config) -> dict[str, Any]:
    """The figures of each discriminator by name. Raises UserError for a name the configuration does not have."""
    known = (FULL, *config.discriminator_variants)
    for name, path in paths.items():
        if name not in known:
            raise UserError(f"no discriminator is called {name!r}", where=path, todo=f"choose from {', '.join(known)}")
    return {name: _read_quality(path, name) for name, path in paths.items()}


def _read_quality(path: Path, name: str) -> dict[str, Any]:
    """A discriminator's figures, with the seconds it took where they are recorded."""
    quality = _read_json(path, f"the figures of the discriminator {name}")
    costs = path.with_name(DISCRIMINATOR_COSTS)
    return {**quality, **_read_json(costs, "what the training took")} if costs.exists() else quality


def _auprc(config: Config, arm: str, qualities: Mapping[str, Any]) -> float:
    """AUPRC on unseen topics of the discriminator an arm learns from; missing where it has none."""
    credit = config.arms[arm].credit if arm != BASE else None
    if credit is None or credit.relevance != "discriminator" or credit.discriminator not in qualities:
        return np.nan
    found = qualities[credit.discriminator]["sets"].get(UNSEEN, {}).get("auprc")
    return np.nan if found is None else float(found)


def _layout(config: Config, name: str, arms: Sequence[str]) -> Layout:
    seeds = sorted({seed for arm, seed in config.runs() if arm in arms}) or list(config.seeds)
    over = "seeds and prompts" if len(seeds) > 1 else "prompts"
    caption = (
        f"Accuracy in percent after training with 95 % intervals by bootstrap over {over} "
        f"({config.evaluation.bootstrap_draws} draws); seeds {', '.join(map(str, seeds))}."
    )
    return Layout(name, arms, list(config.evaluation.benchmarks), caption, auprc=name == RELEVANCE)


def collect(
    config: Config,
    scores: pd.DataFrame,
    qualities: Mapping[str, Any],
    references: References,
    left_out: Sequence[str],
    missing: Sequence[Mapping[str, Any]],
) -> Results:
    """All numbers of the report. Raises UserError for scores that contradict the configuration or one another."""
    options: dict[str, Any] = {"draws": config.evaluation.bootstrap_draws, "seed": config.evaluation.seed}
    gaps = read_gaps(missing, config)
    check_scores(scores, config)
    finals = final_scores(scores, config)
    every = with_references(main_table(finals, **options), references)
    every[AUPRC] = [_auprc(config, arm, qualities) for arm in every["arm"]]
    notes = gap_notes(finals, config, gaps)
    tables, layouts = {}, {}
    for name, arms in tables_of(config).items():
        # the order of the table, not that in which the scores came
        tables[name] = pd.concat([every[every["arm"] == arm] for arm in arms], ignore_index=True)
        own = [sentence for arm, sentence in notes if arm in arms]
        layouts[name] = replace(
            _layout(config, name, arms),
            notes=[*left_out, *own],
            sources=reference_notes(tables[name], references.note),
        )
    efficiency, by_seed = efficiency_tables(scores, finals, headline=config.headline, **options)
    return Results(
        tables=tables,
        layouts=layouts,
        paired=paired_table(finals, pairs_of(config), **options),
        curves=curve_table(scores, **options),
        groups=group_table(finals),
        efficiency=efficiency,
        efficiency_seeds=by_seed,
        quality=qualities.get(FULL) if draws_kinds(config) else None,
        left_out=left_out,
        gaps=[sentence for _, sentence in notes],
    )
