"""How the C library hands memory to a step: in large pages, and from what the step has freed.

Tensors of megabytes come and go with every layer. By glibc's own settings the larger ones go back to the system at
once, and every page that comes again is a fault; and all lie in pages of 4 kB, of which a processor has to look up
thousands. In a virtual machine both can be dear: steps took up to three times as long, where large pages cost up to
4 s more at first touch on a better day (docs/findings.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

TUNABLES = "GLIBC_TUNABLES"
"""Environment variable that glibc reads when a process begins. Other C libraries do not know it."""

SETTINGS = {
    "glibc.malloc.hugetlb": 1,  # asks for large pages where the system gives them to those who ask
    "glibc.malloc.mmap_max": 0,  # no block lies by itself, to be handed back when it is freed
    "glibc.malloc.trim_threshold": 2**62,  # nor is the end of all that was freed
}


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with `SETTINGS`; what it already says of one of them stays."""
    own = environment.get(TUNABLES, "")
    named = {setting.partition("=")[0] for setting in own.split(":")}
    added = [f"{name}={value}" for name, value in SETTINGS.items() if name not in named]
    return {**environment, TUNABLES: ":".join([own, *added] if own else added)} if added else dict(environment)


def tune() -> None:
    """Begins this program anew, in this process, with `SETTINGS`. Does nothing where it has them, or but on Linux."""
    environment = tuned(os.environ)
    if sys.platform == "linux" and environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
