"""What the benchmarks have in common: medians with spread, the machine, and where results are kept."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from rtt.memory import tune

RESULTS = Path(__file__).with_name("results")


def options(description: str | None, script: str) -> argparse.ArgumentParser:
    """A parser with ``--output``, by default the script's own file under `RESULTS`, in a process that has its memory as
    a step of the pipeline has."""
    tune()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS / Path(script).with_suffix(".json").name)
    return parser


def spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {"median": median(values), "least": min(values), "most": max(values), "samples": len(values)}


def ratios(ones: Iterable[float], others: Iterable[float]) -> dict[str, float]:
    """Of things measured side by side, one by one."""
    return spread(one / other for one, other in zip(ones, others, strict=True))


def in_turn(jobs: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds of each job, one after the other, `turns` times; a turn before, which warms up, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(turns + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def machine() -> dict[str, Any]:
    import torch

    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "processor": found[1] if found else "unknown",
        "instructions": capability,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }


def keep(result: dict[str, Any], output: Path) -> None:
    """Writes and prints a result, with the machine it was measured on."""
    text = json.dumps({**result, "machine": machine()}, indent=1)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n")
    print(text)
    print(f"written to {output}")
