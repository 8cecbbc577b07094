"""The command `rtt`: parses, calls the step, and turns the user's mistakes into one message."""

from __future__ import annotations

import errno
import gc
import logging
import os
import sys
from collections.abc import Sequence

from rtt import memory, preloaded
from rtt.arguments import parse
from rtt.errors import UserError

HUBS = "fetch"
"""The one command that asks hubs: for the others every input is a file by now."""


def _no_space(error: BaseException) -> bool:
    """Whether the disk was full; libraries wrap the operating system's error in types of their own."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) == errno.ENOSPC or "No space left on device" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def settle(command: str) -> None:
    """What has to be said before libraries are loaded."""
    # A step loads libraries of some hundred thousand objects, and the collector goes through them again and again: with
    # its own thresholds that is a sixth of a short step.
    gc.set_threshold(100_000, 50, 1000)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a log has no use for the bars of loading
    if command != HUBS:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one step; exits with 1 and one message on the user's mistake."""
    line = list(sys.argv[1:] if argv is None else argv)
    arguments = parse(line)
    arguments.line = line  # for a step that starts itself anew in several processes
    settle(arguments.command)
    try:
        status = None if arguments.command == HUBS else preloaded.hand_over(line)
        if status is not None:
            preloaded.end_as(status)
        if argv is None:
            memory.tune()
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        arguments.handler(arguments)
    except UserError as error:
        sys.exit(1 if error.told else f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _no_space(error):
            raise
        full = UserError(
            "no space is left on the disk",
            where=getattr(arguments, "output", ""),
            todo="free some space and run the same command again; what was finished before is untouched",
        )
        sys.exit(f"error: {full}")


if __name__ == "__main__":
    main()
