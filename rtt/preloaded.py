"""A process that has loaded the libraries steps need, of which the steps of a local workflow are copies.

Loading torch, transformers and the rest takes longer than many a step works. Snakemake's own process starts one that
does so once (:func:`start`, in the Snakefile). From then on each ``rtt`` hands over its command line, environment,
working directory and open files (:func:`hand_over`) to a copy of it, passes on the signals it gets, and ends as that
ends. Where no such process is to be reached a step loads what it needs itself; what comes out is the same.

Who is who: the *loaded* process waits for ``rtt`` and never works; a *keeper*, one for each step, watches over `rtt`
and the step; the *step* is the keeper's only child.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast

from rtt.errors import UserError
from rtt.memory import tuned

ADDRESS = "RTT_PRELOADED"
"""Environment variable with the path of the loaded process's socket."""

MODULES = (
    "alembic",
    "langdetect",
    "mlflow.store.tracking.sqlalchemy_store",
    "nltk",
    "pandera.backends.pandas.register",
    "peft",
    "rtt.data.benchmarks",
    "rtt.data.prompts",
    "rtt.evaluation.answers",
    "rtt.evaluation.local",
    "rtt.evaluation.scoring",
    "rtt.judging.routing",
    "rtt.judging.verdicts",
    "rtt.policy.offline",
    "rtt.policy.rounds",
    "rtt.relevance.corpus",
    "rtt.relevance.quality",
    "rtt.relevance.training",
    "rtt.report.view",
    "rtt.report.write",
)
"""What is loaded, with all that these load."""

_LONGEST_PATH = 100  # of a socket; the system takes 107 bytes
_FILES = (0, 1, 2)
_HEADER, _STATUS = struct.Struct("!Q"), struct.Struct("!i")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1

_held: list[int] = []  # what tells the loaded process, when it closes, that nobody needs it any more


def start(modules: Sequence[str] = MODULES) -> None:
    """Starts a process that loads `modules`, for the steps that this process starts from here on.

    It ends with this one, however that ends. Does nothing but on Linux.
    """
    folder = Path(tempfile.mkdtemp(prefix="rtt-"))  # only its owner may enter
    if sys.platform != "linux" or len(str(folder)) > _LONGEST_PATH - len("/socket"):
        folder.rmdir()
        return
    until, held = os.pipe()
    _held.append(held)
    address = folder / "socket"
    subprocess.Popen(
        [sys.executable, "-P", "-m", "rtt.preloaded", str(address), *modules],
        stdin=until,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # One thread: a copy of a process with more would wait for those it has not got. A session of its own, since
        # what is typed at the terminal goes to `rtt`, which passes it on.
        env=tuned(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        start_new_session=True,
    )
    os.close(until)
    os.environ[ADDRESS] = str(address)


def hand_over(line: Sequence[str]) -> int | None:
    """Has the loaded process run ``rtt`` with these arguments, and waits for the end.

    Returns:
        Its exit status, negative the signal that ended it; None if nobody is there to run it.

    Raises:
        UserError: the process was lost on the way.
    """
    address = os.environ.pop(ADDRESS, None)  # what a step starts in turn is none of a workflow's steps
    if address is None:
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:  # not yet, or no more
        return None
    umask = os.umask(0)
    os.umask(umask)
    given = {"line": [sys.argv[0], *line], "environ": dict(os.environ), "folder": os.getcwd(), "umask": umask}
    message = json.dumps(given).encode()
    with connection:
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
        with suppress(ConnectionError):  # then nothing comes back
            socket.send_fds(connection, [_HEADER.pack(len(message))], _FILES)
            connection.sendall(message)
        status = _received(connection, _STATUS.size)
    if len(status) < _STATUS.size:
        raise UserError(
            "the process that ran this step is gone", where=f"rtt {line[0]}", todo="run the same command again"
        )
    return _STATUS.unpack(status)[0]


def end_as(status: int) -> None:
    """Ends this process with an exit status, or by the signal that a negative one stands for."""
    if status < 0:
        with suppress(OSError):  # some cannot be handled
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def _received(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if the other side is gone."""
    data = b""
    while len(data) < size:
        with suppress(ConnectionError):
            more = connection.recv(size - len(data))
            if more:
                data += more
                continue
        break
    return data


def _serve(address: Path) -> list[str]:
    """Waits for steps until nobody is left who could start one. Returns in a copy, with the step's arguments."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(address))
        door.listen(64)
        poll = select.poll()
        poll.register(door, select.POLLIN)
        poll.register(sys.stdin.fileno(), 0)  # only hears that its other end is closed
        while True:
            heard = {number for number, _ in poll.poll()}
            while _reaped():
                pass
            if door.fileno() not in heard:
                shutil.rmtree(address.parent, ignore_errors=True)
                sys.exit()
            connection, _ = door.accept()
            with connection:
                if os.fork() == 0:
                    door.close()
                    return _keep(connection)


def _reaped() -> bool:
    """Takes leave of a keeper that has ended, if one has."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _keep(connection: socket.socket) -> list[str]:
    """A keeper's life. Returns in the step, with its arguments."""
    header, files, _, _ = socket.recv_fds(connection, _HEADER.size, len(_FILES))
    message = _received(connection, _HEADER.unpack(header)[0]) if len(header) == _HEADER.size else b""
    if not message or len(files) < len(_FILES):
        os._exit(1)
    keeper = os.getpid()
    step = os.fork()
    if step == 0:
        connection.close()
        return _step(json.loads(message), files, keeper)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(step)
    while True:
        ready, _, _ = select.select([connection.fileno(), ended], [], [])
        if ended in ready:
            break
        passed_on = _received(connection, 1)
        with suppress(ProcessLookupError):
            if passed_on:
                os.kill(step, passed_on[0])
            else:  # `rtt` was killed, and so are the step and what it started
                os.killpg(step, signal.SIGKILL)
                break
    status = os.waitstatus_to_exitcode(os.waitpid(step, 0)[1])
    with suppress(OSError):
        connection.sendall(_STATUS.pack(status))
    os._exit(0)


def _step(given: dict[str, Any], files: Sequence[int], keeper: int) -> list[str]:
    """Makes this copy what `rtt` would be; returns its arguments."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)
    for number, file in zip(_FILES, files, strict=True):
        os.dup2(file, number)
        os.close(file)
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=os.isatty(1))
    os.chdir(given["folder"])
    os.umask(given["umask"])
    os.environ.clear()
    os.environ.update(given["environ"])
    sys.argv, line = given["line"], given["line"][1:]
    _use_threads(os.environ.get("OMP_NUM_THREADS"))
    return line


def _use_threads(count: str | None) -> None:
    """As libraries do when they are loaded with this environment variable."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = int(count) if count and count.isdigit() else len(os.sched_getaffinity(0))
    threadpool_limits(threads)
    torch.set_num_threads(threads)  # for MKL, which is part of torch and which threadpoolctl does not see


def main() -> None:
    """The loaded process, and each step that is a copy of it."""
    from rtt import cli

    address, modules = Path(sys.argv[1]), sys.argv[2:]
    cli.settle("")
    try:
        for name in modules:
            importlib.import_module(name)
        if threading.active_count() > 1:
            raise RuntimeError("a library has started threads, which copies would not have")
    except BaseException:
        shutil.rmtree(address.parent, ignore_errors=True)
        raise
    gc.collect()
    gc.freeze()  # or the collector would write to all of it in each copy
    cli.main(_serve(address))


if __name__ == "__main__":
    main()
