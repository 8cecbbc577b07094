"""Rounds on a tiny model: what is promised about weights, whatever way they were come by."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from rtt.errors import UserError
from rtt.precision import compute_with, linear_precision
from rtt.rubrics import dump_rubrics, parse_rubrics
from rtt.tables import Prompts, Rollouts, read_table, write_table

ROOT = Path(__file__).parents[2]
RULES = {"relevance": "rules", "partition": "intra_sample", "rule": "add", "weight": 0.5}
ARMS = {
    "rl_csr": {"reward": "csr"},
    "rtt_csr": {"reward": "csr", "credit": RULES},
    "rtt_zero": {"reward": "csr", "credit": {**RULES, "weight": 0.0}},
    "rtt_constant": {"reward": "csr", "credit": {**RULES, "relevance": "constant"}},
    "rtt_random": {"reward": "csr", "credit": {**RULES, "relevance": "random"}},
    "rtt_contrast": {"reward": "csr", "credit": {**RULES, "relevance": "contrast"}},
    "cort": {"reward": "csr", "cort": {"ramp_steps": 1}},
    "papo": {"papo": {"quality_kinds": ["keywords:existence"]}},
    "rl_dr_grpo": {"reward": "csr", "objective": "dr_grpo"},
    "rl_dapo": {"reward": "csr", "objective": "dapo"},
}


class Bench:
    """Runs rounds of a small configuration in a folder of its own."""

    def __init__(self, folder: Path, prompts: Path, policy: Path, nltk: Path) -> None:
        self.folder, self.prompts, self.policy, self.nltk = folder, prompts, policy, nltk

    def config(self, name: str = "config", **policy) -> Path:
        values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
        values["arms"] = ARMS
        values["policy"] |= {"rounds": 3, "steps_per_round": 2, "checkpoint_every": 1, "learning_rate": 1e-2, **policy}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def command(self, output: str, config: Path, arm: str = "rtt_csr", number: int = 1, start: str = "") -> list[str]:
        return [
            *(sys.executable, "-m", "rtt.cli", "round", "--config", str(config), "--arm", arm, "--seed", "7"),
            *("--round", str(number), "--prompts", str(self.prompts), "--nltk", str(self.nltk)),
            *("--policy", str(self.policy), "--output", str(self.folder / output)),
            *(("--start", str(self.folder / start / "checkpoint")) if start else ()),
        ]

    def run(self, output: str, config: Path, **more) -> Path:
        """One round in this process, which spares the imports."""
        from rtt.cli import main

        main(self.command(output, config, **more)[3:])
        return self.folder / output


@pytest.fixture
def bench(tmp_path, prompts, tiny_policy, nltk_data) -> Bench:
    return Bench(tmp_path, prompts, tiny_policy, nltk_data)


def weights(output: Path) -> bytes:
    return (output / "checkpoint" / "adapter_model.safetensors").read_bytes()


def test_equal_runs_give_equal_bytes(bench):
    first, second = (bench.run(name, bench.config()) for name in ("first", "second"))
    assert weights(first) == weights(second)
    assert (first / "rollouts.parquet").read_bytes() == (second / "rollouts.parquet").read_bytes()


def test_three_rounds_are_one_of_three_times_the_steps(bench):
    config = bench.config()
    for number in (1, 2, 3):
        bench.run(f"round_{number}", config, number=number, start=f"round_{number - 1}" if number > 1 else "")
    whole = bench.run("whole", bench.config("whole", rounds=1, steps_per_round=6))
    assert weights(bench.folder / "round_3") == weights(whole)
    assert weights(bench.folder / "round_1") != weights(whole)
    parts = [read_table(bench.folder / f"round_{number}" / "rollouts.parquet", Rollouts) for number in (1, 2, 3)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), read_table(whole / "rollouts.parquet", Rollouts))


def test_two_updates_per_batch_resume_too(bench):
    config = bench.config(num_iterations=2, checkpoint_every=2)
    bench.run("round_1", config)
    bench.run("round_2", config, number=2, start="round_1")
    whole = bench.run("whole", bench.config("whole", num_iterations=2, rounds=1, steps_per_round=4, checkpoint_every=2))
    assert weights(bench.folder / "round_2") == weights(whole)


def test_weight_zero_is_plain_grpo_bit_for_bit(bench):
    config = bench.config()
    plain, zero, token = (bench.run(arm, config, arm=arm) for arm in ("rl_csr", "rtt_zero", "rtt_csr"))
    assert weights(plain) == weights(zero)
    assert weights(plain) != weights(token)


def test_in_16_bits_as_on_a_card(bench, monkeypatch):
    """Autocast, TRL's fused head, and an adapter that stays apart."""
    from rtt.policy import sampling, settings, trainer

    plain = bench.run("plain", bench.config())
    sampled_in = []
    generate, settled = trainer.generate, settings.GRPOConfig
    monkeypatch.setattr(settings, "GRPOConfig", lambda **given: settled(**{**given, "bf16": True}))
    monkeypatch.setattr(trainer, "can_project", lambda model, labels: False)
    monkeypatch.setattr(sampling, "_adapted", lambda model: [])

    def seen(model, **given):
        sampled_in.append(torch.is_autocast_enabled("cpu"))
        return generate(model, **given)

    monkeypatch.setattr(trainer, "generate", seen)
    first, second = (bench.run(name, bench.config()) for name in ("first", "second"))
    assert sampled_in == [True] * 4
    assert weights(first) == weights(second)
    assert weights(first) != weights(plain)
    figures = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    assert all(line["grad_norm"] > 0 and line["rubrics/token_advantage"] > 0 for line in figures)


