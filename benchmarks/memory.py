"""Steps with their memory as glibc hands it out by default, and as `rtt.memory` has it, in turn.

Seconds, most memory and page faults of an evaluation and of a round of training, libraries and models included.

    .venv/bin/python benchmarks/memory.py          # after `make run`
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from measure import keep, options, ratios, spread

from rtt.memory import TUNABLES, tuned

# handed its arguments, the command does not arrange its memory itself
STEP = "import sys; from rtt.cli import main; main(sys.argv[1:])"
WAYS = ("by default", "arranged")


def lines(results: Path, config: Path, answers: int, steps: int, folder: Path) -> dict[str, list[str]]:
    """The commands of both steps."""
    settings = yaml.safe_load(config.read_text())
    settings["policy"] |= {"rounds": 1, "steps_per_round": steps, "checkpoint_every": steps, "diagnostics_every": 0}
    settings["evaluation"]["benchmarks"]["heldout_topics"] |= {"limit": answers}
    changed = folder / "config.yaml"
    changed.write_text(yaml.safe_dump(settings))
    shared = {
        "config": changed,
        "prompts": results / "data" / "prompts.parquet",
        "nltk": results / "models" / "nltk",
        "policy": results / "models" / "policy",
    }
    evaluation = {"benchmark": "heldout_topics", "output": folder / "scores.parquet", "responses": folder / "r.parquet"}
    training = {
        "arm": "rtt_csr",
        "seed": 0,
        "round": 1,
        "discriminator": results / "discriminators" / "full" / "model",
        "output": folder / "round",
    }
    return {
        name: [step, *(str(part) for option, value in (shared | own).items() for part in (f"--{option}", value))]
        for name, step, own in (("evaluation", "evaluate", evaluation), ("round", "round", training))
    }


def run(line: list[str], environment: dict[str, str], log: Path) -> tuple[float, int, int]:
    """Seconds, most memory in KiB, and page faults, of a step in a process of its own."""
    started = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", STEP, *line], env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"rtt {line[0]} failed:\n{log.read_text()}")
    return time.perf_counter() - started, used.ru_maxrss, used.ru_minflt


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    plain = {name: value for name, value in os.environ.items() if name != TUNABLES}
    environments = dict(zip(WAYS, (plain, tuned(plain)), strict=True))
    found: dict[str, dict[str, list[tuple[float, int, int]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step, line in lines(asked.results, asked.config, asked.answers, asked.steps, folder).items():
            for _ in range(asked.turns):
                for way, environment in environments.items():
                    shutil.rmtree(folder / "round", ignore_errors=True)
                    found.setdefault(step, {}).setdefault(way, []).append(run(line, environment, folder / "log"))
    keep(
        {
            "answers": asked.answers,
            "steps": asked.steps,
            **{
                step: {
                    "seconds": {way: spread(seconds for seconds, _, _ in ways[way]) for way in WAYS},
                    "most memory, MiB": {way: max(memory for _, memory, _ in ways[way]) // 1024 for way in WAYS},
                    "page faults": {way: spread(faults for _, _, faults in ways[way]) for way in WAYS},
                    "seconds, arranged / by default": ratios(
                        *([seconds for seconds, _, _ in ways[way]] for way in reversed(WAYS))
                    ),
                }
                for step, ways in found.items()
            },
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
