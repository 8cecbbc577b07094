"""Several processes that train one policy together (`accelerate launch`): who speaks, and what all must know.

Everything here does the plain thing where there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rtt.errors import UserError

if TYPE_CHECKING:  # torch is slow to import
    import torch

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=6)
"""How long a process waits for another; the first may have a language model judge thousands of responses."""


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that judges, writes files and talks to MLflow; the others do not."""
    return rank() == 0


def device() -> torch.device:
    """The graphics card of this process, or the processor where there is none."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join() -> None:
    """Lets the processes find each other; needed before the functions below, and harmless when done again."""
    if count() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def wait() -> None:
    """Until all processes have come here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def gathered(rows: list[T]) -> list[T]:
    """The lists of all processes, one after the other, in each of them."""
    if count() == 1:
        return rows
    from accelerate.utils import gather_object

    return gather_object(rows)


def on_first(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, in all of them; the others wait for it and do not do it.

    Raises:
        UserError: in every process what `work` raised in the first.
        RuntimeError: in the others, where `work` failed in another way.
    """
    if count() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    told: list[Any] = [None, None]
    failed: BaseException | None = None
    if is_first():
        try:
            told[0] = work()
        except BaseException as error:
            failed = error
            told[1] = error if isinstance(error, UserError) else f"the first process failed: {error!r}"
    broadcast_object_list(told)
    if failed is not None:
        raise failed
    if isinstance(told[1], UserError):
        told[1].told = True
        raise told[1]
    if told[1] is not None:
        raise RuntimeError(told[1])
    return told[0]
