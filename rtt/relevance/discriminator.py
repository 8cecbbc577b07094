"""The discriminator: how far each token of a response is what a criterion is about.

A language model's body with a head (rtt.relevance.networks) gives a logit per response token. It reads

    criterion ⏎⏎ response

and not the question. Criterion and response are tokenised apart, so the offsets of the response's tokens are exact.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from rtt.attention import GROUPED, sees_all
from rtt.errors import UserError
from rtt.precision import keep_rounded, prepared
from rtt.processes import device
from rtt.relevance.networks import NETWORKS, Encoded, Network, Reading
from rtt.relevance.offsets import Span

SEPARATOR = "\n\n"
SETTINGS, WEIGHTS = "discriminator.json", "model.safetensors"
BATCH_TOKENS, BATCH_TOKENS_ON_A_CARD = 1024, 16384
"""Tokens read in one forward pass: enough to keep a processor, or a graphics card, busy."""
_REBUILD = "delete the folder and run `rtt discriminator` again"
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def shared_words(criterion: str, response: str) -> list[Span]:
    """The words of `response` that `criterion` has too, whatever their case; stop words and single letters left out."""
    wanted = {word for word in _WORD.findall(criterion.lower()) if len(word) > 1 and word not in ENGLISH_STOP_WORDS}
    return [found.span() for found in _WORD.finditer(response) if found.group().lower() in wanted]


class _Saved(BaseModel):
    """What is saved beside the weights."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1] = 1
    reading: Reading = "pair"
    bidirectional: bool
    max_length: int = Field(ge=1)
    threshold: float = Field(ge=0, le=1)
    weights_sha256: str


