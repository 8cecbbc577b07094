"""What a model's tokens may attend to, which decides whether texts with a common beginning can share it."""

from __future__ import annotations

import inspect
from typing import Any


def sees_all(model: Any) -> bool:
    """Whether every layer attends to all earlier tokens, by a kernel that takes any mask and any positions.

    No: windows over the last tokens, layers with a running state, positions read off the mask, flash attention.
    """
    config = model.config.get_text_config()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    windowed = getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")
    return (
        not config.is_encoder_decoder
        and not windowed
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and getattr(config, "_attn_implementation", None) in ("sdpa", "eager")
        and {"position_ids", "cache"} <= set(inspect.signature(type(base).forward).parameters)
    )
