"""How a model's tokens attend, and to which, which decides whether texts with a common beginning can share it."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "sdpa_grouped"
"""Name of :func:`grouped` among transformers' ways to attend."""


def grouped(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' `sdpa`, to the bit, without its copies of keys and values for each head of a group.

    On a processor torch needs none, whatever the mask; transformers makes them, for the sake of graphics cards, of all
    that is read with a mask.
    """
    plain = not {name for name, value in options.items() if value is not None} & {"position_bias", "softcap"}
    if query.device.type != "cpu" or attention_mask is None or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    found = scaled_dot_product_attention(
        *(query, key, value),
        attn_mask=attention_mask,
        dropout_p=options.get("dropout", 0.0),
        scale=options.get("scaling"),
        enable_gqa=query.shape[1] > key.shape[1],
    )
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(GROUPED, grouped)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


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
        and getattr(config, "_attn_implementation", None) in ("sdpa", GROUPED, "eager")
        and {"position_ids", "cache"} <= set(inspect.signature(type(base).forward).parameters)
    )
