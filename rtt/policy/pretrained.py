"""A pretrained policy as a plain folder: float32 weights, configuration and tokenizer, as transformers reads them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rtt.errors import UserError
from rtt.precision import prepared
from rtt.sources import install

_GGUF_MAGIC = b"GGUF"


def save_plain_model(source: Path, destination: Path) -> None:
    """Turns a GGUF file, known by its first bytes, or a transformers folder into a plain folder; equal every time.

    The weights become float32 and lose all marks of quantization; the tokenizer pads on the left, has a padding token
    and knows the model's longest input.

    Args:
        source: a GGUF file of any name, or a folder with configuration, weights and tokenizer.
        destination: folder, replaced as a whole at the end or left as it was.

    Raises:
        UserError: the source is absent, damaged, of an architecture transformers does not know, or a quantized folder.
    """
    if source.is_dir():
        _refuse_quantized(source)
        model, tokenizer = load_policy(source), load_tokenizer(source)
    else:
        model, tokenizer = _load_gguf(source)
    save_policy(model, tokenizer, destination)


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, destination: Path) -> None:
    """Writes a model and its tokenizer beside `destination`, then renames; no path of this machine is written down."""
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as folder:
        staged = Path(folder) / "staged"
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        for path in staged.iterdir():
            path.chmod((staged / "config.json").stat().st_mode)  # safetensors' own leave out group and others
        install(staged, destination)


def load_policy(folder: Path) -> PreTrainedModel:
    """The model of a transformers folder, float32, on the CPU, in evaluation mode, its linear layers in the precision
    that rtt.precision was asked for.

    Raises:
        UserError: the folder or its configuration is absent, or the weights are absent, damaged or incomplete.
    """
    _demand_config(folder)
    return prepared(_read_model(folder, folder).eval())


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a transformers folder, padding on the left as generation needs.

    Raises:
        UserError: the folder, its configuration or the tokenizer's files are absent or damaged.
    """
    _demand_config(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        # transformers would make an empty tokenizer out of the configuration and go on.
        raise UserError("the tokenizer is not there", where=folder, todo="add the model's tokenizer.json to the folder")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    except Exception as error:  # the tokenizers library raises bare Exception
        raise _damaged("tokenizer", folder, error) from None


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UserError for a tokenizer that cannot write down a conversation."""
    if not tokenizer.chat_template:
        raise UserError("the policy has no chat template", where=tokenizer.name_or_path, todo="use an instruct model")


def _demand_config(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError("the policy's folder is not there", where=folder, todo="run `rtt fetch` for the policy first")
    if not (folder / "config.json").is_file():
        raise UserError(
            "the folder has no config.json, so it is no model",
            where=folder,
            todo="name the folder that save_pretrained wrote, not one above or inside it",
        )


def _damaged(part: str, place: Path, error: Exception) -> UserError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"the {part} cannot be read: {cause}", where=place, todo="delete it and fetch or write it again")


def _refuse_quantized(folder: Path) -> None:
    _demand_config(folder)
    try:
        quantized = "quantization_config" in json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise _damaged("model", folder, error) from None
    if quantized:
        raise UserError(
            "the model's weights are quantized",
            where=folder / "config.json",
            todo="name the original model, or a GGUF file, which is turned into plain weights",
        )


def _load_gguf(source: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        with source.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise UserError(
            f"the model cannot be opened: {error.strerror}", where=source, todo="fetch it first, or correct the path"
        ) from None
    if magic != _GGUF_MAGIC:
        raise UserError("the file is not a GGUF model", where=source, todo="name a GGUF file or a transformers folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
    except Exception as error:  # a damaged file fails in many places: reader, metadata, vocabulary
        raise _damaged("GGUF model", source, error) from None
    _restore_digit_split(tokenizer, source)
    return _without_quantizer(_read_model(source.parent, source, gguf_file=source.name)), tokenizer


def _read_model(folder: Path, where: Path, **options: Any) -> PreTrainedModel:
    """The float32 model, whole; `where` is the place an error names."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
    except Exception as error:  # transformers, safetensors and torch each raise their own for a damaged file
        raise _damaged("model", where, error) from None
    model, report = loaded
    if report["missing_keys"]:
        # transformers would fill them with random numbers and go on.
        missing = sorted(report["missing_keys"])
        raise UserError(
            f"the weights lack {len(missing)} tensor(s), such as {missing[0]}",
            where=where,
            todo="fetch or write the model again",
        )
    return model


def _without_quantizer(model: PreTrainedModel) -> PreTrainedModel:
    """The same tensors in a model that does not remember where they came from, which save_pretrained would refuse."""
    config = model.config
    del config.quantization_config
    with torch.device("meta"):  # no second copy in memory, no random numbers drawn
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain


def _restore_digit_split(tokenizer: PreTrainedTokenizerBase, source: Path) -> None:
    r"""SmolLM takes every digit by itself before it splits words, which transformers forgets when it reads a GGUF.

    Without it "\n\n1" becomes two line breaks the model has not seen in a row, instead of the one token for both.
    """
    from gguf import GGUFReader

    field = GGUFReader(source).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
