"""The offline arms: what they learn from, and what their losses are, worked out by hand on a tiny model."""

import math
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional
from transformers import TrainerCallback

from rtt.config import Arm, Config, parse_config
from rtt.errors import UserError
from rtt.policy.offline import (
    best_per_prompt,
    encode_best,
    encode_pairs,
    judged,
    offline_examples,
    offline_trainer,
    preference_pairs,
)
from rtt.policy.pretrained import load_policy, load_tokenizer
from rtt.tables import Prompts, Responses, Verdicts, check_table

SMOKE = Path(__file__).parents[2] / "config" / "smoke.yaml"
SFT, DPO = Arm(method="sft"), Arm(method="dpo")
ENDINGS = ("the sea is calm", "A garden in winter, and bread", "\n1. First\n2. Second", "buttons")


def make_prompts(count: int = 6) -> pd.DataFrame:
    """`count` training prompts and one for validation."""
    rows = [
        {
            "prompt_id": f"p/{number}",
            "split": "train" if number < count else "validation",
            "topic": "t",
            "prompt": f"Write line {number} of a poem." + " Be brief." * (number % 3),
            "rubrics": f'[{{"rubric_id": "p/{number}/0", "kind": "k", "text": "t"}}]',
        }
        for number in range(count + 1)
    ]
    return check_table(pd.DataFrame(rows), Prompts, "test")


def make_responses(samples: dict[str, int]) -> pd.DataFrame:
    """So many samples per prompt; the last of each is cut short."""
    rows = [
        {
            "response_id": f"{prompt_id}#{sample}",
            "prompt_id": prompt_id,
            "sample": sample,
            "response": ENDINGS[sample % 4] * (1 + int(prompt_id[-1]) % 2) + prompt_id,
            "tokens": 5,
            "truncated": sample == count - 1,
        }
        for prompt_id, count in samples.items()
        for sample in range(count)
    ]
    return check_table(pd.DataFrame(rows), Responses, "test")


def make_verdicts(values: dict[str, list[float | None]]) -> pd.DataFrame:
    """Response id to its verdicts, None for a missing one."""
    rows = [
        {
            "response_id": response_id,
            "prompt_id": response_id.split("#")[0],
            "rubric_id": f"{response_id.split('#')[0]}/{k}",
            "kind": "k",
            "verdict": math.nan if verdict is None else float(verdict),
            "judge": "hand",
            "reason": "no answer" if verdict is None else "",
        }
        for response_id, verdicts in values.items()
        for k, verdict in enumerate(verdicts)
    ]
    return check_table(pd.DataFrame(rows), Verdicts, "test")


RESPONSES = make_responses({f"p/{number}": 4 for number in range(6)})
VERDICTS = make_verdicts(
    {f"p/{n}#{s}": [1 if s == n % 4 else -1, 1 if s in (n % 4, 0) else -1] for n in range(6) for s in range(4)}
)


def rewards(values: dict[str, list[float | None]], reward: str = "csr", beta: float = 0.5) -> dict[str, float]:
    counts = pd.Series([key.split("#")[0] for key in values]).value_counts().to_dict()
    table = judged(make_responses(counts), make_verdicts(values), reward, beta)
    return dict(zip(table["response_id"], table["reward"], strict=True))


def test_rewards_are_those_of_the_online_arms():
    values = {"p/0#0": [1, -1, -1, 1], "p/0#1": [1, 1], "p/0#2": [0.5, None, -1]}
    assert rewards(values, "csr") == {"p/0#0": 0.5, "p/0#1": 1.0, "p/0#2": 0.375}
    assert rewards(values, "aon") == {"p/0#0": 0.0, "p/0#1": 1.0, "p/0#2": 0.0}
    assert rewards(values, "mix", 0.25) == {"p/0#0": 0.375, "p/0#1": 1.0, "p/0#2": 0.28125}


