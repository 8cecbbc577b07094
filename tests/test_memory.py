from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rtt.memory import SETTINGS, TUNABLES, tuned

ALL = ":".join(f"{name}={value}" for name, value in SETTINGS.items())
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")


def run(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != TUNABLES}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, check=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, ALL),
        ({TUNABLES: ""}, ALL),
        ({TUNABLES: "glibc.malloc.check=3"}, f"glibc.malloc.check=3:{ALL}"),
        (
            {TUNABLES: "glibc.malloc.mmap_max=9"},
            f"glibc.malloc.mmap_max=9:glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold={2**62}",
        ),
        ({TUNABLES: ALL}, ALL),
    ],
)
def test_settings_are_added_to_those_there_are(own, expected):
    assert tuned(own | {"HOME": "/here"}) == {TUNABLES: expected, "HOME": "/here"}


@on_glibc
def test_program_begins_anew_once_with_its_own_arguments(tmp_path):
    script = tmp_path / "say.py"
    script.write_text(
        "import json, os, sys\n"
        "from rtt.memory import TUNABLES, tune\n"
        "open('begun', 'a').write('x')\n"
        "tune()\n"
        "print(json.dumps([os.environ[TUNABLES], sys.argv[1:], os.getpid()]))\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != TUNABLES}
    asked = subprocess.Popen(
        [sys.executable, str(script), "a b", "--c"], cwd=tmp_path, env=kept, stdout=subprocess.PIPE, text=True
    )
    assert json.loads(asked.communicate()[0]) == [ALL, ["a b", "--c"], asked.pid]
    assert (tmp_path / "begun").read_text() == "xx"


FAULTS = """
import resource, torch
from rtt.memory import tune
{tune}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(count) for count in (2**20,) * 20 + (2**24,)]  # 4 MB each, and one of 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@on_glibc
def test_freed_memory_is_used_again_without_asking_for_it():
    handed_back, kept = (int(run(FAULTS.format(tune=line))) for line in ("", "tune()"))
    assert handed_back > 20  # where pages are large without asking, they are few
    assert kept < handed_back / 10


ADVISED = """
from rtt.memory import tune
tune()
block = bytearray(2**24)
heap = open("/proc/self/smaps").read().partition("[heap]")[2]
print(heap.partition("VmFlags:")[2].partition("\\n")[0])
"""


@on_glibc
def test_heap_lies_in_large_pages():
    mode = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not mode.exists() or "[madvise]" not in mode.read_text():
        pytest.skip("glibc asks for large pages only where the system gives them to those who ask")
    assert "hg" in run(ADVISED).split()
