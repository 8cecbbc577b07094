"""Verdicts by a rubric's own program, which nobody vouches for: it runs behind walls (docs/sandbox.md)."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rtt.config import Sandbox
from rtt.errors import UserError
from rtt.judging.cases import Case, Verdict
from rtt.rubrics import PROGRAM

_log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("sandbox_worker.py")

ISOLATED = ("-P", "-s", "-S", "-B")
"""As -I, but it reads PYTHONHASHSEED, without which the order of a set, and a verdict, differs between two runs."""

GRACE = 10.0
"""Seconds after a program's time in which its worker has to answer; then it is broken and a new one takes its place."""


class Programs:
    """Runs each rubric's program on its response (rtt.judging.cases.Judge).

    The program stands in ``kwargs["source"]`` and defines ``check_following(instruction, response)``; the instruction
    is ``kwargs["instruction"]`` or else the rubric's text. True is kept, False broken; anything else leaves the verdict
    missing with the reason, be it an exception or a program that takes too much of anything.
    """

    def __init__(self, settings: Sandbox) -> None:
        if not sys.platform.startswith("linux"):
            raise UserError(
                f"rubrics with programs of their own are judged on Linux alone, and this is {sys.platform}",
                where="a rubric of the kind program",
                todo="run the verdicts on Linux, or leave these rubrics to a language model",
            )
        self.settings = settings

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        """Verdicts in order. Raises UserError for a rubric without a program."""
        waiting: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        for number, case in enumerate(cases):
            waiting.put((number, self._request(case)))
        verdicts: list[Verdict | None] = [None] * len(cases)
        problems: list[BaseException] = []
        stop = threading.Event()
        workers: list[_Worker] = []
        bar = tqdm(total=len(cases), desc="programs", disable=None)

        def work(worker_number: int) -> None:
            try:
                with (
                    tempfile.TemporaryDirectory(prefix="rtt-sandbox-") as empty,
                    _Worker(worker_number, empty) as worker,
                ):
                    workers.append(worker)
                    while not stop.is_set():
                        try:
                            number, request = waiting.get_nowait()
                        except queue.Empty:
                            return
                        verdicts[number] = _verdict(worker.run(request))
                        bar.update()
            except BaseException as error:
                problems.append(error)
                stop.set()

        threads = [
            threading.Thread(target=work, args=(number,), daemon=True)
            for number in range(min(self.settings.workers, len(cases)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # in small steps, so that Ctrl-C is heard
        except BaseException:
            stop.set()
            for worker in workers:
                worker.end()  # its thread waits for it
            raise
        finally:
            stop.set()
            for thread in threads:
                thread.join(self.settings.time_seconds + GRACE)
            bar.close()
        if problems:
            raise problems[0]
        return [verdict for verdict in verdicts if verdict is not None]

    def _request(self, case: Case) -> dict[str, Any]:
        source = case.rubric.kwargs.get("source")
        if not isinstance(source, str):
            raise UserError(
                "the rubric has no program", where=f"rubric {case.rubric.rubric_id}", todo='give it as kwargs["source"]'
            )
        return {
            "source": source,
            "instruction": str(case.rubric.kwargs.get("instruction", case.rubric.text)),
            "response": case.response,
            "limits": {"time_seconds": self.settings.time_seconds, "memory_mb": self.settings.memory_mb},
        }


def _verdict(reply: dict[str, Any]) -> Verdict:
    if "verdict" in reply:
        return Verdict(1.0 if reply["verdict"] else -1.0, PROGRAM)
    return Verdict(math.nan, PROGRAM, reply["reason"])


_told: set[str] = set()
"""Walls that are missing and have been warned of."""


class _Worker:
    """A process that runs programs one after the other; one that breaks is replaced."""

    def __init__(self, number: int, empty: str) -> None:
        os.chmod(empty, 0o555)
        self.number, self.empty = number, empty
        self.process = self._start()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def end(self) -> None:
        """Ends the process from another thread than the one that waits for its reply."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's reply to a request."""
        if self.process.poll() is not None:  # it broke after its last reply
            self._replace()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            reply = self._read(request["limits"]["time_seconds"] + GRACE)
        except BrokenPipeError:
            reply = None
        if reply is not None:
            return reply
        self._replace()
        return {"reason": "the sandbox broke"}

    def _replace(self) -> None:
        self._kill()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *ISOLATED, str(WORKER), str(self.number), self.empty],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
            cwd=self.empty,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        self.process = process
        self.buffer = b""
        hello = self._read(60.0)
        if hello is None:
            raise UserError(
                "the sandbox for programs does not start",
                where=WORKER,
                todo=f"try `python {' '.join(ISOLATED)}` on this machine",
            )
        for wall in hello["missing"]:
            if wall not in _told:
                _told.add(wall)
                _log.warning("programs run without a %s of their own: this machine allows none", wall)
        return process

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """The next line; None when it does not come in time, or the worker is gone."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            part = os.read(descriptor, 65536)
            if not part:
                return None
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not taken any more
                    stream.close()