def test_responses_without_a_verdict_leave():
    assert rewards({"p/0#0": [None, None], "p/0#1": [-1, None]}) == {"p/0#1": 0.0}
    unjudged = judged(RESPONSES, VERDICTS[VERDICTS["response_id"] != "p/3#1"], "csr", 0.5)
    assert len(unjudged) == len(RESPONSES) - 1
    assert "p/3#1" not in set(unjudged["response_id"])


def test_equal_verdicts_in_another_order_are_equally_good():
    graded = {"p/0#0": [0.1, 0.7, 0.3], "p/0#1": [0.3, 0.1, 0.7], "p/0#2": [0.7, 0.3, 0.1]}
    assert len({sum((value + 1) / 2 for value in row) for row in graded.values()}) > 1
    assert len(set(rewards(graded).values())) == 1


def test_verdicts_on_other_responses_are_refused():
    with pytest.raises(UserError, match=r"2 response\(s\) with verdicts are not there, such as 'p/5#2'"):
        judged(RESPONSES.iloc[:-2], VERDICTS, "csr", 0.5)


def texts(examples, column: str) -> dict[str, str]:
    return {row["prompt_id"]: row[column][0]["content"] for row in examples.to_list()}


def picked(values: dict[str, list[float | None]]):
    counts = pd.Series([key.split("#")[0] for key in values]).value_counts().to_dict()
    return judged(make_responses(counts), make_verdicts(values), "csr", 0.5)


UNEVEN = {
    "p/0#0": [-1],
    "p/0#1": [1],
    "p/0#2": [1],
    "p/0#3": [-1],
    "p/1#0": [None],
    "p/1#1": [0.5],
    "p/1#2": [0.75],
    "p/1#3": [0],
    "p/2#0": [1],
    "p/2#1": [1],
    "p/2#2": [1],
    "p/2#3": [1],
    "p/3#0": [None],
    "p/3#1": [1],
    "p/3#2": [None],
    "p/3#3": [None],
}


def answer(table: pd.DataFrame, response_id: str) -> str:
    return table.set_index("response_id").loc[response_id, "response"]


def test_the_best_of_each_prompt_and_the_earliest_of_equals():
    table = picked(UNEVEN)
    examples = best_per_prompt(table, make_prompts())
    best = {"p/0": "p/0#1", "p/1": "p/1#2", "p/2": "p/2#0", "p/3": "p/3#1"}
    assert texts(examples, "completion") == {key: answer(table, value) for key, value in best.items()}
    assert texts(examples, "prompt")["p/1"] == "Write line 1 of a poem. Be brief."
    assert [message["role"] for message in examples[0]["prompt"] + examples[0]["completion"]] == ["user", "assistant"]


def test_the_best_against_the_worst_and_the_earliest_of_equals():
    table = picked(UNEVEN)
    pairs, left_out = preference_pairs(table, make_prompts())
    assert texts(pairs, "chosen") == {"p/0": answer(table, "p/0#1"), "p/1": answer(table, "p/1#2")}
    assert texts(pairs, "rejected") == {"p/0": answer(table, "p/0#0"), "p/1": answer(table, "p/1#3")}
    assert left_out == 2
    assert [(row["chosen_ended"], row["rejected_ended"]) for row in pairs] == [(True, True), (True, False)]


def test_the_order_of_the_rows_changes_nothing():
    mixed = RESPONSES.sample(frac=1, random_state=1), VERDICTS.sample(frac=1, random_state=2)
    prompts = make_prompts()
    for arm in (SFT, DPO):
        in_order, counts = offline_examples(arm, prompts, RESPONSES, VERDICTS)
        out_of_order, _ = offline_examples(arm, prompts.iloc[::-1], *mixed)
        assert in_order.to_list() == out_of_order.to_list()
        assert counts == {"examples": 6, "prompts_without_spread": 0, "responses_without_verdict": 0}


def test_nothing_to_prefer_is_refused():
    equal = {f"p/0#{sample}": [1] for sample in range(4)}
    assert len(best_per_prompt(picked(equal), make_prompts())) == 1
    with pytest.raises(UserError, match="there is nothing to prefer"):
        preference_pairs(picked(equal), make_prompts())


