"""How long people wait before something happens: for help, for a workflow's first job, for a step that needs a model.

What a step imports and loads is measured beside the least a program needs to load the same model, in turn; and so is a
whole evaluation of one prompt and one token by itself and as a step of a workflow (rtt.preloaded).

    .venv/bin/python benchmarks/startup.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import in_turn, keep, options, ratios, spread

from rtt import preloaded

HERE = Path(__file__).parents[1]
RTT, SNAKEMAKE = (str(Path(sys.executable).with_name(name)) for name in ("rtt", "snakemake"))
BARE = "from transformers import AutoModelForCausalLM as M; M.from_pretrained({policy!r})"
EVALUATION = (
    "from pathlib import Path; from rtt.evaluation.generation import open_policy; open_policy(Path({policy!r}), None)"
)
TRAINING = (
    "from pathlib import Path; import rtt.policy.rounds, mlflow; from rtt.policy.pretrained import load_policy; "
    "load_policy(Path({policy!r}))"
)


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=HERE)


def first_job(config: Path) -> float:
    """Seconds until Snakemake starts a job of a study that has no results yet."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "config.yaml"
        changed.write_text(re.sub("(?m)^results: .*$", f"results: {folder}/results", config.read_text()))
        command = [SNAKEMAKE, "make_prompts", "--cores", "1", "--nolock", "--configfile", str(changed)]
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Job "):
                    seconds = time.perf_counter() - started
                    process.stdout.read()
                    return seconds
    raise RuntimeError("no job was started:\n" + "".join(lines))


def evaluation(results: Path, folder: Path) -> list[str]:
    """The command for one token in answer to one prompt."""
    protocol = folder / "one.yaml"
    protocol.write_text("{name: one, version: 1, limit: 1, max_tokens: 1}")
    given = {
        "benchmark": "validation",
        "prompts": results / "data" / "prompts.parquet",
        "nltk": results / "models" / "nltk",
        "policy": results / "models" / "policy",
        "protocol": protocol,
        "output": folder / "scores.parquet",
        "responses": folder / "responses.parquet",
    }
    return [RTT, "evaluate", *(part for name, value in given.items() for part in (f"--{name}", str(value)))]


def evaluations(results: Path, turns: int) -> dict[str, list[float]]:
    """Seconds of an evaluation by itself and in a workflow, in turn."""
    preloaded.start()
    while not Path(os.environ[preloaded.ADDRESS]).exists():
        time.sleep(0.1)
    alone = {name: value for name, value in os.environ.items() if name != preloaded.ADDRESS}
    with tempfile.TemporaryDirectory() as folder:
        command = evaluation(results, Path(folder))

        def run(environment: dict[str, str]) -> None:
            subprocess.run(command, check=True, capture_output=True, env=environment)

        return in_turn(
            {"one answer, by itself": lambda: run(alone), "one answer, in a workflow": lambda: run(dict(os.environ))},
            turns,
        )


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    policy = str((asked.results / "models" / "policy").resolve())
    waits = in_turn(
        {"rtt --help": lambda: subprocess.run([RTT, "--help"], check=True, capture_output=True)}, asked.turns
    )
    waits["first job"] = [first_job(asked.config) for _ in range(asked.turns + 1)][1:]
    loads = {"model alone": BARE, "evaluation": EVALUATION, "training, with MLflow": TRAINING}
    seconds = in_turn(
        {name: lambda code=code: python(code.format(policy=policy)) for name, code in loads.items()}, asked.turns
    )
    seconds |= evaluations(asked.results, asked.turns)
    keep(
        {
            "seconds": {name: spread(values) for name, values in (waits | seconds).items()},
            "evaluation / model alone": ratios(seconds["evaluation"], seconds["model alone"]),
            "training / model alone": ratios(seconds["training, with MLflow"], seconds["model alone"]),
            "in a workflow / by itself": ratios(seconds["one answer, in a workflow"], seconds["one answer, by itself"]),
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
