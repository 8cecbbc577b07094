"""Answers of a policy to prompts, in batches sorted by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rtt.config import Generation
from rtt.evaluation.kept import Answer, Kept
from rtt.evaluation.templates import render, without_thoughts
from rtt.judging.cases import Message
from rtt.policy import sharing
from rtt.policy.checkpoints import verify
from rtt.policy.pretrained import load_policy, load_tokenizer, require_chat_template
from rtt.policy.sampling import draw_quickly, packed
from rtt.processes import device

PROMPT_TOKENS = 256
"""Prompt length up to which a batch is as large as it may be."""


def open_policy(folder: Path, checkpoint: Path | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The policy as saved in `folder`, with a checkpoint's adapter merged in or its whole weights in place; on the
    graphics card where there is one."""
    model, tokenizer = _open_model(folder, checkpoint), load_tokenizer(folder)
    model.to(device())  # type: ignore[arg-type]
    return model, tokenizer


def _open_model(folder: Path, checkpoint: Path | None) -> PreTrainedModel:
    if checkpoint is None:
        return load_policy(folder)
    verify(checkpoint)
    if (checkpoint / "adapter_config.json").exists():
        from peft import PeftModel

        return PeftModel.from_pretrained(load_policy(folder), str(checkpoint)).merge_and_unload()
    return load_policy(checkpoint)


def batches(order: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """`order` in batches of at most `size`, fewer where prompts are long.

    A batch is padded to its longest prompt, so one of some thousand tokens among short ones would cost as much as a
    batch of such: no batch has more than ``size × PROMPT_TOKENS`` tokens with padding, unless it is one prompt.

    Args:
        order: indices by rising length.
        lengths: tokens of each prompt.
        size: most prompts in a batch.
    """
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[index] > size * PROMPT_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def generation_settings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Generation
) -> tuple[GenerationConfig, set[int]]:
    """transformers' settings for ours, and the tokens that end an answer."""
    greedy = settings.temperature == 0
    generation = GenerationConfig(
        max_new_tokens=settings.max_tokens,
        do_sample=not greedy,
        temperature=None if greedy else settings.temperature,
        top_p=None if greedy else settings.top_p,
        top_k=None if greedy else settings.top_k,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=model.generation_config.eos_token_id or tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    ends = generation.eos_token_id
    return generation, set(ends) if isinstance(ends, list) else {ends}


def read_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: set[int]) -> Answer:
    """The answer that sampled tokens spell: up to the first that ends it, without thoughts."""
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    text = str(tokenizer.decode(list(ids if stop is None else ids[:stop]), skip_special_tokens=True))
    return Answer(without_thoughts(text), len(ids) if stop is None else stop, stop is None)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[Message]],
    settings: Generation,
    *,
    seed: int,
    title: str = "responses",
    thinking: bool = False,
    kept: Kept | None = None,
) -> list[Answer]:
    """One answer per prompt, in the order of the prompts; repeat a prompt to sample it several times.

    Args:
        prompts: user messages, or whole conversations; the tokenizer's chat template is applied.
        settings: temperature 0 is greedy.
        seed: of the sampling; equal arguments give equal answers on the same machine.
        thinking: whether a model that can think first does; its thoughts are no part of an answer's text.
        kept: answers of a call with the same arguments that was interrupted. Its batches are not sampled again, and
            each draws by its own seed, so that the rest comes out as it would have.

    Raises:
        UserError: the tokenizer has no chat template.
    """
    require_chat_template(tokenizer)
    asked = [[{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    texts = [render(tokenizer, turns, thinking) for turns in asked]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda i: (lengths[i], i))
    model.eval()
    torch.manual_seed(seed)
    generation, ends = generation_settings(model, tokenizer, settings)
    answers: dict[int, Answer] = {} if kept is None else dict(kept.answers)
    bar = tqdm(total=len(texts), desc=title, unit="answer", disable=None)
    with bar, packed(model, settings.batch_size):  # once for all batches
        for number, chosen in enumerate(batches(order, lengths, settings.batch_size)):
            if kept is not None:
                if all(i in kept.answers for i in chosen):
                    bar.update(len(chosen))
                    continue
                torch.manual_seed((seed << 24) + number)
            batch = tokenizer(
                [texts[i] for i in chosen],
                return_tensors="pt",
                padding=True,
                padding_side="left",
                add_special_tokens=False,
            ).to(model.device)
            output = sharing.generate(
                model,
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                generation_config=generation,
                draw=draw_quickly,
            )
            for i, ids in zip(chosen, output[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                answers[i] = read_answer(tokenizer, ids, ends)
            if kept is not None:
                kept.add(chosen, [answers[i] for i in chosen])
            bar.update(len(chosen))
    return [answers[i] for i in range(len(texts))]
