"""How a conversation is written down for a model, and what is taken out of what it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from rtt.judging.cases import Message

SWITCH = "enable_thinking"
"""What chat templates of models that can think before they answer call the switch."""

OPEN, CLOSE = "<think>", "</think>"


def render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], thinking: bool = False) -> str:
    """The text a model goes on from. Raises ``jinja2.TemplateError`` for a conversation its template refuses."""
    more: dict[str, Any] = {SWITCH: thinking} if _has_switch(tokenizer) else {}
    return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **more))


def _has_switch(tokenizer: PreTrainedTokenizerBase) -> bool:
    return SWITCH in str(tokenizer.chat_template)


def template_record(tokenizer: PreTrainedTokenizerBase, thinking: bool) -> dict[str, str]:
    """What a record of an evaluation says of it: a digest, what became of the switch for thinking, and an example."""
    switch = ("on" if thinking else "off") if _has_switch(tokenizer) else "the template has no switch"
    template = str(tokenizer.chat_template)
    return {
        "sha256": hashlib.sha256(template.encode()).hexdigest()[:16],
        "thinking": switch,
        "example": render(tokenizer, [{"role": "user", "content": "…"}], thinking),
    }


def without_thoughts(text: str) -> str:
    """The answer alone: what follows the last closing mark. Thoughts that never end leave no answer."""
    _, closed, answer = text.rpartition(CLOSE)
    if closed:
        return answer.lstrip()
    return "" if text.lstrip().startswith(OPEN) else text
