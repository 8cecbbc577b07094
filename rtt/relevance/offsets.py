"""Where sampled tokens lie in the text they decode to, and relevance carried between tokens and characters.

Characters are the common ground of two tokenizers: the discriminator gives a number per character, and the policy, with
whatever tokenizer it has, reads the numbers of its own tokens from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Span = tuple[int, int]

BROKEN = "\N{REPLACEMENT CHARACTER}"  # what incomplete UTF-8 decodes to


def token_spans(tokenizer: Any, ids: Sequence[int], text: str) -> list[Span]:
    """The characters ``[start, end)`` of `text` that each sampled token stands for.

    The text is never tokenised again: the same text may be sampled as other tokens than a tokenizer would choose.

    Args:
        tokenizer: the tokenizer of the model that sampled the tokens.
        ids: the sampled tokens, special ones included.
        text: ``tokenizer.decode(ids, skip_special_tokens=True)``.

    Returns:
        One span a token, in order and without a gap. A special token has an empty span; each token that holds a part
        of a character has the whole character.

    Raises:
        ValueError: the tokens do not decode to `text`.
    """
    ids = list(ids)
    piece_of = {token: _decode(tokenizer, [token]) for token in set(ids)}
    # A byte-level token that cuts a character decodes to BROKEN, and belongs with its neighbours up to the next whole
    # token. A special one decodes to nothing and does not end such a run: the bytes on either side of it are joined.
    runs: list[list[int]] = []
    open_run = False
    for token in ids:
        piece = piece_of[token]
        if open_run and (BROKEN in piece or not piece):
            runs[-1].append(token)
        else:
            runs.append([token])
            open_run = BROKEN in piece
    pieces = [piece_of[run[0]] if len(run) == 1 else _decode(tokenizer, run) for run in runs]
    if "".join(pieces) != text:  # a decoder that looks at its neighbours, such as one that strips the first space
        return _spans_by_prefix(tokenizer, ids, text, piece_of)
    spans: list[Span] = []
    position = 0
    for run, piece in zip(runs, pieces, strict=True):
        if len(run) == 1:
            spans.append((position, position + len(piece)))
        else:
            spans += [(position + a, position + b) for a, b in _spans_by_prefix(tokenizer, run, piece, piece_of)]
        position += len(piece)
    return spans


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


def _spans_by_prefix(tokenizer: Any, ids: list[int], text: str, piece_of: dict[int, str]) -> list[Span]:
    """Decodes every prefix of `ids` and sees how far each agrees with `text`. Time is quadratic in the tokens."""
    if _decode(tokenizer, ids) != text:
        raise ValueError(f"the {len(ids)} tokens decode to {_decode(tokenizer, ids)[:80]!r}, not to {text[:80]!r}")
    spans: list[Span] = []
    before, settled = "", 0  # the text of the prefix so far, and how many characters of `text` it has settled
    for count, token in enumerate(ids, start=1):
        prefix = _decode(tokenizer, ids[:count])
        if prefix == before and not piece_of[token]:
            spans.append((settled, settled))
            continue
        # Bytes that went into a BROKEN already there: the token begins inside that last character.
        joins = (
            before[settled - 1 : settled] == BROKEN and len(before) == settled and before + piece_of[token] != prefix
        )
        start = settled - joins
        settled = max(settled, _agreement(prefix, text))
        reaches_into_next = prefix[settled : settled + 1] == BROKEN and settled < len(text)
        spans.append((start, settled + reaches_into_next))
        before = prefix
    return spans


def _agreement(one: str, other: str) -> int:
    """How many characters two strings have in common at their start."""
    if other.startswith(one):
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def char_to_token_relevance(char_relevance: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """The largest relevance among the characters of each token.

    Args:
        char_relevance: one number per character of the response.
        spans: the span of each token, see :func:`token_spans`.

    Returns:
        One number per token, of the same dtype; 0 for an empty span.

    Raises:
        ValueError: a span reaches past the response.
    """
    reach = max((end for _, end in spans), default=0)
    if reach > len(char_relevance):
        raise ValueError(f"a token span ends at character {reach}, but there are {len(char_relevance)} characters")
    return np.array([char_relevance[a:b].max() if b > a else 0 for a, b in spans], dtype=char_relevance.dtype)


def spans_to_chars(spans: Sequence[Span] | Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Whether each of `length` characters lies in one of `spans`: a boolean array.

    Raises:
        ValueError: a span reaches past `length`.
    """
    inside = np.zeros(length, dtype=bool)
    for start, end in spans:
        if end > length:
            raise ValueError(f"the span {start}..{end} reaches past the {length} characters")
        inside[start:end] = True
    return inside