def test_nothing_judged_is_refused():
    nothing = {f"p/0#{sample}": [None] for sample in range(4)}
    for choose in (best_per_prompt, preference_pairs):
        with pytest.raises(UserError, match="no response has a verdict"):
            choose(picked(nothing), make_prompts())


def test_prompts_of_other_splits_are_refused():
    for choose in (best_per_prompt, preference_pairs):
        with pytest.raises(UserError, match="not of the split train, such as 'p/6'"):
            choose(picked({"p/6#0": [1], "p/6#1": [-1]}), make_prompts())


def rendered(prompt: str) -> str:
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def test_loss_is_on_the_response_and_its_end_token_alone(tiny_policy):
    """Also where the response begins with a line break, which must not merge with the prompt's."""
    tokenizer = load_tokenizer(tiny_policy)
    table = picked({"p/0#2": [1], "p/0#0": [-1], "p/0#1": [-1], "p/1#3": [1], "p/1#0": [0], "p/1#1": [0], "p/1#2": [0]})
    table.loc[table["response_id"] == "p/0#2", "truncated"] = False
    rows = encode_best(tokenizer, best_per_prompt(table, make_prompts()), 512).to_list()
    for row, prompt_id in zip(rows, ("p/0", "p/1"), strict=True):
        response = answer(table, {"p/0": "p/0#2", "p/1": "p/1#3"}[prompt_id])
        prompt = rendered(make_prompts().set_index("prompt_id").loc[prompt_id, "prompt"])
        count = len(tokenizer(prompt)["input_ids"])
        end = "<|im_end|>" if prompt_id == "p/0" else ""  # the other was cut short
        assert row["input_ids"][:count] == tokenizer(prompt)["input_ids"]
        assert row["labels"] == [-100] * count + row["input_ids"][count:]
        assert tokenizer.decode(row["input_ids"][count:]) == response + end
    assert rows[0]["input_ids"][-1] == tokenizer.eos_token_id


def test_pairs_share_the_prompt(tiny_policy):
    tokenizer = load_tokenizer(tiny_policy)
    table = picked(UNEVEN)
    row = encode_pairs(tokenizer, preference_pairs(table, make_prompts())[0], 512).to_list()[1]
    assert tokenizer.decode(row["prompt_ids"]) == rendered("Write line 1 of a poem. Be brief.")
    assert tokenizer.decode(row["chosen_ids"]) == answer(table, "p/1#2") + "<|im_end|>"
    assert tokenizer.decode(row["rejected_ids"]) == answer(table, "p/1#3")


def test_nothing_is_cut_off_in_silence(tiny_policy):
    tokenizer = load_tokenizer(tiny_policy)
    best = best_per_prompt(picked(UNEVEN), make_prompts())
    pairs, _ = preference_pairs(picked(UNEVEN), make_prompts())
    longest = max(len(row["input_ids"]) for row in encode_best(tokenizer, best, 512))
    assert len(encode_best(tokenizer, best, longest)) == 4
    with pytest.raises(UserError, match=f"with its response has {longest} tokens, the policy takes {longest - 1}"):
        encode_best(tokenizer, best, longest - 1)
    rows = encode_pairs(tokenizer, pairs, 512)
    longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows)
    assert len(encode_pairs(tokenizer, pairs, longest)) == 2
    with pytest.raises(UserError, match=f"{longest} tokens, the policy takes {longest - 1}"):
        encode_pairs(tokenizer, pairs, longest - 1)


def test_a_policy_without_a_chat_template_is_refused(tiny_policy):
    tokenizer = load_tokenizer(tiny_policy)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encode_best(tokenizer, best_per_prompt(picked(UNEVEN), make_prompts()), 512)


class Pace(TrainerCallback):
    """Stops and saves after a step, as a round does."""

    def __init__(self, last: int) -> None:
        self.last = last

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = control.should_save = state.global_step >= self.last
        return control


