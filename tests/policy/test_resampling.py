"""Dynamic sampling: which groups go, and how rows of two batches are put together."""

import torch

from rtt.policy.assignment import Judged
from rtt.policy.resampling import groups_without_spread, replace_rows
from rtt.rubrics import Rubric

NAN = torch.nan


def test_a_group_goes_when_its_rewards_are_equal_or_missing():
    rewards = torch.tensor([0.5, 0.5, 0.0, 1.0, NAN, NAN, NAN, 0.5, NAN, 1.0])
    assert groups_without_spread(rewards, 2) == [0, 2, 3, 4]
    assert groups_without_spread(torch.tensor([NAN, 0.0, 1.0, 0.25, 0.25, NAN]), 3) == [1]


def batch(prompt, completion, mask):
    return {
        "prompt_ids": torch.tensor(prompt),
        "prompt_mask": torch.ones(len(prompt), len(prompt[0]), dtype=torch.long),
        "completion_ids": torch.tensor(completion),
        "completion_mask": torch.tensor(mask),
        "advantages": torch.arange(len(prompt), dtype=torch.float32),
        "num_items_in_batch": torch.tensor(mask).sum(),
    }


def test_rows_move_with_their_padding_on_its_own_side():
    one = batch([[1, 2], [3, 4]], [[5, 6, 7], [8, 9, 0]], [[1, 1, 1], [1, 1, 0]])
    other = batch([[10, 11, 12]], [[13, 14]], [[1, 1]])
    merged = replace_rows(one, other, places=[0], rows=[0], pad_id=99)
    assert merged["prompt_ids"].tolist() == [[10, 11, 12], [99, 3, 4]]
    assert merged["prompt_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert merged["completion_ids"].tolist() == [[13, 14, 99], [8, 9, 0]]
    assert merged["completion_mask"].tolist() == [[1, 1, 0], [1, 1, 0]]
    assert merged["num_items_in_batch"] == 4
    assert one["prompt_ids"].tolist() == [[1, 2], [3, 4]]


def judged(texts, widths):
    rubrics = [
        [Rubric(rubric_id=f"{text}/{k}", kind="k", text="t") for k in range(n)]
        for text, n in zip(texts, widths, strict=True)
    ]
    valid = torch.tensor([[k < n for k in range(max(widths))] for n in widths])
    weights, rewards = valid + 1.0, torch.tensor(widths) / 4
    return Judged(rubrics, [f"ask {t}" for t in texts], list(texts), valid.float(), valid, weights, rewards)


def test_verdicts_move_with_their_rows_and_wider_rubrics_widen_the_rest():
    merged = judged("ab", (1, 1)).replaced([1], judged("cd", (2, 3)), [1])
    assert merged.responses == ["a", "d"]
    assert merged.prompts == ["ask a", "ask d"]
    assert [len(row) for row in merged.rubrics] == [1, 3]
    assert merged.valid.tolist() == [[True, False, False], [True, True, True]]
    assert merged.weights.tolist() == [[2, 1, 1], [2, 2, 2]]
    assert merged.rewards.tolist() == [0.25, 0.75]
