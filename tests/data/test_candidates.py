"""Which training prompts the start policy answers for the offline arms."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from rtt.config import Config, parse_config
from rtt.data.candidates import choose_candidates
from rtt.errors import UserError

SMOKE = Path(__file__).parents[2] / "config" / "smoke.yaml"


def config(policy: dict | None = None, **offline) -> Config:
    values = yaml.safe_load(SMOKE.read_text())
    values["offline"] = offline
    values["policy"] |= policy or {}
    return parse_config(values, "test")


def prompts(train: int) -> pd.DataFrame:
    splits = ["validation"] * 5 + ["train"] * train + ["heldout_topics"] * 5
    return pd.DataFrame(
        {
            "prompt_id": [f"p/{number:03d}" for number in range(len(splits))],
            "split": splits,
            "topic": "t",
            "prompt": "Write.",
            "rubrics": "[]",
        }
    )


def test_so_many_of_the_training_split_by_prompt_id():
    chosen = choose_candidates(prompts(30), config(prompts=7))
    assert len(chosen) == chosen["prompt_id"].nunique() == 7
    assert set(chosen["split"]) == {"train"}
    assert list(chosen["prompt_id"]) == sorted(chosen["prompt_id"])
    assert list(chosen.columns) == list(prompts(1).columns)


def test_the_seed_draws():
    table = prompts(30)
    first, again, other = (
        list(choose_candidates(table, config(prompts=7, seed=seed))["prompt_id"]) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_the_order_of_the_rows_does_not_matter():
    table = prompts(30)
    pd.testing.assert_frame_equal(
        choose_candidates(table, config(prompts=7)), choose_candidates(table.iloc[::-1], config(prompts=7))
    )


def test_null_is_what_a_grpo_arm_samples():
    steps = {"rounds": 3, "steps_per_round": 4, "checkpoint_every": 2, "batch_size": 8, "group_size": 4}
    assert len(choose_candidates(prompts(30), config(steps))) == 12 * 2
    assert len(choose_candidates(prompts(30), config({**steps, "num_iterations": 2}))) == 6 * 2


def test_null_takes_no_more_than_the_split_has():
    steps = {"rounds": 3, "steps_per_round": 4, "checkpoint_every": 2, "batch_size": 8, "group_size": 4}
    assert len(choose_candidates(prompts(10), config(steps))) == 10


def test_a_number_beyond_the_split_is_refused():
    assert len(choose_candidates(prompts(30), config(prompts=30))) == 30
    with pytest.raises(UserError, match="31 prompts of the split train are to be sampled, and there are 30") as caught:
        choose_candidates(prompts(30), config(prompts=31))
    assert caught.value.where == "offline.prompts"


def test_no_training_prompt_is_refused():
    with pytest.raises(UserError, match="no prompt has the split train"):
        choose_candidates(prompts(0), config())
