"""Verdicts by rule: the checkers of IFEval and IFBench, asked one instruction at a time.

The checkers come from ``if_verifiable``. Its own loop skips kinds it does not know, returns nothing for an empty
answer, strips the answer, and draws a value at random for every argument that is missing; none of that may decide a
verdict here. The response is judged as it stands: whoever generates it removes a model's thinking first.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rtt.errors import UserError
from rtt.judging import constraints
from rtt.judging.cases import Case, Verdict
from rtt.rubrics import Rubric

logger = logging.getLogger(__name__)

RULE = "rule"
"""Name of the judge in a verdict."""

QUICK = 2000
"""So many verdicts are there before a progress bar would be read."""

_NEEDED_DATA = ["tokenizers/punkt_tab/english/", "corpora/stopwords/"]
_TAGGER = "taggers/averaged_perceptron_tagger_eng/"

# An answer every checker can read when its arguments make sense; see _build.
_PROBE = "A plain answer of one sentence."


class DataMissingError(UserError):
    """NLTK's data is not there, which says nothing about a rubric."""


def use_nltk_data(folder: Path) -> None:
    """Makes NLTK read its data from `folder` before anywhere else, in this process and in those it starts.

    Args:
        folder: an NLTK data folder with ``tokenizers/punkt_tab`` and ``corpora/stopwords``; the tagger may be missing.

    Raises:
        UserError: when the folder lacks one of these two.
    """
    import nltk

    place = str(Path(folder).resolve())
    for resource in _NEEDED_DATA:
        try:
            nltk.data.find(resource, paths=[place])
        except LookupError:
            raise UserError(
                f"the NLTK data folder has no {resource.rstrip('/')}",
                where=folder,
                todo="give the folder that holds tokenizers/punkt_tab and corpora/stopwords",
            ) from None
    nltk.data.path[:] = [place, *(path for path in nltk.data.path if path != place)]
    os.environ["NLTK_DATA"] = place


def has_tagger() -> bool:
    """Whether NLTK finds ``averaged_perceptron_tagger_eng``, without which ``words:start_verb`` cannot be judged."""
    import nltk

    try:
        nltk.data.find(_TAGGER)
    except LookupError:
        return False
    return True


def kinds() -> frozenset[str]:
    """The kinds of rubric that have a checker: IFEval's 25, IFBench's 58, and MulDimIF's as we read them."""
    return frozenset(_registry()) | constraints.kinds()


def checker_of(kind: str) -> str:
    """Whose checker a kind has, with its version, as it stands beside a score."""
    own = kind in constraints.kinds()
    package = "rubrics-to-tokens" if own else "if-verifiable"
    return f"{package} {version(package)}"


def follows(kind: str, kwargs: dict[str, Any], response: str, prompt: str = "") -> bool:
    """The strict verdict: whether the response as it stands follows the instruction.

    Args:
        kind: the checker's name, for example ``punctuation:no_comma``.
        kwargs: the checker's arguments; those that are None count as not given.
        response: the answer; an empty or blank one follows nothing.
        prompt: the question, for checkers that compare with it.

    Raises:
        UserError: unknown kind; arguments the checker refuses or would draw at random; NLTK data missing.
        Exception: whatever the checker raises on this response.
    """
    if kind in constraints.kinds():
        return _keeps(kind, kwargs, response)
    return _passes(_checker(kind, kwargs, prompt), response)


def require_arguments(kind: str, kwargs: dict[str, Any], prompt: str = "") -> None:
    """Refuses what :func:`follows` would refuse, whatever the response; NLTK's data may be missing.

    Raises:
        UserError: unknown kind, or arguments the checker refuses or would draw at random.
    """
    with suppress(DataMissingError):
        follows(kind, kwargs, "", prompt)


def _keeps(kind: str, kwargs: dict[str, Any], response: str) -> bool:
    """The verdict on a constraint of MulDimIF's."""
    try:
        return constraints.follows(kind, kwargs, response)
    except ValueError as error:
        raise _refused(kind, kwargs, error) from None
    except LookupError as error:
        if type(error) is not LookupError:  # IndexError and KeyError are about this response
            raise
        raise _lacking(kind, error) from None


def check(kind: str, kwargs: dict[str, Any], response: str, prompt: str = "") -> tuple[bool, bool]:
    """The strict and the loose verdict; arguments as in :func:`follows`.

    Loose is passed when any of the eight published variants (with and without the first line, the last line and the
    asterisks) is. The unchanged response is one of them, so strict implies loose. A text the checker trips over, be it
    a variant or the response itself, does not pass: a table that cannot be read is not the table that was asked for.

    Raises:
        UserError: as :func:`follows`.
    """
    from if_verifiable.common import get_loose_transformations

    try:
        if follows(kind, kwargs, response, prompt):
            return True, True
    except UserError:
        raise
    except Exception as error:
        logger.warning("%s cannot read an answer, which counts as not followed: %r", kind, error)
    if kind in constraints.kinds():
        return False, False  # these have no loose form
    checker = _checker(kind, kwargs, prompt)
    for variant in dict.fromkeys(get_loose_transformations(response)):  # many are equal
        try:
            if _passes(checker, variant):
                return False, True
        except UserError:
            raise
        except Exception as error:
            logger.debug("%s tripped over a loose variant: %r", kind, error)
    return False, False