def test_killed_in_the_middle_ends_with_the_same_weights(bench):
    config = bench.config(steps_per_round=4)
    undisturbed = bench.run("undisturbed", config)
    command = bench.command("killed", config)
    work = bench.folder / ".killed.work"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        deadline = time.monotonic() + 120
        while not (work / "checkpoint-2" / "manifest.json").exists():
            assert process.poll() is None, "the round ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (bench.folder / "killed" / "checkpoint").exists()
    assert weights(bench.run("killed", config)) == weights(undisturbed)
    steps = [json.loads(line)["step"] for line in (bench.folder / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    assert not work.exists()


def test_a_round_waits_for_a_process_that_still_trains_it(bench):
    config = bench.config()
    alone = bench.run("alone", config)
    with (bench.folder / ".shared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(bench.command("shared", config), stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
            said = process.stderr.readline()
            while "waiting for it to end" not in said:
                said = process.stderr.readline()
                assert said, "the round did not wait"
            assert not (bench.folder / "shared").exists()
            fcntl.flock(lock, fcntl.LOCK_UN)
            process.communicate(timeout=120)
    assert weights(bench.folder / "shared") == weights(alone)


def test_checkpoint_cut_short_in_the_work_folder_is_not_used(bench):
    config = bench.config()
    finished = bench.run("finished", config)
    work = bench.folder / ".again.work"
    work.mkdir()
    shutil.copytree(finished / "checkpoint", work / "checkpoint-1")
    (work / "checkpoint-1" / "manifest.json").unlink()
    assert weights(bench.run("again", config)) == weights(finished)


def test_another_precision_is_computed_with_and_goes_on_from_nothing(bench, monkeypatch):
    config, marks = bench.config(), []
    other = bench.folder / "rounded.yaml"
    other.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"linear_precision": "bfloat16"}))
    monkeypatch.setattr(
        "rtt.policy.rounds._hand_over", lambda work, *_: marks.append((work / "fingerprint").read_text())
    )
    try:
        for path, precision in ((config, "float32"), (config, "float32"), (other, "bfloat16")):
            bench.run("same", path)
            assert linear_precision() == precision
    finally:
        compute_with(None, "float32")
    assert marks[0] == marks[1] != marks[2]