class Bench:
    """Trains an offline arm on six prompts of four responses, in folders of its own."""

    def __init__(self, folder: Path, policy: Path) -> None:
        self.folder, self.policy = folder, policy

    def config(self, batch_size: int = 4, steps: int = 6, **policy) -> Config:
        values = yaml.safe_load(SMOKE.read_text())
        values["policy"] |= {"rounds": 1, "steps_per_round": steps, "learning_rate": 1e-2, **policy}
        values["offline"] = {"batch_size": batch_size, "dpo_beta": 0.25}
        return parse_config(values, "test")

    def trainer(self, config: Config, arm: Arm, name: str, last: int, seed: int = 3):
        torch.use_deterministic_algorithms(True, warn_only=True)
        tables = make_prompts(), RESPONSES, VERDICTS
        return offline_trainer(config, arm, seed, self.folder / name, self.policy, *tables, callbacks=[Pace(last)])

    def train(self, config: Config, arm: Arm, name: str, last: int, start: Path | None = None, seed: int = 3) -> Path:
        """Trains up to the step `last`; returns the checkpoint."""
        self.last_trainer = self.trainer(config, arm, name, last, seed)
        self.last_trainer.train(resume_from_checkpoint=str(start) if start else None)
        return self.folder / name / f"checkpoint-{last}"

    def figures(self) -> list[dict]:
        """What was logged of each step, those of the rounds before included; without the time."""
        lines = [line for line in self.last_trainer.state.log_history if "loss" in line]
        return [{name: value for name, value in line.items() if name != "step_time"} for line in lines]

    def losses(self) -> list[float]:
        return [line["loss"] for line in self.figures()]


@pytest.fixture
def bench(tmp_path, tiny_policy) -> Bench:
    return Bench(tmp_path, tiny_policy)


def weights(checkpoint: Path) -> bytes:
    names = ("adapter_model.safetensors", "model.safetensors")
    return next((checkpoint / name).read_bytes() for name in names if (checkpoint / name).exists())


LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}
METHODS = pytest.mark.parametrize("arm", [SFT, DPO], ids=["sft", "dpo"])
WEIGHTS = pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])


@METHODS
@WEIGHTS
def test_two_rounds_are_one_of_twice_the_steps_and_equal_runs_are_equal(bench, arm, lora):
    """Six examples in batches of four: the second round goes on in the middle of a pass."""
    config = bench.config(lora=lora)
    whole = bench.train(config, arm, "whole", 6)
    figures = bench.figures()
    half = bench.train(config, arm, "half", 3)
    moved = bench.folder / "moved"
    shutil.copytree(half, moved)
    second = bench.train(config, arm, "second", 6, start=moved)
    assert weights(second) == weights(whole)
    assert bench.figures() == figures
    assert weights(half) != weights(whole)
    assert weights(bench.train(config, arm, "again", 3)) == weights(half)
    assert weights(bench.train(config, arm, "other", 3, seed=4)) != weights(half)


def test_sft_loss_is_the_cross_entropy_of_responses(bench):
    config = bench.config(batch_size=6)
    bench.train(config, SFT, "sft", 1)
    model, tokenizer = load_policy(bench.policy), load_tokenizer(bench.policy)
    examples, _ = offline_examples(SFT, make_prompts(), RESPONSES, VERDICTS)
    total, count = 0.0, 0
    for row in examples.to_list():  # one by one: no padding
        prompt = tokenizer(rendered(row["prompt"][0]["content"]))["input_ids"]
        response = tokenizer(row["completion"][0]["content"])["input_ids"]
        response += [tokenizer.eos_token_id] if row["ended"] else []
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        total += functional.cross_entropy(logits, torch.tensor(response), reduction="sum").item()
        count += len(response)
    assert {row["ended"] for row in examples} == {True, False}
    assert bench.losses()[0] == pytest.approx(total / count, rel=1e-5)


