"""How long people wait before something happens: for help, for a workflow's first job, for a step that needs a model.

What a step imports and loads is measured beside the least a program needs to load the same model, in turn.

    .venv/bin/python benchmarks/startup.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import in_turn, keep, options, ratios, spread

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


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--policy", type=Path, default=Path("results/models/policy"))
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    policy = str(asked.policy.resolve())
    waits = in_turn(
        {"rtt --help": lambda: subprocess.run([RTT, "--help"], check=True, capture_output=True)}, asked.turns
    )
    waits["first job"] = [first_job(asked.config) for _ in range(asked.turns + 1)][1:]
    loads = {"model alone": BARE, "evaluation": EVALUATION, "training, with MLflow": TRAINING}
    seconds = in_turn(
        {name: lambda code=code: python(code.format(policy=policy)) for name, code in loads.items()}, asked.turns
    )
    keep(
        {
            "seconds": {name: spread(values) for name, values in (waits | seconds).items()},
            "evaluation / model alone": ratios(seconds["evaluation"], seconds["model alone"]),
            "training / model alone": ratios(seconds["training, with MLflow"], seconds["model alone"]),
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
