"""Runs programs nobody vouches for, one process each. Started by rtt.judging.sandbox as an interpreter of its own; it
imports nothing of this package, and nothing from outside the standard library.

Reads a line of JSON per program from standard input, writes a line of JSON per program to standard output. The process
keeps the standard library loaded and forks, per program, a supervisor (trusted), which forks the program (not trusted).
"""

import collections  # noqa: F401  what programs may use is loaded here, since they find no file to load it from
import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import random
import resource
import select
import signal
import sys
import time
import types

USUAL = [
    "__future__",
    "abc",
    "array",
    "ast",
    "base64",
    "binascii",
    "bisect",
    "calendar",
    "cmath",
    "codecs",
    "collections.abc",
    "colorsys",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "enum",
    "fnmatch",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "html",
    "html.entities",
    "html.parser",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "keyword",
    "locale",
    "logging",
    "math",
    "numbers",
    "operator",
    "pathlib",
    "pickle",
    "pprint",
    "queue",
    "random",
    "re",
    "secrets",
    "shlex",
    "statistics",
    "string",
    "struct",
    "textwrap",
    "time",
    "tokenize",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "warnings",
    "xml.etree.ElementTree",
    "zlib",
    "_strptime",
    "encodings.ascii",
    "encodings.latin_1",
    "encodings.idna",
    "encodings.utf_16",
    "encodings.utf_32",
    "encodings.cp1252",
    "encodings.utf_8_sig",
    "stringprep",
]

CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
NOBODY = 61_000
"""First of the user ids that programs run as; nobody's, and above those that systems hand out."""

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags):
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def drop_capabilities():
    """Gives up every capability, as an unprivileged user's namespace grants them."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _libc.capset(header, (ctypes.c_uint32 * 6)())


class Walls:
    """What stands between a program and the machine; `missing` lists what this machine does not let us build."""

    def __init__(self, number, empty):
        self.missing = []
        self.root = os.getuid() == 0
        self.user = NOBODY + number
        self.null = fcntl.fcntl(os.open(os.devnull, os.O_RDWR), fcntl.F_DUPFD, 10)  # 3 is where answers go
        if not self.root:
            self._try("user namespace", self._own_users)
        self._try("network namespace", lambda: unshare(CLONE_NEWNET | CLONE_NEWIPC))
        self._try("chroot", lambda: self._into(empty))
        self.pids = True
        self._try("process namespace", self._probe_pids)

    def _try(self, name, build):
        try:
            build()
        except OSError:
            self.missing.append(name)
            if name == "process namespace":
                self.pids = False

    def _own_users(self):
        uid, gid = os.getuid(), os.getgid()
        unshare(CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)

    def _into(self, empty):
        os.chroot(empty)
        os.chdir("/")

    def _probe_pids(self):
        pid = os.fork()
        if pid == 0:
            try:
                unshare(CLONE_NEWPID)
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            raise OSError("no process namespace")

    def confine(self, limits):
        """Called in the program's process, last thing before the program."""
        os.setsid()
        for number in (0, 1, 2):
            os.dup2(self.null, number)
        megabytes, seconds = limits["memory_mb"], limits["time_seconds"]
        for what, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 16),
            (resource.RLIMIT_AS, megabytes * 2**20),
            (resource.RLIMIT_CPU, int(seconds) + 1),
            (resource.RLIMIT_NPROC, 1),
        ):
            resource.setrlimit(what, (most, most))
        if self.root:
            os.setgroups([])
            os.setresgid(self.user, self.user, self.user)
            os.setresuid(self.user, self.user, self.user)
        else:
            drop_capabilities()
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a program does not outlive its supervisor


def decide(source, instruction, response):
    """The program's verdict: True, False, or why there is none. Runs in the program's process."""
    module = types.ModuleType("program")
    sys.modules["program"] = module  # where dataclasses look up annotations that are text
    names = module.__dict__
    random.seed(0)  # one response, one verdict
    exec(compile(source, "<program>", "exec"), names)  # this process exists for nothing else
    function = names.get("check_following")
    if not callable(function):
        return "no function check_following"
    answer = function(instruction, response)
    if answer is True or answer is False:
        return answer
    if type(answer) is int and answer in (0, 1):
        return bool(answer)
    return f"returned {type(answer).__name__[:40]}, no truth value"


def program(walls, request, out):
    """The program's process. Never returns."""
    reply = None
    try:
        if out != 3:
            os.dup2(out, 3)
        walls.confine(request["limits"])
        os.closerange(4, 64)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("ctypes", "_ctypes", "resource")]:
            del sys.modules[name]
        found = decide(request["source"], request["instruction"], request["response"])
        reply = {"verdict": found} if isinstance(found, bool) else {"reason": found}
    except MemoryError:
        reply = {"reason": "MemoryError"}
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the program's own
        reply = {"reason": type(error).__name__[:60]}
    with contextlib.suppress(BaseException):
        os.write(3, json.dumps(reply).encode())
    os._exit(0)


def supervise(walls, request):
    """Forks the program, waits for its answer as long as it may take, and leaves nothing of it behind."""
    reading, writing = os.pipe()
    if walls.pids:
        unshare(CLONE_NEWPID)  # the next fork is the first process of a namespace that dies with it
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        program(walls, request, writing)
    os.close(writing)
    end = time.monotonic() + request["limits"]["time_seconds"]
    text, reason = b"", None
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            reason = "timed out"
            break
        part = os.read(reading, 4096)
        if not part:
            break
        text += part
        if len(text) > 4096:
            reason = "too much output"
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return {"reason": reason} if reason else read_reply(text, status)


def read_reply(text, status):
    """What a program's process wrote before it ended; a program can forge this for itself and for nobody else."""
    try:
        reply = json.loads(text)
        if isinstance(reply.get("verdict"), bool):
            return {"verdict": reply["verdict"]}
        return {"reason": str(reply["reason"])[:100]}
    except (ValueError, KeyError, AttributeError, RecursionError):
        if not text and os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            return {"reason": f"killed by signal {os.WTERMSIG(status)}"}
        return {"reason": "unreadable answer" if text else "ended without an answer"}


def main():
    number, empty = int(sys.argv[1]), sys.argv[2]
    for name in USUAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    walls = Walls(number, empty)
    lines = sys.stdin.buffer
    os.write(1, json.dumps({"missing": walls.missing}).encode() + b"\n")
    while True:
        line = lines.readline()
        if not line:
            return
        pid = os.fork()
        if pid == 0:
            try:
                reply = supervise(walls, json.loads(line))
            except BaseException as error:
                reply = {"reason": f"the sandbox failed: {type(error).__name__}"}
            os.write(1, json.dumps(reply).encode() + b"\n")
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status != 0:  # it was killed before it could say anything
            os.write(1, json.dumps({"reason": "the supervisor was killed"}).encode() + b"\n")


if __name__ == "__main__":
    main()