def test_damaged_start_is_refused_by_file(bench):
    config = bench.config()
    first = bench.run("round_1", config)
    adapter = first / "checkpoint" / "adapter_model.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-1] ^= 1
    adapter.write_bytes(bytes(data))
    done = subprocess.run(bench.command("round_2", config, number=2, start="round_1"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "damaged: adapter_model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_start_and_unknown_arm_are_refused(bench):
    config = bench.config()
    with pytest.raises(SystemExit, match="the checkpoint is not there"):
        bench.run("round_2", config, number=2, start="round_1")
    with pytest.raises(SystemExit, match="no arm is called rl_none"):
        bench.run("round_1", config, arm="rl_none")


def test_a_constant_relevance_is_plain_grpo_under_intra_sample(bench):
    config = bench.config(rounds=1)
    assert weights(bench.run("plain", config, arm="rl_csr")) == weights(
        bench.run("constant", config, arm="rtt_constant")
    )


@pytest.mark.parametrize("arm", ["rtt_random", "rtt_contrast", "cort", "papo", "rl_dr_grpo", "rl_dapo"])
def test_every_peer_goes_on_from_a_checkpoint_as_if_nothing_had_happened(bench, arm):
    config = bench.config()
    bench.run("round_1", config, arm=arm)
    second = bench.run("round_2", config, arm=arm, number=2, start="round_1")
    whole = bench.run("whole", bench.config("whole", rounds=1, steps_per_round=4), arm=arm)
    assert weights(second) == weights(whole)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert all(line["diagnostics/kl_to_start"] >= 0 for line in lines if "diagnostics/kl_to_start" in line)
    assert lines[0]["diagnostics/unrelated_loss"] > 1


def test_dynamic_sampling_leaves_fewer_groups_without_spread(bench):
    def flat(arm):
        config = bench.config(arm, generation={"max_tokens": 4, "temperature": 1.0}, dapo_tries=8, steps_per_round=4)
        rollouts = read_table(bench.run(arm, config, arm=arm) / "rollouts.parquet", Rollouts)
        groups = rollouts.groupby(["step", rollouts["row"] // 4])["reward"].nunique()
        return (groups < 2).mean()

    assert flat("rl_dapo") < flat("rl_csr")


def test_the_divergence_is_measured_at_the_start_too_and_only_when_asked(bench):
    def measured(name, **policy):
        run = bench.run(name, bench.config(name, steps_per_round=4, **policy), arm="rl_csr")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["diagnostics/kl_to_start"] for line in lines if "diagnostics/kl_to_start" in line}

    every_second = measured("second", diagnostics_every=2)
    assert list(every_second) == [1, 3]
    assert every_second[1] == pytest.approx(0, abs=1e-6)
    assert every_second[3] > 1e-4
    assert measured("never", diagnostics_every=0) == {}
    whole_weights = measured("whole", diagnostics_every=2, lora=None, learning_rate=1e-3)
    assert whole_weights[1] == pytest.approx(0, abs=1e-6)
    assert whole_weights[3] > 1e-6


@pytest.mark.parametrize("arm", ["rtt_csr", "rl_dr_grpo", "rl_dapo"])
def test_the_gradient_does_not_depend_on_how_many_rows_go_through_at_once(bench, arm):
    def first_update(micro):
        run = bench.run(f"micro_{micro}", bench.config(f"micro_{micro}", micro_batch_size=micro), arm=arm)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return next(line for line in lines if line["grad_norm"] > 1e-4)

    whole, parts = first_update(8), first_update(2)
    assert parts["step"] == whole["step"]
    assert parts["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)
    assert parts["reward"] == whole["reward"]


@pytest.mark.parametrize("arm", ["rtt_csr", "rl_dr_grpo", "rl_dapo"])
def test_sharing_a_prompt_changes_the_cost_and_not_what_is_learned(bench, arm, monkeypatch):
    from rtt.policy.sampling import draw

    monkeypatch.setattr("rtt.policy.trainer.draw_quickly", draw)  # as TRL draws

    def first_step(name, **policy):
        run = bench.run(name, bench.config(name, micro_batch_size=4, diagnostics_every=1, **policy), arm=arm)
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])

    shared, apart = first_step("shared"), first_step("apart", share_prompts=False)
    assert shared["reward"] == apart["reward"]
    assert shared["grad_norm"] > 1e-4
    for figure in ("loss", "grad_norm", "entropy", "diagnostics/kl_to_start", "diagnostics/unrelated_loss"):
        assert shared[figure] == pytest.approx(apart[figure], rel=1e-3, abs=1e-6), figure


def test_measuring_does_not_change_what_is_learned(bench):
    runs = [bench.run(f"m{n}", bench.config(f"m{n}", diagnostics_every=n), arm="rl_csr") for n in (0, 1)]
    assert weights(runs[0]) == weights(runs[1])


def test_the_plain_arm_learns_from_the_reward_alone(bench):
    rollouts = read_table(bench.run("plain", bench.config(), arm="rl_csr") / "rollouts.parquet", Rollouts)
    for row in rollouts.itertuples():
        assert json.loads(row.advantages) == pytest.approx(
            [row.response_advantage] * len(json.loads(row.token_spans)), abs=1e-5
        )
    assert rollouts["response_advantage"].abs().max() > 0.5


def test_token_advantages_stand_where_the_rubric_is(bench):
    rollouts = read_table(bench.run("token", bench.config()) / "rollouts.parquet", Rollouts)
    row = next(row for row in rollouts.itertuples() if len(json.loads(row.verdicts)) == 1 and '"e"' not in row.response)
    (verdict,) = json.loads(row.verdicts).values()
    (relevance,) = json.loads(row.relevance).values()
    token_terms = [value - row.response_advantage for value in json.loads(row.advantages)]
    relevant = [term for term, about in zip(token_terms, relevance, strict=True) if about == 1]
    other = [term for term, about in zip(token_terms, relevance, strict=True) if about == 0]
    assert relevant
    assert all(term * verdict > 0 for term in relevant)
    assert all(term * verdict < 0 for term in other)


def test_refuses_settings_not_proven_with_token_advantages(tmp_path):
    from trl import GRPOConfig

    from rtt.policy.trainer import refuse_unproven

    common = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "loss_type": "grpo"}
    refuse_unproven(GRPOConfig(**common))
    with pytest.raises(ValueError, match="importance_sampling_level='sequence'"):
        refuse_unproven(GRPOConfig(**{**common, "importance_sampling_level": "sequence"}))
    with pytest.raises(ValueError, match="loss_type='luspo'"):
        refuse_unproven(GRPOConfig(**{**common, "loss_type": "luspo"}))


def in_conversation(bench, weight=1.0):
    """The same prompts behind a system message, with a weight on each prompt's first rubric."""
    table = read_table(bench.prompts, Prompts)
    table["messages"] = [
        json.dumps([{"role": "system", "content": "Write as a sailor."}, {"role": "user", "content": text}])
        for text in table["prompt"]
    ]
    for row, text in enumerate(table["rubrics"]):
        first, *others = parse_rubrics(text)
        table.loc[row, "rubrics"] = dump_rubrics([first.model_copy(update={"weight": weight}), *others])
    path = bench.folder / f"conversations_{weight}.parquet"
    write_table(table, Prompts, path)
    return Bench(bench.folder, path, bench.policy, bench.nltk)


@pytest.mark.parametrize("arm", ["rtt_csr", "rtt_contrast", "cort"])
def test_a_system_message_is_part_of_what_is_learned_from(bench, arm):
    config = bench.config()
    plain, talk = bench.run("plain", config, arm=arm), in_conversation(bench).run("talk", config, arm=arm)
    assert weights(plain) != weights(talk)
    tokens = [json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["num_tokens"] for run in (plain, talk)]
    assert tokens[1] > tokens[0]


def test_a_rubrics_weight_reaches_reward_and_credit(bench):
    config = bench.config(rounds=1)
    first = []
    for weight in (1.0, 3.0):
        run = in_conversation(bench, weight).run(f"weight_{weight}", config)
        rollouts = read_table(run / "rollouts.parquet", Rollouts)
        kept = [[verdict > 0 for verdict in json.loads(text).values()] for text in rollouts["verdicts"]]
        expected = [(weight * row[0] + sum(row[1:])) / (weight + len(row) - 1) for row in kept]
        assert rollouts["reward"].tolist() == pytest.approx(expected)
        assert any(len(set(row)) == 2 for row in kept)
        first.append(rollouts[rollouts["step"] == 0].reset_index(drop=True))
    assert first[0]["response"].equals(first[1]["response"])
    assert not first[0]["advantages"].equals(first[1]["advantages"])


def test_damaged_rollout_part_is_an_error(bench):
    broken = bench.folder / "rollouts.parquet"
    broken.write_bytes(b"PAR1 cut short")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(broken, Rollouts)
