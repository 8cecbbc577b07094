"""One round of RTT-GRPO: K optimiser steps that start where the round before stopped."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from rtt import processes
from rtt.config import Arm, Config, to_dict, write_config
from rtt.errors import UserError
from rtt.judging.cases import Judge
from rtt.judging.endpoint import COUNTED
from rtt.judging.routing import Router, open_judge
from rtt.layout import COSTS
from rtt.policy.checkpoints import digest, last_sealed, seal, verify
from rtt.policy.pretrained import load_policy, load_tokenizer, require_chat_template
from rtt.policy.rollouts import MetricLog, RolloutLog, read_metrics
from rtt.policy.settings import grpo_settings, lora_settings, training_set
from rtt.policy.trainer import RTTGRPOTrainer
from rtt.precision import compute_with
from rtt.relevance.sources import open_relevance
from rtt.tables import Prompts, Responses, Rollouts, Verdicts, read_table, write_table
from rtt.tracking import Run

_log = logging.getLogger(__name__)

ACCURACY = "rubrics/instruction_accuracy"

CLOCKED = {"step_time": "seconds", "rubrics/credit_seconds": "credit_seconds"}
"""Figures that a clock gives, by the name they have among the costs: equal runs differ in them."""


class _Pace(TrainerCallback):
    """Stops at the round's last step, seals every checkpoint and records the figures and the costs of each step."""

    def __init__(
        self, last_step: int, every: int, metrics: MetricLog, costs: MetricLog, run: Run, judge: Router
    ) -> None:
        self.last_step, self.every, self.metrics, self.costs, self.run = last_step, every, metrics, costs, run
        self.judge, self.judged = judge, dict[str, float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop = state.global_step >= self.last_step
        control.should_save = control.should_training_stop or state.global_step % self.every == 0
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes.wait()  # each writes a part
        if processes.is_first():
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            _strip_clock(folder)
            seal(folder)
        processes.wait()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not processes.is_first():
            return
        figures = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in figures:
            self.metrics.add(state.global_step, {name: value for name, value in figures.items() if name not in CLOCKED})
            self.costs.add(state.global_step, self._costs(figures))
            self.run.log_metrics({f"train/{name}": value for name, value in figures.items()}, state.global_step)

    def _costs(self, figures: dict[str, float]) -> dict[str, float]:
        """Seconds of this step, what the judge did since the last one, and on a graphics card the bytes it had to hold
        at once up to now."""
        now = {name: value for name, value in self.judge.figures().items() if name in COUNTED}
        spent = {f"judge/{name}": value - self.judged.get(name, 0) for name, value in now.items()}
        self.judged = now
        held = {"peak_memory_bytes": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {}
        return {**{name: figures[clocked] for clocked, name in CLOCKED.items() if clocked in figures}, **spent, **held}


def _strip_clock(folder: Path) -> None:
    """Removes what differs between equal runs (timings, the work folder's own settings) from a checkpoint."""
    (folder / "training_args.bin").unlink(missing_ok=True)
    (folder / "README.md").unlink(missing_ok=True)
    state_file = folder / "trainer_state.json"
    state = json.loads(state_file.read_text())
    state["log_history"] = []
    state_file.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")


def _fingerprint(config: Config, arm: Arm, seed: int, inputs: list[Path | None]) -> str:
    """What a work folder must share with the round that goes on in it."""
    known = {
        "policy": to_dict(config.policy),
        "linear_precision": config.linear_precision,
        "judge": None if config.judge is None else to_dict(config.judge),
        "offline": to_dict(config.offline) if arm.method != "grpo" else None,
        "arm": to_dict(arm),
        "seed": seed,
        "inputs": [None if path is None else digest(path) for path in inputs],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _open_work(work: Path, fingerprint: str) -> Path | None:
    """Empties a work folder left by other settings; returns the checkpoint to go on from, if there is one."""
    mark = work / "fingerprint"
    if work.exists() and (not mark.exists() or mark.read_text() != fingerprint):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)
    return last_sealed(work)


@dataclass(frozen=True)
class Inputs:
    """The files a round reads.

    Attributes:
        prompts: table of prompts.
        policy: folder of the start policy.
        start: checkpoint folder of the round before; None for the first.
        discriminator: folder; needed by an arm whose relevance is learned.
        responses: table of responses of the start policy; needed by the methods sft and dpo.
        verdicts: table of the verdicts on them.
    """

    prompts: Path
    policy: Path
    start: Path | None = None
    discriminator: Path | None = None
    responses: Path | None = None
    verdicts: Path | None = None

    def used_by(self, arm: Arm) -> list[Path | None]:
        """What the round's result depends on."""
        learned = arm.credit is not None and arm.credit.relevance == "discriminator"
        return [
            *(self.prompts, self.policy / "config.json", *sorted(self.policy.glob("*.safetensors")), self.start),
            *((self.discriminator,) if learned else ()),
            *((self.responses, self.verdicts) if arm.method != "grpo" else ()),
        ]


def run_round(
    config: Config, *, arm_name: str, seed: int, round_number: int, inputs: Inputs, output: Path, run: Run
) -> dict[str, Any]:
    """Trains one round and writes checkpoint, metrics, costs, the resolved configuration and, with grpo, rollouts to
    `output`.

    A killed round leaves its checkpoints in a work folder beside `output`; the same call goes on from the newest whole
    one and ends with the same weights, byte for byte.

    Args:
        round_number: 1 for the first; it ends at optimiser step ``round_number × steps_per_round``.

    Returns:
        The round's last step, its seconds of training, and the instruction accuracy of what it sampled (None for a
        round that samples nothing).

    Raises:
        UserError: unknown arm, missing or damaged checkpoint, missing table.
    """
    if arm_name not in config.arms:
        raise UserError(f"no arm is called {arm_name}", where="--arm", todo=f"choose from {sorted(config.arms)}")
    arm, policy = config.arms[arm_name], config.policy
    last = round_number * policy.steps_per_round
    processes.join()
    processes.on_first(lambda: _check(inputs))
    with _alone(output):
        _train(config, arm, seed, last, inputs, output, run)
        processes.wait()
    lines = read_metrics(output / "metrics.jsonl")
    # Only the first of several updates on one batch carries the batch's figures.
    accuracies = [line[ACCURACY] for line in lines if line.get(ACCURACY) is not None]
    return {
        "step": last,
        "seconds": sum(line.get("seconds", 0.0) for line in read_metrics(output / COSTS)),
        "accuracy": fmean(accuracies) if accuracies else None,
    }


def _check(inputs: Inputs) -> None:
    """Raises UserError for a start that a round cannot begin with."""
    if inputs.start is not None:
        verify(inputs.start)
    require_chat_template(load_tokenizer(inputs.policy))


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Waits for a process that still trains this round: one that outlived the run which started it."""
    if not processes.is_first():  # the first waits for all of those that train together
        yield
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with (output.parent / f".{output.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another process is training %s; waiting for it to end", output)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _train(config: Config, arm: Arm, seed: int, last: int, inputs: Inputs, output: Path, run: Run) -> None:
    """Trains up to step `last` in the work folder, then moves what it made to `output`."""
    policy = config.policy
    work = output.parent / f".{output.name}.work"
    known = _fingerprint(config, arm, seed, inputs.used_by(arm))
    resume = processes.on_first(lambda: _open_work(work, known)) or inputs.start
    done = int(json.loads((resume / "trainer_state.json").read_text())["global_step"]) if resume else 0

    compute_with(policy.threads, config.linear_precision)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would also write into all memory before it is used, for the sake of programs that read it too early.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    rollouts = RolloutLog(work / "rollouts")
    judge = open_judge(config)
    logs = processes.on_first(lambda: (MetricLog(work / "metrics.jsonl", done), MetricLog(work / COSTS, done)))
    pace = _Pace(last, policy.checkpoint_every, *logs, run, judge)
    trainer = _make_trainer(config, arm, seed, inputs, work, pace, rollouts, judge)
    if done < last:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        run.log_metrics({f"judge/{name}": value for name, value in judge.figures().items()}, last)
    processes.wait()
    if not processes.is_first():
        return
    output.mkdir(parents=True, exist_ok=True)
    if arm.method == "grpo":
        rows = rollouts.join(last - policy.steps_per_round, last)
        write_table(rows, Rollouts, output / "rollouts.parquet")
    for name in ("metrics.jsonl", COSTS):
        shutil.copyfile(work / name, output / name)
    write_config(config, output / "config.yaml")
    _hand_over(work, last, output)


def _make_trainer(
    config: Config,
    arm: Arm,
    seed: int,
    inputs: Inputs,
    work: Path,
    pace: _Pace,
    rollouts: RolloutLog,
    judge: Judge,
) -> Trainer:
    """The trainer of the arm's method."""
    prompts = read_table(inputs.prompts, Prompts)
    if arm.method != "grpo":
        from rtt.policy.offline import offline_trainer  # most rounds do without

        if inputs.responses is None or inputs.verdicts is None:
            raise UserError(
                f"the method {arm.method} learns from judged responses of the start policy, and none were given",
                where="--responses, --verdicts",
                todo="name the tables `rtt responses --candidates` and `rtt verdicts` wrote",
            )
        tables = read_table(inputs.responses, Responses), read_table(inputs.verdicts, Verdicts)
        return offline_trainer(config, arm, seed, work, inputs.policy, prompts, *tables, callbacks=[pace])
    lora, tokenizer = lora_settings(config.policy), load_tokenizer(inputs.policy)
    measured = lora is None and config.policy.diagnostics_every > 0
    return RTTGRPOTrainer(
        model=load_policy(inputs.policy),
        processing_class=tokenizer,
        args=grpo_settings(config.policy, arm, seed, work),
        train_dataset=training_set(prompts, tokenizer, config.policy.longest_prompt),
        peft_config=lora,
        callbacks=[pace],
        arm=arm,
        policy=config.policy,
        judge=judge,
        relevance=None if arm.credit is None else open_relevance(arm.credit, inputs.discriminator, seed),
        rollouts=rollouts,
        start=load_policy(inputs.policy) if measured else None,
    )


def _hand_over(work: Path, last: int, output: Path) -> None:
    """Moves the last checkpoint out of the work folder and removes the folder."""
    finished = work / f"checkpoint-{last}"
    verify(finished)
    shutil.rmtree(output / "checkpoint", ignore_errors=True)
    finished.rename(output / "checkpoint")
    shutil.rmtree(work)
