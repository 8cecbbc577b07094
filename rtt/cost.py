"""What a training step costs, from sizes alone: arithmetic, time, memory, questions to a judge (docs/cost.md).

A product of matrices with n · m · k multiplications counts 2 · n · m · k operations. Time is operations over the rate
of a device, or bytes over its bandwidth where that takes longer; what devices say to each other is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtt.config import Config
from rtt.errors import UserError

ADAM = 8
"""Bytes of AdamW's two means per trained weight."""
KEPT_LOGITS = 3
"""Tensors of the size of the logits that a loss holds at once: logits, their log-softmax, a gradient."""


@dataclass(frozen=True)
class Shape:
    """A decoder with gated feed-forward layers, in numbers.

    Attributes:
        layers, hidden, inner, vocabulary: L, H, I, V.
        heads, kv_heads, head_size: of attention.
        tied: whether the embeddings are the output's weights too.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool

    @classmethod
    def read(cls, path: Path) -> Shape:
        """Of a model's ``config.json``.

        Raises:
            UserError: no such file, or it lacks a size.
        """
        todo = "name a folder or file with a transformers config.json, see --model"
        try:
            values = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise UserError(f"the model's sizes cannot be read: {error}", where=path, todo=todo) from None
        try:
            heads = values["num_attention_heads"]
            return cls(
                layers=values["num_hidden_layers"],
                hidden=values["hidden_size"],
                inner=values["intermediate_size"],
                heads=heads,
                kv_heads=values.get("num_key_value_heads") or heads,
                head_size=values.get("head_dim") or values["hidden_size"] // heads,
                vocabulary=values["vocab_size"],
                tied=bool(values.get("tie_word_embeddings")),
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"the model's sizes lack {error}", where=path, todo=todo) from None

    @property
    def body(self) -> int:
        """Weights that every token meets, without embeddings and output."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def output(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        return self.body + self.output * (1 if self.tied else 2)

    def passed(self, tokens: float, context: float) -> float:
        """Operations of a forward pass of the body over `tokens`, each of which sees `context` on average."""
        return 2 * self.body * tokens + 4 * self.layers * self.heads * self.head_size * tokens * context

    def cached(self, tokens: float) -> float:
        """Numbers in the keys and values of so many tokens."""
        return 2 * self.layers * self.kv_heads * self.head_size * tokens


@dataclass(frozen=True)
class Work:
    """A training step.

    Attributes:
        responses, group: B and G.
        rubrics: K, of a prompt.
        prompt, response, criterion: tokens.
        updates: of one batch of responses.
        micro: responses in a pass of the loss on one device.
        shared: whether responses to one prompt share the passes over it.
        full: whether all weights are trained, or an adapter's.
        recomputed: whether activations are computed again in the backward pass.
    """

    responses: int
    group: int
    rubrics: float
    prompt: float
    response: float
    criterion: float
    updates: int = 1
    micro: int = 1
    shared: bool = True
    full: bool = False
    recomputed: bool = False


@dataclass(frozen=True)
class Machine:
    """What it runs on.

    Attributes:
        rate: operations a second of one device that a pass over many tokens reaches.
        bandwidth: bytes a second of its memory.
        small_rate: operations a second where a product has as many rows as there are responses; None is `rate`.
        devices: responses are dealt out to so many.
        number: bytes of a weight or an activation.
        sharded: what of the training state is dealt out too: "none", "optimizer" (with gradients: ZeRO-2), or "all"
            (ZeRO-3, FSDP).
    """

    rate: float
    bandwidth: float
    small_rate: float | None = None
    devices: int = 1
    number: int = 2
    sharded: str = "none"


@dataclass(frozen=True)
class Reader:
    """The discriminator: its sizes, and what it reads at once (`discriminator.reading`)."""

    shape: Shape
    reading: str


def operations(work: Work, policy: Shape, reader: Reader | None) -> dict[str, float]:
    """Of a step, by part: ``read`` and ``write`` of sampling, ``loss``, ``relevance``."""
    prompts = work.responses / work.group if work.shared else work.responses
    prompt, response = prompts * work.prompt, work.responses * work.response
    behind = work.prompt + work.response / 2  # what a response's token sees
    read = policy.passed(prompt, work.prompt / 2)
    output = 2 * policy.output * response
    write = policy.passed(response, behind) + output
    forward = read + policy.passed(response, behind) + output
    # forward, gradients of activations, of weights; with several updates also the log-probabilities before the first
    passes = work.updates * (2 + work.full + work.recomputed) + (work.updates > 1)
    relevance = 0.0
    if reader is not None:
        pairs, criteria = work.responses * work.rubrics, work.responses / work.group * work.rubrics
        if reader.reading == "pair":
            both = work.criterion + work.response
            relevance = reader.shape.passed(pairs * both, both / 2)
        else:
            relevance = reader.shape.passed(criteria * work.criterion, work.criterion / 2)
            if reader.reading == "after":
                relevance += reader.shape.passed(pairs * work.response, work.criterion + work.response / 2)
            else:
                relevance += reader.shape.passed(response, work.response / 2)
    return {"read": read, "write": write, "loss": forward * passes, "relevance": relevance}


