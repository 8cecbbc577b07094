"""Token-level advantages of 512 responses to 20 rubrics with 4,096 tokens, against reading and writing the relevance.

The two take turns. Peak memory is that of a process of its own. The figure shows how time grows along each axis.

    .venv/bin/python benchmarks/advantages.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure
from measure import in_turn, keep, options, ratios, spread

from rtt.credit.advantages import PARTITIONS, token_advantages
from rtt.report.drawing import save, style

GROUP = 8
AXES = {"responses": 0, "rubrics": 1, "tokens": 2}
SHARES = (1 / 8, 1 / 4, 1 / 2, 1)
MEASURED = [name for name in PARTITIONS if name != "intra_sample_released"]
PEAK = """
import resource, sys, torch
sys.path.insert(0, {folder!r})
from advantages import GROUP, batch, token_advantages
given = batch({shape})
token_advantages(*batch((GROUP, 1, 8)), GROUP)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
token_advantages(*given, GROUP, {partition!r})
print(1 + (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / given[0].nbytes)
"""


def batch(shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Relevance (B, K, T), verdicts, which are valid and which tokens count: all, which is the dearest."""
    rows, rubrics, tokens = shape
    draw = torch.Generator().manual_seed(0)
    relevance = torch.rand(shape, generator=draw)
    verdicts = torch.randint(0, 2, (rows, rubrics), generator=draw).float()
    return relevance, verdicts, torch.ones(rows, rubrics, dtype=torch.bool), torch.ones(rows, tokens, dtype=torch.bool)


def peak(shape: tuple[int, ...], partition: str) -> float:
    """Most memory that relevance and whatever is made of it take, in multiples of the relevance."""
    code = PEAK.format(folder=str(Path(__file__).parent), shape=shape, partition=partition)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def growth(shape: tuple[int, ...], turns: int) -> dict[str, dict[int, float]]:
    """Median milliseconds by size of each axis, the other two as in `shape`."""
    found: dict[str, dict[int, float]] = {}
    for name, axis in AXES.items():
        for share in SHARES:
            size = max(GROUP, int(shape[axis] * share)) if axis == 0 else max(1, int(shape[axis] * share))
            given = batch((*shape[:axis], size, *shape[axis + 1 :]))
            seconds = in_turn({"": lambda given=given: token_advantages(*given, GROUP)}, turns)[""]
            found.setdefault(name, {})[size] = 1000 * median(seconds)
    return found


def draw(found: dict[str, dict[int, float]], stem: Path) -> None:
    with style():
        figure = Figure(figsize=(7.5, 2.6), layout="constrained")
        for axes, (name, times) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
            sizes = list(times)
            axes.plot(sizes, list(times.values()), marker="o")
            axes.plot([0, sizes[-1]], [0, times[sizes[-1]]], color="grey", linestyle=":")
            axes.set(xlabel=name, xlim=(0, None))
            axes.set_xticks(sizes)
            axes.tick_params(axis="x", labelsize="small")
        figure.axes[0].set(ylabel="milliseconds", ylim=(0, 1.05 * max(max(times.values()) for times in found.values())))
        save(figure, stem)


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 20, 4096), metavar=("B", "K", "T"))
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--figure", type=Path, default=Path("docs/images/advantages_scaling"), help="without suffix")
    asked = parser.parse_args()
    shape = tuple(asked.shape)
    given = batch(shape)
    written = torch.empty_like(given[0])
    jobs = {"read and write": lambda: torch.mul(given[0], 2, out=written)}
    jobs |= {name: lambda name=name: token_advantages(*given, GROUP, name) for name in MEASURED}
    seconds = in_turn(jobs, asked.turns)
    found = growth(shape, asked.turns)
    draw(found, asked.figure)
    keep(
        {
            "responses, rubrics, tokens": shape,
            "threads": torch.get_num_threads(),
            "milliseconds": {name: spread(1000 * value for value in values) for name, values in seconds.items()},
            "ratio to reading and writing": {
                name: ratios(seconds[name], seconds["read and write"]) for name in MEASURED
            },
            "peak memory, in multiples of the relevance": {name: peak(shape, name) for name in MEASURED},
            "milliseconds of intra_sample by size": found,
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
