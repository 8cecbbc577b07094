"""Answers of a policy in a folder, by transformers or by vLLM."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rtt.config import Generation, Protocol
from rtt.errors import UserError
from rtt.evaluation.generation import generate, generation_settings, open_policy, read_answer
from rtt.evaluation.kept import Answer, Kept, fingerprint
from rtt.evaluation.templates import render, template_record, without_thoughts
from rtt.judging.cases import Message
from rtt.policy.checkpoints import digest
from rtt.policy.pretrained import require_chat_template, save_policy
from rtt.precision import linear_precision
from rtt.sources import file_sha256


class _Policy:
    """What both have in common: the model, and who it is."""

    def __init__(self, folder: Path, checkpoint: Path | None, protocol: Protocol, seed: int) -> None:
        self.folder, self.checkpoint, self.protocol, self.seed = folder, checkpoint, protocol, seed
        self.model: PreTrainedModel
        self.tokenizer: PreTrainedTokenizerBase
        self.model, self.tokenizer = open_policy(folder, checkpoint)
        require_chat_template(self.tokenizer)

    @cached_property
    def known(self) -> dict[str, str]:
        """Digests of the weights."""
        weights = "".join(file_sha256(path) for path in sorted(self.folder.glob("*.safetensors")))
        found = {"policy": hashlib.sha256(weights.encode()).hexdigest()[:16]}
        if self.checkpoint is not None:
            found["checkpoint"] = digest(self.checkpoint)[:16]
        return found

    def _record(self, generator: str) -> dict[str, Any]:
        template = template_record(self.tokenizer, self.protocol.thinking)
        return {
            "generator": generator,
            "model": self.known,
            "seed": self.seed,
            "chat_template": template,
            "linear_precision": linear_precision(),
        }

    def done(self) -> None:
        """Called when the scores are written."""


class Local(_Policy):
    """A policy run by transformers, in batches sorted by length.

    Args:
        folder: the policy.
        checkpoint: of a round; None for the policy itself.
        protocol: how answers are asked for.
        seed: of sampled answers.
        batch_size: answers at once.
        kept: file of the answers of an evaluation that was interrupted.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Path | None,
        protocol: Protocol,
        seed: int,
        batch_size: int,
        kept: Path,
    ) -> None:
        super().__init__(folder, checkpoint, protocol, seed)
        self.batch_size, self.place = batch_size, kept

    def answer(self, conversations: Sequence[Sequence[Message]], title: str) -> list[Answer]:
        """`samples` answers in a row for each conversation. What an interrupted call answered is not asked again."""
        asked = [turns for turns in conversations for _ in range(self.protocol.samples)]
        mark = fingerprint(
            {
                **self.known,
                "protocol": self.protocol.model_dump(),
                "seed": self.seed,
                "batch_size": self.batch_size,
                "linear_precision": linear_precision(),
                "asked": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
            }
        )
        return generate(
            self.model,
            self.tokenizer,
            asked,
            Generation(
                max_tokens=self.protocol.max_tokens,
                temperature=self.protocol.temperature,
                top_p=self.protocol.top_p,
                top_k=self.protocol.top_k,
                batch_size=self.batch_size,
            ),
            seed=self.seed,
            title=title,
            thinking=self.protocol.thinking,
            kept=Kept(self.place, mark),
        )

    def record(self) -> dict[str, Any]:
        return self._record(f"transformers {version('transformers')}")

    def done(self) -> None:
        self.place.unlink(missing_ok=True)


class Continuous(_Policy):
    """A policy run by transformers' continuous batching: an answer that ends makes room for the next at once. It starts
    over when it was interrupted."""

    def answer(self, conversations: Sequence[Sequence[Message]], title: str) -> list[Answer]:
        """As :meth:`Local.answer`."""
        torch.manual_seed(self.seed)
        texts = [render(self.tokenizer, turns, self.protocol.thinking) for turns in conversations]
        asked = [ids for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"] for _ in self._samples()]
        order = sorted(range(len(asked)), key=lambda place: (len(asked[place]), place))
        settings = Generation(
            max_tokens=self.protocol.max_tokens,
            temperature=self.protocol.temperature,
            top_p=self.protocol.top_p,
            top_k=self.protocol.top_k,
        )
        generation, ends = generation_settings(self.model, self.tokenizer, settings)
        model: Any = self.model  # its stubs do not know this method
        found = model.generate_batch(inputs=[asked[place] for place in order], generation_config=generation)
        answers = {}
        for place, name in zip(order, sorted(found, key=lambda name: int(name.rpartition("_")[2])), strict=True):
            answers[place] = read_answer(self.tokenizer, list(found[name].generated_tokens), ends)
        return [answers[place] for place in range(len(asked))]

    def _samples(self) -> range:
        return range(self.protocol.samples)

    def record(self) -> dict[str, Any]:
        return self._record(f"transformers {version('transformers')}, continuous batching")


class Engine(_Policy):
    """A policy run by vLLM, which batches continuously. Needs vLLM and a graphics card."""

    def answer(self, conversations: Sequence[Sequence[Message]], title: str) -> list[Answer]:
        """As :meth:`Local.answer`; it starts over when it was interrupted. Raises UserError where vLLM is not there."""
        try:
            from vllm import LLM, SamplingParams
        except ImportError:
            raise UserError(
                "vLLM is not installed", where="--engine vllm", todo="pip install vllm, or take --engine transformers"
            ) from None
        texts = [render(self.tokenizer, turns, self.protocol.thinking) for turns in conversations]
        # As tokens: a template that opens with the first token would get a second one from vLLM.
        asked = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        with tempfile.TemporaryDirectory(prefix="rtt-vllm-") as work:
            merged = Path(work) / "policy"
            save_policy(self.model, self.tokenizer, merged)
            del self.model  # the card is vLLM's from here on
            torch.cuda.empty_cache()
            engine = LLM(model=str(merged), seed=self.seed)
            sampling = SamplingParams(
                n=self.protocol.samples,
                max_tokens=self.protocol.max_tokens,
                temperature=self.protocol.temperature,
                top_p=self.protocol.top_p,
                top_k=self.protocol.top_k or -1,
                seed=self.seed,
            )
            found = engine.generate([{"prompt_token_ids": ids} for ids in asked], sampling)
        return [
            Answer(without_thoughts(one.text), len(one.token_ids), one.finish_reason == "length")
            for request in found
            for one in request.outputs
        ]

    def record(self) -> dict[str, Any]:
        return self._record(f"vllm {version('vllm')}")