class Rules:
    """The rule checkers as a judge (rtt.judging.cases.Judge)."""

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        """Strict verdicts, +1 or -1; missing, with the exception as the reason, where a checker raises on a response.

        Raises:
            UserError: anything :func:`follows` refuses, naming the rubric.
        """
        bar = tqdm(cases, desc="rule verdicts", disable=None if len(cases) > QUICK else True)
        return [judge_one(case.rubric, case.response, case.prompt) for case in bar]


def judge_one(rubric: Rubric, response: str, prompt: str) -> Verdict:
    """The verdict on one rubric, +1 or -1, or missing with the exception as the reason."""
    try:
        return Verdict(1.0 if follows(rubric.kind, rubric.kwargs, response, prompt) else -1.0, RULE)
    except UserError as error:
        raise UserError(error.what, where=f"rubric {rubric.rubric_id}", todo=error.todo) from None
    except Exception as error:
        return Verdict(float("nan"), RULE, f"{type(error).__name__}: {error}")


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Makes ``nltk.download`` do nothing.

    On import ``if_verifiable`` downloads each NLTK resource it does not find, and it always looks for the old ``punkt``
    pickles, which no checker reads. Offline that waits for a time-out; online it puts data nobody pinned into the
    user's home. Looking data up is left alone: what is truly needed and absent is reported when a checker wants it.
    """
    import nltk

    download = nltk.download
    nltk.download = lambda *args, **kwargs: False
    try:
        yield
    finally:
        nltk.download = download


@lru_cache(maxsize=1)
def _registry() -> dict[str, Any]:
    """Checker classes by kind. Imported on first use: the import takes seconds, and most steps never need it."""
    with _no_downloads():
        from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL
    import langdetect

    langdetect.DetectorFactory.seed = 0  # it samples; without a seed a verdict may differ between two runs
    return {**IFBENCH, **IFEVAL}


def _checker(kind: str, kwargs: dict[str, Any], prompt: str) -> Any:
    registry = _registry()
    if kind not in registry:
        raise UserError(
            f"there is no rule checker for the kind {kind!r}",
            todo="correct the kind, or let an LLM judge this rubric; rtt.judging.rules.kinds() lists the known ones",
        )
    given = {name: value for name, value in kwargs.items() if value is not None}
    try:
        key = json.dumps(given, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise _refused(kind, kwargs, error) from None
    needs_prompt = "prompt" in registry[kind](kind).get_instruction_args_keys()
    return _build(kind, key, prompt if needs_prompt else None)


# Checkers can be kept: only the ending's assigns to itself while checking, and all it does is strip its phrase again.
@lru_cache(maxsize=8192)
def _build(kind: str, key: str, prompt: str | None) -> Any:
    kwargs = json.loads(key)
    checker = _registry()[kind](kind)
    stand_ins = _stand_ins(kind, kwargs)
    given = {**kwargs, **stand_ins} if prompt is None else {**kwargs, **stand_ins, "prompt": prompt}

    state = random.getstate()
    try:
        checker.build_description(**given)
        if random.getstate() != state:
            why = "an argument is missing or out of range, and the checker would draw it at random"
            raise _refused(kind, kwargs, why)
        for name in stand_ins:
            setattr(checker, f"_{name}", kwargs[name])
        _passes(checker, _PROBE)
    except UserError:
        raise
    except Exception as error:  # a bad argument shows as any of TypeError, ValueError, KeyError, re.error
        raise _refused(kind, kwargs, error) from None
    finally:
        random.setstate(state)
    return checker


def _stand_ins(kind: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Values to build a checker with where it would replace a meaningful one by a random one.

    It is told the given value afterwards. There are two such cases: a letter outside a-z (IFEval asks for '#' and '!')
    and a span that starts at index 0 (IFBench has one).
    """
    letter = kwargs.get("letter")
    if kind == "keywords:letter_frequency" and isinstance(letter, str) and len(letter) == 1:
        plain = "a" <= letter.lower() <= "z"
        return {} if plain or letter.isspace() or letter != letter.lower() else {"letter": "a"}
    if kind == "repeat:repeat_span" and kwargs.get("n_start") == 0:
        return {"n_start": 1}
    return {}


def _refused(kind: str, kwargs: dict[str, Any], why: object) -> UserError:
    why = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else why
    return UserError(
        f"the checker {kind!r} cannot use the arguments {kwargs!r} ({why})",
        todo="correct the rubric's kwargs; every argument the checker takes must be given",
    )


def _passes(checker: Any, response: str) -> bool:
    if not response.strip():
        return False
    try:
        return bool(checker.check_following(response))
    except LookupError as error:
        if type(error) is not LookupError:  # IndexError and KeyError are about this response
            raise
        raise _lacking(checker.id, error) from None


def _lacking(kind: str, error: LookupError) -> DataMissingError:
    return DataMissingError(
        f"the checker {kind!r} needs NLTK data that is not there: {_named_resource(error)}",
        todo="name a folder that holds it as the NLTK data folder",
    )


def _named_resource(error: LookupError) -> str:
    """The line of NLTK's long message that names what it looked for."""
    lines = [line.strip(" *") for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("Resource")), "see NLTK's documentation on data")
