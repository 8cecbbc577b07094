"""A step that is a copy of a loaded process does what it would do on its own, and ends with the `rtt` that asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rtt import preloaded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="steps are copies of one process on Linux only")

WAIT = 60.0
ASK = "import sys; from rtt import preloaded; preloaded.end_as(preloaded.hand_over(sys.argv[1:]))"
STEP = '''
"""In place of the command: says what it sees, and does as it is told."""
import json, os, signal, subprocess, sys, time
from pathlib import Path
from rtt import cli

def main(line):
    what, file = line
    seen = {
        "pid": os.getpid(), "argv": sys.argv[1:], "folder": os.getcwd(), "given": os.environ.get("GIVEN"),
        "address": os.environ.get("RTT_PRELOADED"), "umask": os.umask(0o22), "loaded": "colorsys" in sys.modules,
        "memory": "glibc.malloc.hugetlb=1" in Path("/proc/self/environ").read_text(),
    }
    if what == "threads":
        import torch
        seen["threads"] = torch.get_num_threads()
    print("said")
    print("told", file=sys.stderr)
    if what == "child":
        child = subprocess.Popen(["sleep", "600"])
        seen["child"] = child.pid
    if what == "asked to end":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    Path(file).with_suffix(".partial").write_text(json.dumps(seen))
    os.replace(Path(file).with_suffix(".partial"), file)
    if what in ("child", "asked to end"):
        time.sleep(600)
    if what == "fail":
        sys.exit(3)
    if what == "break":
        raise RuntimeError("broken")
    if what == "abort":
        os.abort()

cli.main = main
'''


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def loaded(tmp_path, monkeypatch) -> Path:
    """A loaded process that waits for steps; its socket."""
    (tmp_path / "scripted_step.py").write_text(STEP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = list(preloaded._held)
    monkeypatch.setenv(preloaded.ADDRESS, "")  # so that it is put back
    preloaded.start(["scripted_step", "colorsys"])
    address = Path(os.environ[preloaded.ADDRESS])
    until(address.exists)
    yield address
    for held in set(preloaded._held) - set(before):
        preloaded._held.remove(held)
        os.close(held)
    until(lambda: not address.parent.exists())


def ask(*line: str, **options) -> subprocess.Popen[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", ASK, *line], **streams | options)


def said(file: Path) -> dict:
    until(file.exists)
    return json.loads(file.read_text())


def test_step_sees_what_the_asking_process_sees(loaded, tmp_path):
    file, folder = tmp_path / "said.json", tmp_path / "elsewhere"
    folder.mkdir()
    asking = ask("say", str(file), cwd=folder, env=os.environ | {"GIVEN": "so"}, umask=0o27)
    assert asking.communicate(timeout=WAIT) == ("said\n", "told\n")
    assert asking.returncode == 0
    seen = said(file)
    assert seen.pop("pid") != asking.pid
    assert seen == {
        "argv": ["say", str(file)],
        "folder": str(folder),
        "given": "so",
        "address": None,
        "umask": 0o27,
        "loaded": True,
        "memory": True,
    }


@pytest.mark.parametrize(
    ("what", "status", "message"), [("fail", 3, ""), ("break", 1, "broken"), ("abort", -signal.SIGABRT, "")]
)
def test_ends_as_the_step_ends(loaded, tmp_path, what, status, message):
    asking = ask(what, str(tmp_path / "said.json"))
    errors = asking.communicate(timeout=WAIT)[1]
    assert asking.returncode == status
    assert message in errors


def test_signal_is_passed_on(loaded, tmp_path):
    asking = ask("asked to end", str(tmp_path / "said.json"))
    said(tmp_path / "said.json")
    asking.send_signal(signal.SIGTERM)
    assert asking.wait(timeout=WAIT) == 7


def test_step_and_what_it_started_die_with_the_asking_process(loaded, tmp_path):
    asking = ask("child", str(tmp_path / "said.json"))
    seen = said(tmp_path / "said.json")
    assert not gone(seen["pid"])
    asking.kill()
    until(lambda: gone(seen["pid"]) and gone(seen["child"]))
    asking.wait()


def test_steps_run_side_by_side_and_outlive_the_loaded_process(loaded, tmp_path):
    waiting = ask("asked to end", str(tmp_path / "one.json"))
    keeper = psutil.Process(said(tmp_path / "one.json")["pid"]).parent()
    other = ask("fail", str(tmp_path / "two.json"))
    assert other.wait(timeout=WAIT) == 3
    keeper.parent().kill()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=WAIT) == 7
    shutil.rmtree(loaded.parent)  # which a killed process leaves behind


def test_lost_step_is_told(loaded, tmp_path):
    asking = ask("asked to end", str(tmp_path / "said.json"))
    seen = said(tmp_path / "said.json")
    psutil.Process(seen["pid"]).parent().kill()
    assert "the process that ran this step is gone" in asking.communicate(timeout=WAIT)[1]
    assert asking.returncode == 1
    until(lambda: gone(seen["pid"]))


@pytest.mark.parametrize("count", ["1", "2"])
def test_threads_are_those_asked_for(loaded, tmp_path, count):
    asking = ask("threads", str(tmp_path / "said.json"), env=os.environ | {"OMP_NUM_THREADS": count})
    assert asking.wait(timeout=WAIT) == 0
    assert said(tmp_path / "said.json")["threads"] == int(count)


@pytest.mark.parametrize("address", [None, "nowhere"])
def test_without_a_loaded_process_nothing_is_handed_over(monkeypatch, tmp_path, address):
    monkeypatch.delenv(preloaded.ADDRESS, raising=False)
    if address:
        monkeypatch.setenv(preloaded.ADDRESS, str(tmp_path / address))
    assert preloaded.hand_over(["evaluate"]) is None
    assert preloaded.ADDRESS not in os.environ


def test_process_that_cannot_load_leaves_nothing_behind(monkeypatch):
    monkeypatch.setenv(preloaded.ADDRESS, "")
    before = list(preloaded._held)
    preloaded.start(["no_such_module"])
    until(lambda: not Path(os.environ[preloaded.ADDRESS]).parent.exists())
    os.close(preloaded._held.pop())
    assert preloaded._held == before