class Discriminator:
    """Token-level relevance of responses to criteria.

    Attributes:
        network: the weights.
        tokenizer: the backbone's own; it need not be the policy's.
        max_length: tokens read of one pair.
        threshold: relevance from which a token counts as relevant.
        cut_tokens: response tokens that :meth:`relevance` has left out so far, each with relevance 0.
    """

    def __init__(
        self,
        body: PreTrainedModel,
        tokenizer: Any,
        *,
        bidirectional: bool,
        max_length: int,
        reading: Reading = "pair",
        threshold: float = 0.5,
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                "the backbone's tokenizer cannot say where its tokens lie in the text",
                where=tokenizer.name_or_path,
                todo="use a backbone with a tokenizer.json",
            )
        if reading == "after" and not sees_all(body):
            raise UserError(
                "the backbone does not let a response see what was read of its criterion before",
                where=tokenizer.name_or_path,
                todo="set discriminator.reading to pair, or take a decoder whose layers attend to all earlier tokens",
            )
        if body.config._attn_implementation == "sdpa":
            body.set_attn_implementation(GROUPED)
        body.config.is_causal = not bidirectional  # read at every forward pass, for the mask and the attention
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.network: Network = prepared(NETWORKS[reading](body, body.config.hidden_size, pad)).eval()
        self.tokenizer, self.reading = tokenizer, reading
        self.bidirectional, self.max_length, self.threshold = bidirectional, max_length, threshold
        self.cut_tokens = 0
        ids = tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
        begin, between, end = (
            next((token for token in choices if token is not None), None)
            for choices in (
                (tokenizer.cls_token_id, tokenizer.bos_token_id),
                (tokenizer.sep_token_id,),
                (tokenizer.sep_token_id, tokenizer.eos_token_id),
            )
        )
        self._begin = [] if begin is None else [begin]
        self._between = ids if between is None else [between]
        self._end = [] if end is None else [end]

    @classmethod
    def from_backbone(
        cls,
        backbone: Path,
        *,
        layers: int | None,
        bidirectional: bool,
        max_length: int,
        reading: Reading = "pair",
        attention: str | None = None,
    ) -> Discriminator:
        """An untrained head on the first `layers` layers of the model in `backbone`; None keeps all.

        Raises:
            UserError: the folder holds no model, or one with fewer layers.
        """
        try:
            config = AutoConfig.from_pretrained(backbone, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(backbone, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no backbone can be read: {error}", where=backbone, todo="name a transformers folder"
            ) from None
        layers = layers or config.num_hidden_layers
        if layers > config.num_hidden_layers:
            raise UserError(
                f"the backbone has {config.num_hidden_layers} layers, and the first {layers} are to be kept",
                where="discriminator.layers",
                todo=f"set it to at most {config.num_hidden_layers}, or to null",
            )
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        with _quiet():
            try:
                body, report = AutoModel.from_pretrained(
                    backbone,
                    config=config,
                    dtype=torch.float32,
                    attn_implementation=attention,
                    local_files_only=True,
                    output_loading_info=True,
                )
            except Exception as error:  # a damaged file raises whatever its reader raises
                raise UserError(
                    f"the backbone cannot be read: {error}", where=backbone, todo="write it again"
                ) from None
        if report["missing_keys"]:
            raise UserError(
                f"the backbone lacks weights, such as {min(report['missing_keys'])}",
                where=backbone,
                todo="name a folder that holds the whole model",
            )
        return cls(body, tokenizer, bidirectional=bidirectional, max_length=max_length, reading=reading)

    def save(self, folder: Path) -> None:
        """Writes beside `folder` and renames, so that a failed write leaves what was there."""
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self.network.body.config.save_pretrained(partial)
            self.tokenizer.save_pretrained(partial)
            weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
            save_file(weights, partial / WEIGHTS)
            saved = _Saved(
                reading=self.reading,
                bidirectional=self.bidirectional,
                max_length=self.max_length,
                threshold=self.threshold,
                weights_sha256=_sha256(partial / WEIGHTS),
            )
            (partial / SETTINGS).write_text(saved.model_dump_json(indent=2) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    @classmethod
    def load(cls, folder: Path, attention: str | None = None) -> Discriminator:
        """Reads what :meth:`save` wrote, to use it and not to train it. The global random state stays as it was.

        Raises:
            UserError: it is absent, of another format, or damaged.
        """
        try:
            saved = _Saved.model_validate_json((folder / SETTINGS).read_text())
        except FileNotFoundError:
            raise UserError("no discriminator is there", where=folder, todo="run `rtt discriminator` first") from None
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise UserError(f"the settings cannot be read: {error}", where=folder / SETTINGS, todo=_REBUILD) from None
        try:
            if _sha256(folder / WEIGHTS) != saved.weights_sha256:
                raise UserError("the discriminator's weights are damaged", where=folder / WEIGHTS, todo=_REBUILD)
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            with _quiet(), torch.random.fork_rng(devices=[]):
                read = cls(
                    AutoModel.from_config(config, dtype=torch.float32, attn_implementation=attention),
                    tokenizer,
                    bidirectional=saved.bidirectional,
                    max_length=saved.max_length,
                    reading=saved.reading,
                    threshold=saved.threshold,
                )
            read.network.load_state_dict(load_file(folder / WEIGHTS))
            read.network.to(device()).requires_grad_(False)
            keep_rounded(read.network)
            return read
        except UserError:
            raise
        except Exception as error:  # each part is read by another library, with exceptions of its own
            raise UserError(f"the discriminator cannot be read: {error}", where=folder, todo=_REBUILD) from None

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """The (criterion, response) pairs as the network reads them.

        A criterion is never cut. Of a pair longer than `max_length`, the end of the response is left out.
        """
        criteria = self._tokenize({criterion for criterion, _ in pairs})
        responses = self._tokenize({response for _, response in pairs})
        encoded = []
        for criterion, response in pairs:
            head = [*self._begin, *criteria[criterion][0], *self._between]
            ids, spans = responses[response]
            room = max(0, self.max_length - len(head) - len(self._end))
            end = self._end if len(ids) <= room else []  # the end mark tells the network that nothing was cut
            kept = spans[:room]
            words = np.zeros(len(response), dtype=bool)
            for a, b in shared_words(criterion, response):
                words[a:b] = True
            marks = [int(words[a:b].any()) for a, b in kept]
            encoded.append(
                Encoded(
                    ids=[*head, *ids[:room], *end],
                    shared=[*[0] * len(head), *marks, *[0] * len(end)],
                    first=len(head),
                    spans=kept,
                    cut=len(ids) - len(kept),
                )
            )
        return encoded

    def _tokenize(self, texts: set[str]) -> dict[str, tuple[list[int], list[Span]]]:
        distinct = sorted(texts)
        if not distinct:
            return {}
        output = self.tokenizer(distinct, add_special_tokens=False, return_offsets_mapping=True)
        return {
            text: (ids, _cover(offsets, len(text)))
            for text, ids, offsets in zip(distinct, output["input_ids"], output["offset_mapping"], strict=True)
        }

    def precision(self) -> AbstractContextManager[Any]:
        """What the network computes in, in training and afterwards: bfloat16 where that is safe, on anything but a
        processor, which has its own way (rtt.precision)."""
        kind = self.network.mark.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu")

    @torch.no_grad()
    def token_relevance(self, encoded: Sequence[Encoded], batch_tokens: int | None = None) -> list[np.ndarray]:
        """Relevance in [0, 1], float32, of each token in `spans` of each pair. Takes no random number."""
        self.network.eval()
        if batch_tokens is None:
            batch_tokens = BATCH_TOKENS if self.network.mark.device.type == "cpu" else BATCH_TOKENS_ON_A_CARD
        results = [np.zeros(0, dtype=np.float32) for _ in encoded]
        bar = tqdm(total=len(encoded), desc="relevance", unit="pair", disable=None, leave=False)
        with bar, self.precision():
            for places, logits in self.network.score(encoded, batch_tokens):
                for place, row in zip(places, logits, strict=True):
                    results[place] = torch.sigmoid(row.float()).cpu().numpy()
                bar.update(len(places))
        return results

    def relevance(self, pairs: Sequence[tuple[str, str]], batch_tokens: int | None = None) -> list[np.ndarray]:
        """Relevance of each character of each response to its criterion.

        Args:
            pairs: criteria with responses; equal pairs are computed once.
            batch_tokens: read in one forward pass, None for as many as the device is busy with; the result does not
                depend on it, beyond rounding.

        Returns:
            One float32 array in [0, 1] per pair, as long as the response. A character has the relevance of its token,
            the largest where several share it, and 0 where the response is too long to be read so far.
        """
        distinct = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
        encoded = self.encode(list(distinct))
        values = self.token_relevance(encoded, batch_tokens)
        self.cut_tokens += sum(encoded[distinct[pair]].cut for pair in pairs)
        return [_to_chars(values[distinct[pair]], encoded[distinct[pair]].spans, len(pair[1])) for pair in pairs]


def _to_chars(values: np.ndarray, spans: Sequence[Span], length: int) -> np.ndarray:
    chars = np.zeros(length, dtype=np.float32)
    for value, (start, end) in zip(values, spans, strict=True):
        np.maximum(chars[start:end], value, out=chars[start:end])
    return chars


def _cover(offsets: Sequence[Span], length: int) -> list[Span]:
    """Offsets without gaps: what a tokenizer leaves out, such as the space before a word, belongs to the next token."""
    spans: list[Span] = []
    reach = 0
    for start, end in offsets:
        spans.append((min(start, reach), end))
        reach = max(reach, end)
    if spans:
        spans[-1] = (spans[-1][0], length)
    return spans


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from reporting the layers that are left out on purpose."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
