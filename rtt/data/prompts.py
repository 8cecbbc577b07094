"""Prompts with rubrics: made from everyday topics and checkable kinds, or read from a user's own file."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd
import yaml

from rtt.data.kinds import KINDS, compatible
from rtt.errors import UserError
from rtt.rubrics import Rubric, dump_rubrics
from rtt.tables import Prompts, check_table

TOPIC_SPLITS = ("train", "validation", "heldout_topics")
"""The splits that share the topics out among them."""

HELDOUT_KINDS_SHARE = 0.1
"""The share of the prompts that go to the split heldout_kinds, before the others get theirs."""

MOST_RUBRICS = {"train": 4, "validation": 4, "heldout_topics": 4, "heldout_kinds": 2}
"""Rubrics a prompt has at most, by split."""

COLUMNS = ["prompt_id", "split", "topic", "prompt", "rubrics"]

# A kind that is behind by more than this many prompts goes first when the next prompt's kinds are drawn.
_BALANCE = 3.0
_TRIES = 200

_LENGTHS = {"length_constraints:number_words", "length_constraints:number_sentences"}
_LAYOUTS = {
    "detectable_format:number_bullet_lists",
    "length_constraints:number_paragraphs",
    "detectable_format:multiple_sections",
}
_OPENINGS = (
    "{task}",
    "{task}",
    "Here is a small task: {task}",
    "Help me with this one: {task}",
    "My request: {task}",
)
_SENTENCES_HINTS = (
    "Answer in two or three sentences.",
    "Keep it to two or three sentences.",
    "Two or three sentences are enough.",
    "Write two or three short sentences.",
)
_SHORT_HINTS = ("Keep it short.", "Be brief.", "A short answer is enough.", "Make it brief.")
_LEADS = ("Follow these rules:", "Please mind the following:", "Requirements:", "Keep to these points:")

_MARKER = r"[^\S\n]*(?:[-*+•]|\d+[.)])?[^\S\n]*"  # of a list line; it may be missing
_NUMBER = re.compile(r"([^\S\n]*)(\d+)([.)][^\S\n])")


@dataclass(frozen=True)
class Topic:
    """An everyday writing task: its lasting name, the task in a sentence, and content words of a likely answer."""

    slug: str
    task: str
    words: tuple[str, ...]


def load_topics() -> list[Topic]:
    """The package's topics, sorted by slug."""
    entries = yaml.safe_load(files("rtt.data").joinpath("topics.yaml").read_text(encoding="utf-8"))
    topics = [Topic(entry["slug"], entry["task"], tuple(entry["words"])) for entry in entries]
    return sorted(topics, key=lambda topic: topic.slug)


def make_prompts(count: int, seed: int, heldout_kinds: Sequence[str], splits: Mapping[str, float]) -> pd.DataFrame:
    """Made prompts, valid for ``rtt.tables.Prompts``: the same arguments always give the same table.

    A tenth of the prompts (``HELDOUT_KINDS_SHARE``) go to the split heldout_kinds: topics of the split heldout_topics,
    with one or two rubrics of the held-out kinds alone. The others are shared out like the topics and have one to four
    rubrics, of all kinds in ``KINDS`` but the held-out ones. No topic is in two of ``TOPIC_SPLITS``; within a split
    every kind is used about equally often; the rubrics of a prompt never contradict each other. With a larger count
    each split starts with the same prompts.

    Args:
        count: prompts over all splits; every split must get one.
        seed: decides everything drawn.
        heldout_kinds: kinds no prompt of ``TOPIC_SPLITS`` has.
        splits: share of the topics for each of ``TOPIC_SPLITS``; above 0, summing to 1.

    Returns:
        One row a prompt, split by split, with prompt_id ``<topic>/0007``, or ``<topic>/kinds-0007`` in heldout_kinds;
        every rubric's text stands in its prompt word for word.

    Raises:
        UserError: an unknown held-out kind, or none, or all; bad shares; too small a count; so large a count that the
            distinct prompts run out.
    """
    held = _checked_kinds(heldout_kinds)
    shares = _checked_shares(splits)
    topics = _split_topics(load_topics(), shares, seed)
    topics["heldout_kinds"] = topics["heldout_topics"]
    counts = _split_counts(count, shares)

    rows: list[dict[str, str]] = []
    for split in (*TOPIC_SPLITS, "heldout_kinds"):
        kinds = [name for name in KINDS if (name in held) == (split == "heldout_kinds")]
        rows += _make_split(split, counts[split], topics[split], kinds, random.Random(f"{seed}/prompts/{split}"))
    return check_table(pd.DataFrame(rows, columns=COLUMNS), Prompts, "made prompts")