def test_padding_has_no_part_in_sft(bench):
    trainer = bench.trainer(bench.config(), SFT, "sft", 1)
    trainer.model.eval()
    batch = trainer.data_collator(list(trainer.train_dataset))
    padding = batch["attention_mask"] == 0
    assert padding.any()
    absurd = {**batch, "input_ids": batch["input_ids"].masked_fill(padding, 7)}
    with torch.no_grad():
        assert trainer.compute_loss(trainer.model, dict(batch)) == trainer.compute_loss(trainer.model, absurd)
        labelled = {**batch, "labels": batch["labels"].masked_fill(padding, 7)}
        assert trainer.compute_loss(trainer.model, dict(batch)) != trainer.compute_loss(trainer.model, labelled)


def log_probability(model, prompt: list[int], response: list[int]) -> float:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return -functional.cross_entropy(logits, torch.tensor(response), reduction="sum").item()


def preferences(model, pairs) -> torch.Tensor:
    """log p(chosen) - log p(rejected) of each pair."""
    return torch.tensor(
        [
            log_probability(model, row["prompt_ids"], row["chosen_ids"])
            - log_probability(model, row["prompt_ids"], row["rejected_ids"])
            for row in pairs.to_list()
        ]
    )


def checkpoint_model(policy: Path, checkpoint: Path):
    if not (checkpoint / "adapter_config.json").exists():
        return load_policy(checkpoint)
    from peft import PeftModel

    return PeftModel.from_pretrained(load_policy(policy), str(checkpoint)).eval()


@pytest.mark.parametrize("lora", [{"rank": 4, "alpha": 8}, None], ids=["lora", "full"])
def test_dpo_measures_against_the_start_after_a_resume_too(bench, lora):
    """All pairs in one batch: each step's loss follows from the checkpoint before it and from the start."""
    config = bench.config(batch_size=6, lora=lora)
    first = bench.train(config, DPO, "first", 3)
    assert bench.losses()[0] == pytest.approx(math.log(2), rel=1e-6)
    bench.train(config, DPO, "second", 4, start=first)
    encoded = bench.last_trainer.train_dataset
    before = preferences(load_policy(bench.policy), encoded)
    moved = preferences(checkpoint_model(bench.policy, first), encoded) - before
    assert moved.mean() > 1
    assert bench.losses()[-1] == pytest.approx(-functional.logsigmoid(0.25 * moved).mean().item(), rel=1e-4)


@METHODS
def test_each_step_is_timed(bench, arm):
    started = time.perf_counter()
    bench.train(bench.config(), arm, "timed", 3)
    lines = [line for line in bench.last_trainer.state.log_history if "loss" in line]
    times = [line["step_time"] for line in lines]
    assert len(times) == 3
    assert all(seconds > 0 for seconds in times)
    assert sum(times) < time.perf_counter() - started


@METHODS
def test_it_learns_what_it_is_shown(bench, arm):
    config = bench.config(batch_size=6, steps=12, lora=None, learning_rate=5e-4)
    checkpoint = bench.train(config, arm, "learns", 12)
    assert bench.losses()[-1] < 0.9 * bench.losses()[0]
    start, trained = load_policy(bench.policy), checkpoint_model(bench.policy, checkpoint)
    if arm.method == "sft":
        rows = bench.last_trainer.train_dataset.to_list()
        prompts = [sum(label == -100 for label in row["labels"]) for row in rows]
        for row, count in zip(rows, prompts, strict=True):
            ids = row["input_ids"][:count], row["input_ids"][count:]
            assert log_probability(trained, *ids) > log_probability(start, *ids)
    else:
        pairs = bench.last_trainer.train_dataset
        assert (preferences(trained, pairs) > preferences(start, pairs)).all()


def test_an_arm_may_have_its_own_learning_rate(bench):
    own = Arm(method="sft", learning_rate=3e-5)
    for arm, rate in ((SFT, 1e-2), (own, 3e-5)):
        settings = bench.trainer(bench.config(), arm, "rate", 1).args
        assert settings.learning_rate == rate
        assert settings.save_strategy == "no"


def test_an_arm_that_learns_online_is_refused(bench):
    with pytest.raises(ValueError, match="method 'grpo' does not learn offline"):
        bench.trainer(bench.config(), Arm(), "grpo", 1)