def seconds(work: Work, policy: Shape, reader: Reader | None, machine: Machine) -> dict[str, float]:
    """Of a step, by part as :func:`operations`. A token is written in the time its products or its weights and cache
    take, whichever is longer."""
    found = operations(work, policy, reader)
    devices = machine.devices
    times = {name: value / machine.rate / devices for name, value in found.items()}
    held = policy.cached(work.responses / devices * (work.prompt + work.response / 2))
    moved = machine.number * (policy.body + policy.output + held) * work.response / machine.bandwidth
    times["write"] = max(found["write"] / (machine.small_rate or machine.rate) / devices, moved)
    return times


def memory(work: Work, policy: Shape, machine: Machine) -> dict[str, float]:
    """Bytes on one device, by part: ``weights``, ``training`` (gradients, AdamW), ``cache`` while it samples, and
    ``activations`` and ``logits`` of one pass of the loss."""
    number, devices = machine.number, machine.devices
    trained = policy.weights if work.full else 0
    # below single precision, AdamW keeps a copy of the weights in it
    training = trained * (number + ADAM + (4 if number < 4 else 0))
    tokens = work.micro * work.response + work.prompt * (work.micro / work.group if work.shared else work.micro)
    layer = 6 * policy.hidden + 4 * policy.inner + policy.head_size * (policy.heads + 2 * policy.kv_heads)
    kept = policy.layers * policy.hidden + layer if work.recomputed else policy.layers * layer
    return {
        "weights": policy.weights * number / (devices if machine.sharded == "all" else 1),
        "training": training / (1 if machine.sharded == "none" else devices),
        "cache": number * policy.cached(work.responses / devices * (work.prompt + work.response)),
        "activations": number * kept * tokens,
        "logits": 4 * KEPT_LOGITS * policy.vocabulary * work.micro * work.response,
    }


def peak(parts: Mapping[str, float]) -> float:
    """Bytes held at once: sampling and the loss follow one another."""
    return parts["weights"] + parts["training"] + max(parts["cache"], parts["activations"] + parts["logits"])


def questions(work: Work, instructions: float = 200, answer: float = 10) -> dict[str, float]:
    """What a language model is asked for the verdicts of a step: ``questions``, ``tokens_in`` and ``tokens_out``.

    Args:
        instructions: tokens of a question beside prompt, response and criterion.
        answer: tokens of a verdict.
    """
    asked = work.responses * work.rubrics
    each = instructions + work.prompt + work.response + work.criterion
    return {"questions": asked, "tokens_in": asked * each, "tokens_out": asked * answer}


def work_of(config: Config, *, rubrics: float, prompt: float, response: float, criterion: float) -> Work:
    """A step as a configuration has it; what depends on data is given."""
    policy = config.policy
    return Work(
        responses=policy.batch_size,
        group=policy.group_size,
        rubrics=rubrics,
        prompt=prompt,
        response=response,
        criterion=criterion,
        updates=policy.num_iterations,
        micro=policy.micro_batch_size or policy.batch_size,
        shared=policy.share_prompts,
        full=policy.lora is None,
        recomputed=policy.gradient_checkpointing,
    )


def reader_of(config: Config, backbone: Shape) -> Reader:
    """The discriminator on that backbone."""
    kept = min(config.discriminator.layers or backbone.layers, backbone.layers)
    return Reader(Shape(**(vars(backbone) | {"layers": kept})), config.discriminator.reading)


def estimate(config: Config, work: Work, policy: Shape, machine: Machine) -> dict[str, Any]:
    """What a batch of responses costs, and an arm: ``seconds`` by part, their sum ``step``, ``overhead`` of relevance,
    ``batches``, ``hours`` of all devices for all of them, ``memory`` by part, ``peak``, and ``judge``."""
    times = seconds(work, policy, reader_of(config, policy), machine)
    step = sum(times.values())
    batches = config.policy.total_steps / work.updates
    parts = memory(work, policy, machine)
    return {
        "seconds": times,
        "step": step,
        "overhead": step / (step - times["relevance"]) - 1,
        "batches": batches,
        "hours": step * batches * machine.devices / 3600,
        "memory": parts,
        "peak": peak(parts),
        "judge": questions(work),
    }


def table(found: Mapping[str, Any], price_in: float | None, price_out: float | None) -> str:
    """An estimate as people read it; prices in dollars per million tokens."""
    named = {
        "read": "sampling, prompts",
        "write": "sampling, responses",
        "loss": "loss and update",
        "relevance": "relevance",
    }
    lines = ["seconds a batch of responses"]
    lines += [f"  {named[name]:20} {value:>12,.2f}" for name, value in found["seconds"].items()]
    lines.append(f"  {'together':20} {found['step']:>12,.2f}  relevance adds {100 * found['overhead']:.1f} %")
    lines.append("gigabytes on each device")
    lines += [f"  {name:20} {value / 1e9:>12,.2f}" for name, value in found["memory"].items()]
    lines.append(f"  {'at most, at once':20} {found['peak'] / 1e9:>12,.2f}")
    asked = found["judge"]
    lines.append("judge, a batch of responses")
    lines.append(f"  {'questions':20} {asked['questions']:>12,.0f}")
    lines.append(f"  {'tokens in, out':20} {asked['tokens_in']:>12,.0f} {asked['tokens_out']:>12,.0f}")
    if price_in is not None and price_out is not None:
        dollars = (asked["tokens_in"] * price_in + asked["tokens_out"] * price_out) / 1e6
        lines.append(f"  {'dollars':20} {dollars:>12,.2f}  {dollars * found['batches']:,.0f} for all batches")
    lines.append(f"all {found['batches']:,.0f} batches: {found['hours']:,.1f} hours of devices")
    return "\n".join(lines)
