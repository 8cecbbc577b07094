"""The model of docs/cost.md against the clock: sampling, loss and relevance of models of three sizes.

The rates the model is given are those of plain products of matrices, measured here; nothing is fitted. On a graphics
card everything goes as in training: weights in 32 bits, products in 16.

    .venv/bin/python benchmarks/cost.py
    .venv/bin/python benchmarks/cost.py --device cuda --sizes large 600m 4b --response 128
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from matplotlib.figure import Figure
from measure import keep, options
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LlamaModel
from trl.trainer import add_fused_lm_head

from rtt.cost import Machine, Reader, Shape, Work, seconds
from rtt.policy.likelihood import can_project, project
from rtt.policy.sharing import generate, pack
from rtt.relevance.networks import Apart, Encoded
from rtt.report.drawing import save, style

SIZES = {
    "small": (4, 256, 768, 4),
    "medium": (12, 384, 1024, 6),
    "large": (30, 576, 1536, 9),
    "600m": (28, 1024, 3072, 16),
    "4b": (36, 2560, 9728, 32),
}
"""Layers, hidden, inner, heads; as many keys as queries. From the large one they are as SmolLM2-135M and Qwen3 are."""
VOCABULARY = 16384
READ = 4
"""Layers of the discriminator."""


def timed(turns: int, job) -> float:
    """Median seconds, after one turn that is not counted."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else int
    found = []
    for _ in range(turns + 1):
        finish()
        started = time.perf_counter()
        job()
        finish()
        found.append(time.perf_counter() - started)
    return median(found[1:])


def rate(rows: int, turns: int, device: str) -> float:
    """Operations a second of products of so many rows with weights that no cache holds."""
    size, dtype = (1536, torch.float32) if device == "cpu" else (4096, torch.bfloat16)
    weights = torch.randn(16, size, size, device=device, dtype=dtype)
    given = torch.randn(rows, size, device=device, dtype=dtype)

    def products() -> None:
        for each in weights:
            given @ each.T

    return 2 * rows * weights.numel() / timed(turns, products)


def bandwidth(turns: int, device: str) -> float:
    """Bytes a second at which weights are read."""
    weights = torch.randn((64 if device == "cpu" else 1024) * 2**20, device=device)
    return weights.nbytes / timed(turns, weights.sum)


def measured(model: LlamaForCausalLM, body: LlamaModel, work: Work, turns: int) -> dict[str, float]:
    """Seconds of each part of a step."""
    draw, device = torch.Generator().manual_seed(0), model.device
    prompts = torch.randint(3, VOCABULARY, (work.responses // work.group, work.prompt), generator=draw)
    prompts = prompts.repeat_interleave(work.group, dim=0).to(device)
    answers = torch.randint(3, VOCABULARY, (work.responses, work.response), generator=draw).to(device)
    ones = torch.ones_like
    sampling = GenerationConfig(
        max_new_tokens=work.response, min_new_tokens=work.response, do_sample=True, pad_token_id=0, eos_token_id=1
    )

    def sample() -> None:
        generate(model, input_ids=prompts, attention_mask=ones(prompts), generation_config=sampling)

    def loss() -> None:
        for part in range(0, work.responses, work.micro):
            own = slice(part, part + work.micro)
            given = pack(prompts[own], ones(prompts[own]), answers[own], ones(answers[own]), dtype=model.dtype)
            if can_project(model, given.inputs["labels"]):
                project(model, given.inputs, 1.0)[0].sum().backward()
            else:
                model(**given.inputs, fused_lm_head=True).log_probs.sum().backward()
        model.zero_grad()

    network = Apart(body, body.config.hidden_size, 0).to(device).eval()
    criteria = torch.randint(3, VOCABULARY, (int(work.rubrics), work.criterion), generator=draw).tolist()
    each = work.criterion + work.response
    pairs = [
        Encoded([*criterion, *answer], [0] * each, work.criterion, [(0, 1)] * work.response, 0)
        for answer in answers.tolist()
        for criterion in criteria
    ]

    @torch.no_grad()
    def relevance() -> None:
        list(network.score(pairs, 1024))

    return {"sampling": timed(turns, sample), "loss": timed(turns, loss), "relevance": timed(turns, relevance)}


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sizes", nargs="+", default=["small", "medium", "large"], choices=SIZES)
    parser.add_argument("--response", type=int, default=32, help="tokens")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--figure", type=Path, default=Path("docs/images/cost"), help="without suffix")
    asked = parser.parse_args()
    device = asked.device
    torch.set_num_threads(1)
    # one prompt: its criteria are then those of the whole batch
    work = Work(16, 16, rubrics=4, prompt=96, response=asked.response, criterion=24, micro=8, full=True)
    machine = Machine(
        rate(512, asked.turns, device),
        bandwidth(asked.turns, device),
        rate(work.responses, asked.turns, device),
        number=4 if device == "cpu" else 2,
    )
    found = {}
    for name in asked.sizes:
        layers, hidden, inner, heads = SIZES[name]
        settings = {
            "vocab_size": VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_attention_heads": heads,
            "tie_word_embeddings": True,
        }
        torch.manual_seed(0)
        with torch.device(device):
            model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **settings))
            body = LlamaModel(LlamaConfig(num_hidden_layers=READ, **settings))
        if device != "cpu":
            add_fused_lm_head(model)
            torch.cuda.reset_peak_memory_stats()
        shape = Shape(layers, hidden, inner, heads, heads, hidden // heads, VOCABULARY, tied=True)
        reader = Reader(Shape(**(vars(shape) | {"layers": READ})), "apart")
        told = seconds(work, shape, reader, machine)
        told = {"sampling": told["read"] + told["write"], "loss": told["loss"], "relevance": told["relevance"]}
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            clock = measured(model, body, work, asked.turns)
        found[name] = {
            "weights": shape.weights,
            "seconds": clock,
            "foretold": told,
            "seconds / foretold": {part: clock[part] / told[part] for part in clock},
            "tokens sampled a second": work.responses * work.response / clock["sampling"],
        }
        if device != "cpu":
            found[name]["peak bytes"] = torch.cuda.max_memory_allocated()
        print(name, found[name], flush=True)
    with style():
        figure = Figure(figsize=(4, 3.2), layout="constrained")
        axes = figure.subplots()
        for part in ("sampling", "loss", "relevance"):
            ones, others = ([row[key][part] for row in found.values()] for key in ("foretold", "seconds"))
            axes.plot(ones, others, marker="o", label=part)
        axes.plot(axes.get_xlim(), axes.get_xlim(), color="grey", linestyle=":")
        axes.set(xscale="log", yscale="log", xlabel="seconds foretold", ylabel="seconds measured")
        axes.legend()
        save(figure, asked.figure)
    keep(
        {
            "sizes": found,
            "work": vars(work),
            "10^9 operations a second, 512 rows and as many as responses": [
                machine.rate / 1e9,
                (machine.small_rate or 0) / 1e9,
            ],
            "10^9 bytes a second": machine.bandwidth / 1e9,
            "device": torch.cuda.get_device_name() if device == "cuda" else "processor, 1 thread",
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
