"""The published settings: as they are by a dry run, and run whole with model and sizes made tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rtt.config import load_config

ROOT = Path(__file__).parents[1]
FAR = ("ifeval", "muldimif", "advancedif")
"""Benchmarks whose files are not here."""
PAPER = sorted((ROOT / "config" / "paper").glob("*.yaml"))


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_published_figures_stand_in_each(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config(path)
    policy = config.policy
    assert (policy.total_steps, policy.batch_size, policy.group_size) == (500, 512, 8)
    assert (policy.learning_rate, policy.warmup_steps, policy.weight_decay) == (1e-6, 20, 0)
    assert (policy.num_iterations, policy.epsilon_low, policy.epsilon_high, policy.beta) == (2, 0.2, 0.27, 0)
    sampling = policy.generation
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.99, 0.99, 100, 4096)
    assert (policy.longest_prompt, policy.lora) == (2048, None)
    credit = config.arms["rtt_csr"].credit
    assert (credit.partition, credit.rule, credit.weight) == ("intra_sample", "add", 0.5)
    assert set(config.arms) == {"sft", "dpo", "rl_csr", "rl_aon", "rtt_csr", "rtt_aon"}
    asked = config.evaluation.protocol_of("ifeval")
    assert (asked.temperature, asked.top_p, asked.top_k, asked.samples) == (0.7, 0.8, 20, 5)
    assert {"ifeval", "ifbench", "muldimif", "advancedif"} <= set(config.evaluation.benchmarks)
    assert config.prompts.max_rubrics == 20
    discriminator = config.discriminator
    assert (discriminator.epochs, discriminator.learning_rate, discriminator.batch_size) == (2, 9e-6, 256)
    assert (discriminator.max_length, discriminator.layers, discriminator.bidirectional) == (4096, None, False)


@pytest.mark.cluster
@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_each_runs_whole_on_a_tiny_model(path, tmp_path):
    """In two processes, with the rules in the judge's and the annotator's place."""
    rows = [
        {
            "prompt": f"Write about thing {number}. Use the letter e at least {3 + number % 4} times. No commas.",
            "rubrics": [
                {
                    "text": f"Use the letter e at least {3 + number % 4} times.",
                    "check": {
                        "kind": "keywords:letter_frequency",
                        "kwargs": {"letter": "e", "let_frequency": 3 + number % 4, "let_relation": "at least"},
                    },
                },
                {"text": "No commas.", "check": {"kind": "punctuation:no_comma"}},
            ],
            "id": f"p{number}",
        }
        for number in range(400)
    ]
    for number in range(20):
        rows[number]["rubrics"].append(
            {
                "text": "Has 3 placeholders.",
                "check": {"kind": "detectable_content:number_placeholders", "kwargs": {"num_placeholders": 3}},
            }
        )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = {
        "base": str(path.relative_to(ROOT)),
        "results": str(tmp_path / "results"),
        "sources": {
            "policy": {"uri": "tiny:"},
            "prompts": {"uri": f"file:{prompts}"},
            "benchmarks": dict.fromkeys(FAR),
            "evaluators": {"muldimif": None},
        },
        "judge": None,
        "prompts": {"splits": {"train": 0.7, "validation": 0.15, "heldout_topics": 0.15}},
        "labels": {
            "train_prompts": 40,
            "unseen_topics_prompts": 10,
            "unseen_kinds_prompts": 10,
            "generation": {"max_tokens": 24},
            "annotator": {"source": "rules"},
        },
        "discriminator": {"layers": 2, "batch_size": 16, "learning_rate": 1e-3, "threads": 1},
        "policy": {
            "rounds": 1,
            "steps_per_round": 2,
            "checkpoint_every": 2,
            "batch_size": 16,
            "micro_batch_size": 4,
            "generation": {"max_tokens": 24},
            "accelerate": "config/accelerate/two_processes_cpu.yaml",
            "vllm": None,
        },
        "offline": {"prompts": 24, "samples": 4},
        "evaluation": {
            "benchmarks": {
                **{name: {"limit": 6, "max_tokens": 16} for name in ("validation", "ifbench")},
                **dict.fromkeys(("heldout_topics", "heldout_kinds", *FAR)),
            },
            "domain": None,
            "bootstrap_draws": 100,
        },
    }
    if path.stem == "qwen3_4b":
        tiny["arms"] = dict.fromkeys(("rl_aon", "rtt_aon"))  # another reward, which the study has
    else:  # laid over it
        tiny["arms"] = dict.fromkeys(("sft", "dpo", "rl_csr", "rl_aon", "rtt_aon"))
        tiny["evaluation"]["benchmarks"]["ifbench"] = None
        tiny["headline"] = None
        tiny["policy"]["accelerate"] = "config/accelerate/one_device.yaml"
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny))
    line = [sys.executable, "-m", "rtt.cli", "run", "--config", str(config), "--cores", "2"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=1200, env=dict(os.environ))
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert (tmp_path / "results/tables/main.csv").exists()
