"""A step in as many processes as a configuration of accelerate says: the step starts itself anew under its launcher."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rtt.errors import UserError

MARK = "ACCELERATE_MIXED_PRECISION"
"""Environment variable that every launcher of accelerate sets for what it starts."""

STEP = ("--module", "rtt.cli")
"""What a launcher starts. The step's own arguments are not shown to its parser, which takes some for its own."""


def launched() -> bool:
    """Whether a launcher started this process."""
    return MARK in os.environ


def read_settings(file: Path) -> dict[str, Any]:
    """A configuration of accelerate.

    Raises:
        UserError: the file is absent or malformed, or does not say how many processes there are.
    """
    try:
        settings = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UserError(
            f"the configuration of accelerate cannot be read: {error.strerror}",
            where=file,
            todo="correct policy.accelerate; config/accelerate holds some",
        ) from None
    except yaml.YAMLError as error:
        what = f"the configuration of accelerate is not YAML: {error}"
        raise UserError(what, where=file, todo="correct it") from None
    count = settings.get("num_processes") if isinstance(settings, dict) else None
    if not isinstance(count, int) or count < 1:
        raise UserError("the configuration of accelerate has no num_processes", where=file, todo="add it, at least 1")
    return settings


def launch(file: Path, arguments: Sequence[str]) -> None:
    """Runs ``rtt`` with these arguments under accelerate's launcher, and exits as it did where it failed.

    Raises:
        UserError: the configuration cannot be used here.
    """
    settings = read_settings(file)
    if settings.get("distributed_type") == "DEEPSPEED":
        from accelerate.utils import is_deepspeed_available

        if not is_deepspeed_available():
            raise UserError(
                "the package deepspeed is not installed",
                where=file,
                todo="pip install deepspeed, or name another configuration under policy.accelerate",
            )
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What failed has said so itself; the launchers' own tracebacks would bury it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        if settings.get("distributed_type") == "MULTI_CPU":
            _on_processors(settings["num_processes"], arguments)
        else:
            from accelerate.commands.launch import launch_command, launch_command_parser

            parsed = launch_command_parser().parse_args(["--config_file", str(file), *STEP])
            parsed.training_script_args = list(arguments)
            launch_command(parsed)
    except (subprocess.CalledProcessError, ChildFailedError):
        sys.exit(1)
    except ValueError as error:
        raise UserError(f"accelerate refuses its configuration: {error}", where=file, todo="correct it") from None


def _on_processors(count: int, arguments: Sequence[str]) -> None:
    """Several processes without a graphics card, for which accelerate's own launcher wants MPI."""
    from torch.distributed import run

    os.environ.update({MARK: "no", "ACCELERATE_USE_CPU": "true"})
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the step sets its own number
    parsed = run.get_args_parser().parse_args(["--standalone", f"--nproc-per-node={count}", *STEP])
    parsed.training_script_args = list(arguments)
    run.run(parsed)
