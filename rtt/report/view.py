"""The token view: one HTML file that shows where credit went in what a round, or several, trained on.

It needs no network and opens from disk. Everything a model or a data set wrote stands in it as data, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from rtt.errors import UserError
from rtt.relevance.offsets import Span
from rtt.relevance.rules import LABELLED_KINDS, label
from rtt.rubrics import Rubric, parse_rubrics
from rtt.tables import Rollouts, read_table, rows_of

ASSETS = Path(__file__).with_name("assets")

FINE = 1000
"""Numbers are written as whole thousandths: a third of the file, and more digits than a colour shows."""

_PLACE = re.compile(r"policies/(?P<arm>[^/]+)/seed_(?P<seed>\d+)/round_(?P<round>\d+)/rollouts\.parquet\Z")


def find_rollouts(paths: Sequence[Path]) -> list[Path]:
    """The tables of rollouts among `paths`: files as they are, of folders those below them, in order of name and round.

    Raises:
        UserError: a path that is not there, or a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(path.rglob("rollouts.parquet"), key=_in_order)
            if not below:
                raise UserError(
                    "no rollouts.parquet lies in this folder", where=path, todo="name a round's folder, or one above it"
                )
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise UserError("there is no such file", where=path, todo="name the rollouts.parquet of a round")
    return list(dict.fromkeys(found))


def _in_order(path: Path) -> tuple[str, list[int]]:
    text = path.as_posix()
    return re.sub(r"\d+", "0", text), [int(number) for number in re.findall(r"\d+", text)]


def find_beside(rollouts: Path, relative: str) -> Path | None:
    """``relative`` in the nearest folder above a table of rollouts that has it; None where none has."""
    return next((folder / relative for folder in rollouts.resolve().parents if (folder / relative).exists()), None)


def read_groups(rollouts: Sequence[Path], prompts: pd.DataFrame) -> list[dict[str, Any]]:
    """Every group of responses to one prompt, as the page reads it.

    Args:
        rollouts: tables of rtt.tables.Rollouts; arm, seed and round are read from where they lie.
        prompts: rtt.tables.Prompts; the prompts the responses answer.

    Raises:
        UserError: a damaged table, or a prompt that is not among `prompts`.
    """
    by_id = prompts.set_index("prompt_id")
    groups = []
    for path in rollouts:
        place = _PLACE.search(path.resolve().as_posix())
        origin = place.groupdict() if place else {"arm": path.parent.name, "seed": "", "round": ""}
        table = read_table(path, Rollouts)
        unknown = sorted(set(table["prompt_id"]) - set(by_id.index))
        if unknown:
            raise UserError(
                f"{len(unknown)} of its prompts are not in the table of prompts, such as {unknown[0]!r}",
                where=path,
                todo="name with --prompts the table it was trained on",
            )
        table = table.sort_values(["step", "row"], ignore_index=True)
        # A prompt drawn twice in one batch makes one group twice as large, as its rows are neighbours.
        begins = (table["prompt_id"] != table["prompt_id"].shift()) | (table["step"] != table["step"].shift())
        batches = list(table.groupby(begins.cumsum(), sort=False))
        for _, rows in tqdm(batches, desc=f"reading {path.parent.name}", unit="group", disable=None):
            prompt = by_id.loc[rows["prompt_id"].iloc[0]]
            rubrics = parse_rubrics(prompt["rubrics"])
            groups.append(
                {
                    **origin,
                    "step": int(rows["step"].iloc[0]),
                    "prompt": prompt["prompt"],
                    "before": _before(prompt),
                    "rubrics": [{"text": rubric.text, "kind": rubric.kind} for rubric in rubrics],
                    "responses": [_response(row, rubrics, path) for row in rows_of(rows)],
                }
            )
    return groups


def _before(prompt: pd.Series) -> list[list[str]]:
    """Role and text of the messages before the last one."""
    text = prompt.get("messages")
    return [[turn["role"], turn["content"]] for turn in json.loads(text)[:-1]] if isinstance(text, str) else []