def _checked_kinds(heldout_kinds: Sequence[str]) -> set[str]:
    where = "prompts.heldout_kinds"
    unknown = [name for name in heldout_kinds if name not in KINDS]
    if unknown:
        raise UserError(
            f"unknown rubric kind {unknown[0]!r}", where=where, todo="take kinds from these: " + ", ".join(KINDS)
        )
    if not heldout_kinds:
        raise UserError("no rubric kind is held out", where=where, todo="name at least one of: " + ", ".join(KINDS))
    if set(heldout_kinds) == set(KINDS):
        raise UserError(
            f"all {len(KINDS)} rubric kinds are held out", where=where, todo="leave some for the training prompts"
        )
    return set(heldout_kinds)


def _checked_shares(splits: Mapping[str, float]) -> dict[str, float]:
    total = sum(splits.values())
    if set(splits) != set(TOPIC_SPLITS) or min(splits.values()) <= 0 or abs(total - 1) > 1e-9:
        raise UserError(
            f"the shares of the splits are {dict(splits)}",
            where="prompts.splits",
            todo=f"give {', '.join(TOPIC_SPLITS)} a share above 0 each, summing to 1",
        )
    return {name: splits[name] for name in TOPIC_SPLITS}


def _share_out(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `total`, each within 1 of its share (largest remainders)."""
    exact = {name: total * share for name, share in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    left = total - sum(whole.values())
    # Rounded, so that shares that differ by a float's last digit do not.
    for name in sorted(exact, key=lambda name: round(whole[name] - exact[name], 9))[:left]:
        whole[name] += 1
    return whole


def _split_topics(topics: list[Topic], shares: Mapping[str, float], seed: int) -> dict[str, list[Topic]]:
    shuffled = random.Random(f"{seed}/topics").sample(topics, len(topics))
    split, start = {}, 0
    for name, size in _share_out(len(topics), shares).items():
        if size == 0:
            raise UserError(
                f"the share {shares[name]} of {len(topics)} topics leaves the split {name} without any",
                where="prompts.splits",
                todo=f"give it at least {1 / len(topics):.3f}",
            )
        split[name] = shuffled[start : start + size]
        start += size
    return split


def _split_counts(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    heldout = round(HELDOUT_KINDS_SHARE * count)
    counts = {**_share_out(count - heldout, shares), "heldout_kinds": heldout}
    empty = [name for name, size in counts.items() if size < 1]
    if empty:
        raise UserError(
            f"{count} prompts are too few: the split {empty[0]} gets none",
            where="prompts.count",
            todo="raise the count",
        )
    return counts


def _make_split(
    split: str, count: int, topics: list[Topic], kinds: list[str], rng: random.Random
) -> list[dict[str, str]]:
    """`count` prompts of a split, going round its topics in order."""
    rows: list[dict[str, str]] = []
    texts: set[str] = set()
    used: Counter[str] = Counter()
    for i in range(count):
        topic = topics[i % len(topics)]
        number = f"{i // len(topics):04d}"
        prompt_id = f"{topic.slug}/kinds-{number}" if split == "heldout_kinds" else f"{topic.slug}/{number}"
        for _ in range(_TRIES):
            rubrics = _draw_rubrics(rng, topic, kinds, rng.randint(1, MOST_RUBRICS[split]), used, prompt_id)
            text = _write_prompt(rng, topic, rubrics)
            if text not in texts:
                break
        else:
            raise UserError(
                f"after {len(rows)} of {count} prompts of the split {split} no further one differs from all before",
                where="prompts.count",
                todo="lower the count, or change prompts.heldout_kinds so that the split has more kinds",
            )
        texts.add(text)
        used.update(rubric.kind for rubric in rubrics)
        rows.append(dict(zip(COLUMNS, (prompt_id, split, topic.slug, text, dump_rubrics(rubrics)), strict=True)))
    return rows


def _draw_rubrics(
    rng: random.Random, topic: Topic, kinds: list[str], size: int, used: Counter[str], prompt_id: str
) -> list[Rubric]:
    """Up to `size` compatible rubrics, of the kinds used least so far, in the order of ``KINDS``."""
    urgency = {name: used[name] + _BALANCE * rng.random() for name in kinds}
    chosen: list[Rubric] = []
    for name in sorted(kinds, key=urgency.__getitem__):
        for _ in range(4):  # other arguments may go where the first did not
            kwargs = KINDS[name].draw(rng, topic.words)
            rubric = Rubric(rubric_id=name, kind=name, text=KINDS[name].text(rng, kwargs), kwargs=kwargs)
            if compatible([*chosen, rubric]):
                chosen.append(rubric)
                break
        if len(chosen) == size:
            break
    ordered = sorted(chosen, key=lambda rubric: list(KINDS).index(rubric.kind))
    return [rubric.model_copy(update={"rubric_id": f"{prompt_id}/{k}"}) for k, rubric in enumerate(ordered)]


def _write_prompt(rng: random.Random, topic: Topic, rubrics: list[Rubric]) -> str:
    """The task, a hint to be brief unless a rubric sets the length, then the criteria."""
    kinds = {rubric.kind for rubric in rubrics}
    task = rng.choice(_OPENINGS).format(task=topic.task)
    if not kinds & _LENGTHS:
        task += " " + rng.choice(_SHORT_HINTS if kinds & _LAYOUTS else _SENTENCES_HINTS)

    criteria = [rubric.text for rubric in rubrics]
    style = rng.choice(("run on", "own paragraph", "dashes", "numbers"))
    if style == "run on" or len(criteria) == 1:
        return task + rng.choice((" ", "\n", "\n\n")) + " ".join(criteria)
    if style == "own paragraph":
        return task + "\n\n" + rng.choice(_LEADS) + " " + " ".join(criteria)
    marks = ["- " if style == "dashes" else f"{k}. " for k in range(1, len(criteria) + 1)]
    lines = [mark + text for mark, text in zip(marks, criteria, strict=True)]
    return "\n".join([task, "", rng.choice(_LEADS), *lines])


def without_rubrics(prompt: str, texts: Sequence[str]) -> str:
    """`prompt` without these criteria, as it would have been written had they never been in it.

    Every place a text stands in goes, with a full stop, comma or semicolon right after it where the text itself ends
    without a mark. Then what is left is tidied there and nowhere else: white space around the place, a list line of
    which only the marker is left, the numbers of a numbered list after a line that went, and, of the leads that made
    prompts have ("Follow these rules:" and so on), one with no criterion left under it.

    Args:
        prompt: the user's message; the texts stand in it word for word, as in made prompts.
        texts: criteria; none leaves the prompt as it is.

    Returns:
        The rest, without white space at either end; empty if the prompt held nothing else.

    Raises:
        UserError: a text does not stand in the prompt, or is blank.
    """
    if not texts:
        return prompt
    for text in texts:
        if not text.strip() or not re.search(_standing(text), prompt):
            raise UserError(
                f"the criterion {text!r} does not stand in its prompt, so it cannot be taken out of it",
                where=f"the prompt {prompt[:80]!r}",
                todo="write the rubric's text into the prompt word for word, or use no arm that contrasts the two",
            )
    hole = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in prompt)  # stands for what went
    longest_first = sorted(set(texts), key=len, reverse=True)  # one text may be the beginning of another
    cut = re.sub("|".join(_standing(text) for text in longest_first), hole, prompt)
    leads = "|".join(map(re.escape, _LEADS))
    below = rf"(?:\s*{_MARKER}{hole})+"
    over = r"(?=\s*\Z|[^\S\n]*\n[^\S\n]*\n(?!\s*(?:[-*+•]|\d+[.)])\s))"
    cut = re.sub(rf"(?:{leads}){below}{over}", hole, cut)
    return _tidied(cut, hole)


def _standing(text: str) -> str:
    """A pattern for the places where a text stands on its own: "Use tea" does not stand in "Use teaspoons"."""
    text = text.strip()
    before = r"(?<!\w)" if re.match(r"\w", text) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", text) else ""
    mark = "" if text[-1] in ".!?:;," else r"(?:[.,;](?!\w))?"
    return before + re.escape(text) + after + mark


def _tidied(text: str, hole: str) -> str:
    """`text` without its holes, and without what they leave dangling."""
    kept: list[str] = []
    gone = 0  # numbered lines that went from the list the line is in
    after_gap = False
    for line in text.split("\n"):
        number = _NUMBER.match(line)
        if number is None and line.strip() and not line[0].isspace():
            gone = 0  # neither a numbered line nor the continuation of one: the list is over
        elif number is not None and int(number[2]) == 1:
            gone = 0
        if hole in line and re.fullmatch(_MARKER, line.replace(hole, "")):
            gone += number is not None
            after_gap = True
            continue
        if after_gap and not line.strip() and (not kept or not kept[-1].strip()):
            continue  # the line that went stood between two blank ones
        after_gap = False
        if number is not None and gone:
            line = f"{number[1]}{int(number[2]) - gone}{number[3]}{line[number.end() :]}"
        kept.append(_closed(line, hole) if hole in line else line)
    return "\n".join(kept).strip()


def _closed(line: str, hole: str) -> str:
    """A line with its holes closed: one space between what stood around them, none at the line's end."""
    line = re.sub(rf"\A([^\S\n]*){hole}[\s{hole}]*", r"\1", line)
    return re.sub(rf"\s*{hole}[\s{hole}]*", " ", line).rstrip()
