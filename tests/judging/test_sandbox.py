"""Programs nobody vouches for: hostile ones are contained, legitimate ones get their verdict."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from rtt.config import Sandbox
from rtt.errors import UserError
from rtt.judging.cases import Case
from rtt.judging.sandbox import Programs
from rtt.rubrics import PROGRAM, Rubric

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is Linux's")

SECRET = "distinctive-secret-0815"
MARK = "rtt-hostile-mark"
RESPONSE = 'One, two: three!\n{"a": [1, 2]}'


def run(*sources: str, seconds: float = 1.0, **settings):
    programs = Programs(Sandbox(time_seconds=seconds, **settings))
    rubrics = [
        Rubric(rubric_id=f"p/{k}", kind=PROGRAM, text="Count.", kwargs={"source": s}) for k, s in enumerate(sources)
    ]
    return programs.judge([Case(rubric, RESPONSE, "p") for rubric in rubrics])


LEGITIMATE = {
    "plain": ("def check_following(instruction, response):\n    return 'two' in response", 1),
    "broken": ("def check_following(instruction, response):\n    return 'four' in response", -1),
    "isinstance": ("def check_following(i, r):\n    return isinstance(r, str) and not isinstance(i, int)", 1),
    "exceptions": (
        (
            "def check_following(i, r):\n    try:\n        return bool(int(r))\n    except ValueError as error:\n"
            "        return 'invalid' in str(error)\n    finally:\n        pass"
        ),
        1,
    ),
    "re": ("import re\ndef check_following(i, r):\n    return len(re.findall(r'\\w+', r)) == 6", 1),
    "json": (
        "def check_following(i, r):\n    import json\n    return json.loads(r.splitlines()[1])['a'] == [1, 2]",
        1,
    ),
    "collections": (
        "from collections import Counter, defaultdict\ndef check_following(i, r):\n    return Counter(r)['t'] == 2",
        1,
    ),
    "several modules": (
        (
            "import string, math, datetime, unicodedata, itertools, statistics, textwrap\n"
            "def check_following(i, r):\n    return math.isqrt(16) == 4 and unicodedata.category('A') == 'Lu' and "
            "datetime.datetime.strptime('2020-01-02', '%Y-%m-%d').day == 2"
        ),
        1,
    ),
    "helpers": (
        (
            "from typing import List\nLIMIT: int = 3\ndef words(text: str) -> List[str]:\n    return text.split()\n"
            "class Box:\n    def __init__(self, n): self.n = n\n"
            "def check_following(i, r):\n    inner = lambda text: len(words(text))\n    return Box(inner(r)).n > LIMIT"
        ),
        1,
    ),
    "prints": ("def check_following(i, r):\n    print('working', flush=True)\n    return True", 1),
    "reads the instruction": ("def check_following(instruction, response):\n    return instruction == 'Count.'", 1),
    "annotations as text": (
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    n: int\n"
            "def check_following(i: str, r: str) -> bool:\n    return A(1).n == 1"
        ),
        1,
    ),
    "one and zero": ("def check_following(i, r):\n    return 0", -1),
}


def test_legitimate_programs_get_their_verdicts():
    verdicts = run(*(source for source, _ in LEGITIMATE.values()), seconds=5.0)
    found = {name: verdict.value for name, verdict in zip(LEGITIMATE, verdicts, strict=True)}
    assert found == {name: expected for name, (_, expected) in LEGITIMATE.items()}
    assert {verdict.judge for verdict in verdicts} == {"program"}


def body(*lines: str) -> str:
    return "def check_following(instruction, response):\n" + "\n".join(f"    {line}" for line in lines)


def hostile(port: int, victim: int, folder: str) -> dict[str, str]:
    """Name → program. Where one gets through it leaves a mark or returns True."""
    wish = f"open('{{}}/{MARK}', 'w').write('x')"
    return {
        "endless loop": body("while True: pass"),
        "endless loop at the top": "while True: pass",
        "sleep": body("import time; time.sleep(60)"),
        "endless generator": body("return sum(iter(int, 1))"),
        "recursion": body("return check_following(instruction, response)"),
        "deep recursion": body("import sys; sys.setrecursionlimit(10**9)", "f = lambda n: f(n + 1)", "return f(0)"),
        "catastrophic pattern": body("import re; return bool(re.match(r'(a+)+$', 'a' * 64 + 'b'))"),
        "lists": body("x = []", "while True: x.append([0] * 10**6)"),
        "bytes": body("return bool(bytearray(10**11))"),
        "text": body("x = 'ab'", "while True: x += x"),
        "large number": body("return 9 ** 9 ** 9 > 1"),
        "fork": body("import os; os.fork(); return True"),
        "fork bomb": body("import os", "while True:", "    try: os.fork()", "    except OSError: pass"),
        "fork and away": body(
            "import os", "if os.fork() == 0:", "    os.setsid()", "    while True: pass", "return True"
        ),
        "threads": body(
            "import threading, time", "threading.Thread(target=time.sleep, args=(60,)).start()", "return True"
        ),
        "another program": body("import os; os.execv('/bin/sh', ['sh', '-c', 'sleep 60'])"),
        "subprocess": body("import subprocess; subprocess.run(['sleep', '60']); return True"),
        "a shell": body("import os; return os.system('true') == 0"),
        "file in the temporary folder": body(wish.format("/tmp"), "return True"),
        "file beside us": body(wish.format(folder), "return True"),
        "file here": body(wish.format("."), "return True"),
        "file at home": body("import os", wish.format("/root"), "return True"),
        "folder": body(f"import os; os.mkdir('/tmp/{MARK}'); return True"),
        "link": body(f"import os; os.symlink('/etc/passwd', '{MARK}'); return True"),
        "passwords": body("return 'root' in open('/etc/passwd').read()"),
        "this test": body(f"return bool(open({__file__!r}).read())"),
        "list of the root": body("import os; return len(os.listdir('/')) > 0"),
        "way out of the root": body("import os", "os.chroot('..')", "return True"),
        "environment": body(f"import os; return {SECRET!r} in str(dict(os.environ))"),
        "environment of others": body("return len(open('/proc/1/environ').read()) > 0"),
        "TCP": body(
            "import _socket", f"s = _socket.socket(2, 1); s.connect(('127.0.0.1', {port})); s.send(b'x'); return True"
        ),
        "UDP": body("import _socket", f"s = _socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', {port})); return True"),
        "unix socket": body("import _socket", "s = _socket.socket(1, 1); s.connect('/run/docker.sock'); return True"),
        "flood of output": body("import sys", "while True: sys.stdout.write('x' * 10**6)"),
        "flood of errors": body("import os", "while True: os.write(2, b'x' * 10**6)"),
        "flood of answers": body("import os", "while True: os.write(3, b'x' * 10**4)"),
        "every descriptor": body(
            "import os",
            "for n in range(64):",
            "    try: os.write(n, b'{\"verdict\": true}\\n' * 3)",
            "    except OSError: pass",
            "os._exit(0)",
        ),
        "closed descriptors": body("import os", "os.closerange(0, 64)", "return True"),
        "exit": body("import sys; sys.exit(0)"),
        "exit at once": body("import os; os._exit(0)"),
        "SystemExit": body("raise SystemExit"),
        "KeyboardInterrupt": body("raise KeyboardInterrupt"),
        "BaseException": body("raise BaseException('x')"),
        "exception that trips its reader": body(
            "class E(BaseException):", "    def __str__(self): raise self", "    __repr__ = __str__", "raise E"
        ),
        "answer that trips its reader": body(
            "class A:",
            "    def __bool__(self): raise SystemExit",
            "    def __reduce__(self): return (eval, ('1',))",
            "return A()",
        ),
        "answer that claims to be true": body("class A(int): pass", "return A(1)"),
        "none": body("return None"),
        "huge answer": body("return 'x' * 10**8"),
        "type with a huge name": body("return type('x' * 10**6, (), {})()"),
        "kill the one above": body(
            "import os", "if os.getppid() == 0: raise ProcessLookupError", "os.kill(os.getppid(), 9)", "return True"
        ),
        "kill everybody": body("import os, signal; os.kill(-1, 9); return True"),
        "kill the test": body(f"import os; os.kill({victim}, 9); return True"),
        "signals ignored": body(
            "import signal",
            "for n in range(1, 32):",
            "    try: signal.signal(n, signal.SIG_IGN)",
            "    except (OSError, ValueError): pass",
            "while True: pass",
        ),
        "segmentation fault": body("import ctypes; ctypes.string_at(0)"),
        "abort": body("import os; os.abort()"),
        "limits raised": body(
            "import resource",
            "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
            "x = bytearray(10**10)",
            "return True",
        ),
        "user changed": body("import os; os.setuid(0); return True"),
        "builtins replaced": (
            "import builtins, json\nbuiltins.isinstance = lambda *a: True\njson.dumps = lambda *a: '{}'\n"
            + body("return None")
        ),
        "frames walked": body(
            "import sys",
            "f = sys._getframe()",
            "while f.f_back: f = f.f_back",
            "f.f_globals['read_reply'] = lambda *a: {'verdict': True}",
            "return None",
        ),
        "no function": "x = 1",
        "a value in its place": "check_following = True",
        "no Python": "def check_following(:",
        "nothing": "",
        "null byte": "x = '\0'",
        "deep nesting": "x = " + "(" * 5000 + ")" * 5000,
        "scratch folder removed": body("import os, shutil; shutil.rmtree('/'); os.rmdir('/'); return True"),
        "traced": body("import os", "open(f'/proc/{os.getppid()}/mem', 'r+b').write(b'x'); return True"),
    }


FORGERS = {"every descriptor"}
"""They write an answer of their own making. It counts for the rubric they came with, and for no other."""


@pytest.fixture
def listener():
    """A port on loopback, and who has knocked at it."""
    knocks: list[object] = []
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(tcp.getsockname())
        for one, hear in ((tcp, tcp.accept), (udp, lambda: udp.recv(10))):
            one.settimeout(0.2)

            def wait(hear=hear):
                while True:
                    try:
                        knocks.append(hear())
                    except TimeoutError:
                        continue
                    except OSError:
                        return

            threading.Thread(target=wait, daemon=True).start()
        yield tcp.getsockname()[1], knocks


def processes_left() -> list[str]:
    """Processes of the users that programs run as; given a moment, for the dead are not gone at once."""
    for _ in range(40):
        found = []
        for process in psutil.process_iter(["uids", "status"]):
            uids = process.info["uids"]
            if uids and 61_000 <= uids.real < 61_100 and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(repr(process))
        if not found:
            return []
        time.sleep(0.05)
    return found


def test_hostile_programs_are_contained_and_the_next_one_is_judged(listener, tmp_path, monkeypatch):
    monkeypatch.setenv("RTT_TEST_SECRET", SECRET)
    port, knocks = listener
    victim = subprocess.Popen(["sleep", "120"])
    programs = hostile(port, victim.pid, str(tmp_path))
    assert len(programs) >= 30
    good = LEGITIMATE["plain"][0]
    try:
        started = time.monotonic()
        verdicts = run(
            *(source for program in programs.values() for source in (program, good)), seconds=0.5, memory_mb=128
        )
        assert time.monotonic() - started < 60
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    outcome = dict(zip(programs, verdicts[::2], strict=True))
    through = {name: verdict for name, verdict in outcome.items() if not verdict.missing and name not in FORGERS}
    assert {name for name, verdict in through.items() if verdict.value > 0} == set()
    # What is left has a verdict of its own: it looked for something and honestly did not find it.
    assert set(through) <= {"a shell", "environment", "list of the root"}
    assert all(verdict.value == 1 for verdict in verdicts[1::2])
    assert all(outcome[name].reason for name in set(outcome) - set(through) - FORGERS)
    assert outcome["endless loop"].reason == "timed out"
    assert outcome["lists"].reason == "MemoryError"
    assert outcome["no function"].reason == "no function check_following"
    assert knocks == []
    assert not any(Path(folder, MARK).exists() for folder in ("/tmp", "/root", "/", "."))
    assert list(tmp_path.iterdir()) == []
    assert processes_left() == []


def test_hashes_and_draws_are_the_same_in_every_run():
    """16 bits of each; without a seed two runs agree on them once in 2**16."""
    bits = [body(f"return hash('rtt') >> {n} & 1") for n in range(16)]
    draws = ["import random\n" + body(f"return random.getrandbits(16) >> {n} & 1") for n in range(16)]
    first, second = (run(*bits, *draws, seconds=5.0) for _ in range(2))
    assert not any(verdict.missing for verdict in first)
    assert [verdict.value for verdict in first] == [verdict.value for verdict in second]


def test_a_rubric_without_a_program_is_named():
    rubric = Rubric(rubric_id="p/7", kind=PROGRAM, text="Count.")
    with pytest.raises(UserError, match="no program") as caught:
        Programs(Sandbox()).judge([Case(rubric, "r", "p")])
    assert "p/7" in caught.value.where


def test_nothing_to_judge_is_nothing():
    assert Programs(Sandbox()).judge([]) == []


def test_a_worker_that_breaks_is_replaced_and_one_check_is_lost():
    def break_one():
        """Kills a worker that has a program under way."""
        for _ in range(200):
            for child in psutil.Process().children():
                if "sandbox_worker" in " ".join(child.cmdline()) and len(child.children(recursive=True)) == 2:
                    os.killpg(child.pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    slow = body("import time; time.sleep(4); return True")
    rubrics = [
        Rubric(rubric_id=f"p/{k}", kind=PROGRAM, text="t", kwargs={"source": source})
        for k, source in enumerate([slow, LEGITIMATE["plain"][0]])
    ]
    killer = threading.Thread(target=break_one)
    killer.start()
    programs = Programs(Sandbox(time_seconds=10.0, workers=1))
    first, second = programs.judge([Case(rubric, RESPONSE, "p") for rubric in rubrics])
    killer.join()
    assert (first.missing, first.reason) == (True, "the sandbox broke")
    assert second.value == 1
    assert processes_left() == []


def test_an_interrupt_leaves_no_process():
    program = (
        # a shell ignores interrupts for what it runs in the background, these tests included
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from rtt.config import Sandbox; from rtt.judging.cases import Case; from rtt.judging.sandbox import Programs\n"
        "from rtt.rubrics import Rubric\n"
        "source = 'def check_following(i, r):\\n    while True: pass'\n"
        "rubric = Rubric(rubric_id='p/0', kind='program', text='t', kwargs={'source': source})\n"
        "print('ready', flush=True)\n"
        "Programs(Sandbox(time_seconds=600.0)).judge([Case(rubric, 'r', 'p')] * 100)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(1.0)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=60) != 0  # not when the program's time is over
    time.sleep(0.5)
    assert processes_left() == []