def _response(row: Any, rubrics: Sequence[Rubric], path: Path) -> dict[str, Any]:
    try:
        verdicts, relevance = json.loads(row.verdicts), json.loads(row.relevance)
        spans = [(start, end) for start, end in json.loads(row.token_spans)]
        token, combined = json.loads(row.token_advantages), json.loads(row.advantages)
        about = [relevance[rubric.rubric_id] for rubric in rubrics] if relevance else None
        if {len(values) for values in [token, combined, *(about or [])]} - {len(spans)}:
            raise ValueError("not one number a token")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"the row of step {row.step}, place {row.row} is malformed: {error}",
            where=path,
            todo="train the round again; or name with --prompts the table it was trained on",
        ) from None
    return {
        **shown(row.response, spans),
        "verdicts": [verdicts.get(rubric.rubric_id) for rubric in rubrics],
        "reward": None if pd.isna(row.reward) else round(row.reward, 3),
        "response_level": round(FINE * row.response_advantage),
        "relevance": None if about is None else [_fine(values) for values in about],
        "token_level": _fine(token),
        "combined": _fine(combined),
        "labels": [rule_labels(rubric, row.response) for rubric in rubrics],
    }


def _fine(values: Iterable[float]) -> list[int]:
    return [round(FINE * value) for value in values]


def shown(response: str, spans: Sequence[Span]) -> dict[str, Any]:
    """A response and the characters of its tokens as a browser counts them, in UTF-16 units: ``text``, and ``ends``,
    where each token ends. Tokens stand in order and without a gap; one that ends where the one before it did is special
    or part of the same character."""
    units = utf16_places(response)
    return {"text": response, "ends": [units[end] for _, end in spans]}


def utf16_places(text: str) -> list[int]:
    """For each place between characters, from 0 to ``len(text)``, the UTF-16 units before it."""
    places, position = [0], 0
    for character in text:
        position += 1 + (ord(character) > 0xFFFF)
        places.append(position)
    return places


def rule_labels(rubric: Rubric, response: str) -> list[list[int]] | None:
    """What the rule labels say, in UTF-16 units; None where no rule labels the rubric or its checker fails."""
    if rubric.kind not in LABELLED_KINDS:
        return None
    try:
        found = label(rubric.kind, rubric.kwargs, response)
    except Exception:  # whatever the checker raises on this response: there is no verdict to explain, either
        return None
    units = utf16_places(response)
    return [[units[start], units[end]] for start, end in found]


def scale_of(groups: Sequence[dict[str, Any]], quantity: str) -> int:
    """The largest size of a quantity after the largest hundredth is left out, so that no outlier pales the rest."""
    values = sorted(
        abs(value)
        for group in groups
        for response in group["responses"]
        for value in (response[quantity] if isinstance(response[quantity], list) else [response[quantity]])
    )
    return values[int(0.99 * (len(values) - 1))] if values and values[-1] else FINE


def write_view(groups: Sequence[dict[str, Any]], destination: Path, title: str = "Where credit goes") -> None:
    """Writes the page beside `destination` and renames; the same groups give the same bytes."""
    data = {
        "fine": FINE,
        "scales": {name: scale_of(groups, name) for name in ("response_level", "token_level", "combined")},
        "groups": groups,
    }
    body = (ASSETS / "view.html").read_text(encoding="utf-8")
    page = page_of(title, body, ("tokens", "view"), data)
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(destination.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(destination)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def page_of(title: str, body: str, parts: Sequence[str], data: Any, connect: str = "'none'") -> str:
    """A whole page of our own markup: styles and scripts inline, named by their hash, and nothing else allowed to run.

    Args:
        title: plain text.
        body: our own markup.
        parts: names of stylesheets and scripts among the assets.
        data: anything JSON can hold, whoever wrote it; the scripts read it.
        connect: what the scripts may talk to, as a content security policy says it.
    """
    styles = "\n".join((ASSETS / f"{part}.css").read_text(encoding="utf-8") for part in parts)
    script = "\n".join((ASSETS / f"{part}.js").read_text(encoding="utf-8") for part in parts)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{styles}</style>",
            "</head>",
            "<body>",
            body.replace("@TITLE@", escape(title)),
            f'<script type="application/json" id="data">{inert(data)}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def inert(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever strings it holds."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
