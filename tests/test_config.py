"""The configuration: every shipped file loads, and a wrong key is named in full."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from rtt.config import Config, Protocol, load_config, load_protocol, parse_config, to_dict, write_config
from rtt.errors import UserError

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(
    path
    for path in (ROOT / "config").rglob("*.yaml")
    if not path.name.startswith("reference") and path.parent.name not in ("accelerate", "protocols")
)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration names others by paths that count from the working directory."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A configuration with every default spelled out and every optional section of its own arms."""
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["arms"]["cort"] = {"cort": {}}
    values["arms"]["papo"] = {"papo": {"quality_kinds": ["keywords:existence"]}}
    values["discriminator_variants"] = {"small": {"layers": 1}}
    return to_dict(parse_config(values, "smoke.yaml"))


def changed(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with the value of each key replaced; `__` stands for the dot in a key's full name."""
    values = copy.deepcopy(values)
    for key, value in changes.items():
        *path, last = key.split("__")
        place = values
        for part in path:
            place = place[part]
        place[last] = value
    return values


def refusal(values: dict[str, Any]) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_config(values, "my.yaml")
    return caught.value


def sections(section: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every section that has keys of its own."""
    yield path
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from sections(value, (*path, name))
        elif isinstance(value, dict):
            for key, part in value.items():
                if isinstance(part, BaseModel):
                    yield from sections(part, (*path, name, key))


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """All sections a key of `model` may hold, itself included."""

    def within(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for part in get_args(annotation):
            yield from within(part)

    seen.add(model)
    for field in model.model_fields.values():
        for part in within(field.annotation):
            if part not in seen:
                models(part, seen)
    return seen


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_shipped_configuration_loads(path: Path):
    assert load_config(path).arms


def test_the_default_and_the_smoke_configuration_are_shipped():
    assert {"config/config.yaml", "config/smoke.yaml"} <= {path.relative_to(ROOT).as_posix() for path in SHIPPED}


def test_unknown_keys_are_refused_at_every_level_by_their_full_name(whole):
    paths = list(sections(parse_config(whole, "my.yaml")))
    named = {".".join(path) for path in paths}
    assert {"", "policy.lora", "arms.rtt_csr.credit", "arms.cort.cort", "sources.benchmarks.ifbench"} <= named
    for path in paths:
        values = changed(whole, **{"__".join([*path, "colour"]): "blue"})
        assert f"  {'.'.join([*path, 'colour'])}: unknown key" in refusal(values).what.splitlines()


def test_all_problems_are_listed_at_once(whole):
    values = changed(
        whole, policy__learning_rate=-1, labels__samples=0, arms__rl_csr__reward="best", prompts__seeds=1, colour="blue"
    )
    error = refusal(values)
    assert error.where == "my.yaml"
    keys = [line.strip().split(":")[0] for line in error.what.splitlines()[1:]]
    assert sorted(keys) == ["arms.rl_csr.reward", "colour", "labels.samples", "policy.learning_rate", "prompts.seeds"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompts.count", 19),
        ("prompts.heldout_kinds", []),
        ("labels.development_share", 0),
        ("labels.development_share", 1),
        ("labels.generation.top_p", 0),
        ("labels.generation.temperature", -0.1),
        ("labels.generation.top_k", -1),
        ("discriminator.layers", 0),
        ("discriminator.warmup_share", 1.1),
        ("policy.group_size", 1),
        ("policy.learning_rate", 0),
        ("policy.epsilon_low", 1),
        ("policy.beta", -0.1),
        ("policy.rounds", 0),
        ("policy.rounds", 1.5),
        ("policy.lora.dropout", 1),
        ("arms.rtt_csr.credit.weight", 1.01),
        ("arms.rtt_csr.credit.min_std", -1e-9),
        ("arms.rtt_csr.credit.partition", "none"),
        ("arms", {}),
        ("seeds", []),
        ("evaluation.bootstrap_draws", 99),
        ("evaluation.benchmarks.validation.limit", 0),
        ("sources.policy.sha256", "ABC"),
    ],
)
def test_value_out_of_bounds_is_refused_by_its_full_name(whole, key, value):
    (line,) = refusal(changed(whole, **{key.replace(".", "__"): value})).what.splitlines()[1:]
    assert line.strip().startswith(f"{key}: ")


def test_group_size_that_does_not_divide_the_batch_is_told_a_size_that_fits(whole):
    what = refusal(changed(whole, policy__group_size=6, policy__batch_size=16)).what
    assert "policy.group_size 6 does not divide policy.batch_size 16; set batch_size to a multiple of it" in what
    fitting = int(re.search(r"such as (\d+)", what).group(1))
    assert parse_config(changed(whole, policy__group_size=6, policy__batch_size=fitting), "").policy.group_size == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy__micro_batch_size": 3}, "policy.micro_batch_size 3 does not divide policy.batch_size 8"),
        ({"policy__num_iterations": 3}, "policy.steps_per_round 2 is not a multiple of policy.num_iterations 3"),
        ({"policy__num_iterations": 2}, "policy.checkpoint_every 1 is not a multiple of policy.num_iterations 2"),
        ({"policy__generation__temperature": 0}, "policy.generation.temperature is 0"),
        ({"prompts__splits__train": 0.8}, "splits must name train, validation and heldout_topics and sum to 1"),
        ({"prompts__splits": {"train": 1.0}}, "splits must name train, validation and heldout_topics and sum to 1"),
        ({"sources__nltk__sha256": None}, "has no sha256; a fetched source must be pinned"),
        ({"evaluation__benchmarks__validation__each_round": False}, "needs validation with each_round: true"),
        ({"evaluation__benchmarks": {}}, "needs validation with each_round: true"),
        ({"seeds": [1, 2, 1]}, "seeds names one twice: [1, 2, 1]"),
        ({"arms__base": {"reward": "csr"}}, "arms.base: the name base is taken"),
        ({"arms__Rl-Csr": {"reward": "csr"}}, "arms.Rl-Csr"),
        ({"evaluation__benchmarks__ifeval": {}}, "evaluation.benchmarks.ifeval: no such split or benchmark"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(whole, changes, message):
    assert message in refusal(changed(whole, **changes)).what


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms__cort__credit": {}}, "arms.cort: an arm has at most one of credit, cort and papo"),
        ({"arms__cort__method": "sft"}, "arms.cort: method sft takes no cort"),
        ({"arms__rl_csr__seeds": [3, 3]}, "arms.rl_csr: seeds names one twice: [3, 3]"),
        ({"arms__rtt_csr__credit__discriminator": "large"}, "no discriminator is called 'large'; there are ['full', "),
        ({"discriminator_variants__full": {}}, "discriminator_variants.full: the name full is taken"),
        ({"tables": {"main": ["base", "rl"]}}, "tables.main: no arm is called 'rl'; there are ['base', 'rl_csr', "),
        ({"headline": ["rtt_csr", "rl"]}, "headline: no arm is called 'rl'"),
    ],
)
def test_arms_that_name_nothing_or_too_much_are_refused(whole, changes, message):
    assert message in refusal(changed(whole, **changes)).what


def test_arm_takes_from_its_parent_what_it_leaves_out(whole):
    arms = {
        "first": {"reward": "aon", "credit": {"weight": 0.25, "relevance": "rules"}},
        "second": {"parent": "first", "credit": {"weight": 0.75}},
        "third": {"parent": "second", "reward": "csr"},
        "plain": {"parent": "third", "credit": None},
    }
    config = parse_config(changed(whole, arms=arms), "")
    second, third = config.arms["second"], config.arms["third"]
    assert (second.reward, second.credit.weight, second.credit.relevance) == ("aon", 0.75, "rules")
    assert (third.reward, third.credit) == ("csr", second.credit)
    assert config.arms["plain"].credit is None
    assert config.arms["first"].credit.weight == 0.25


def test_parent_that_is_not_there_or_descends_from_its_child_is_refused(whole):
    assert "arms.a.parent: no arm is called 'b'" in refusal(changed(whole, arms={"a": {"parent": "b"}})).what
    ring = {"a": {"parent": "b"}, "b": {"parent": "c"}, "c": {"parent": "a"}}
    assert "descends from" in refusal(changed(whole, arms=ring)).what


def test_discriminator_variant_takes_what_it_leaves_out(whole):
    config = parse_config(changed(whole, discriminator_variants={"small": {"layers": 1}}), "")
    assert config.discriminator_variants["small"] == config.discriminator.model_copy(update={"layers": 1})


def test_parents_and_variants_follow_what_is_laid_over_the_base(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    own = {
        "arms": {"rtt_csr": {"credit": {"weight": 0.9}}, "sft": None},
        "discriminator": {"layers": 3},
        "tables": {"main": None},
    }
    path.write_text(yaml.safe_dump({"base": "config/study/small.yaml", **own}))
    config = load_config(path)
    assert config.arms["rtt_pooled"].credit.weight == 0.9
    assert config.discriminator_variants["half"].layers == 3
    assert "sft" not in config.arms


def test_a_base_laid_over_itself_is_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(f"base: {tmp_path}/b.yaml")
    (tmp_path / "b.yaml").write_text(f"base: {tmp_path}/a.yaml")
    with pytest.raises(UserError, match="laid over itself"):
        load_config(tmp_path / "a.yaml")


def test_base_file_lies_below_the_configuration(tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({"base": "config/smoke.yaml", "results": "mine", "policy": {"rounds": 7}}))
    config, base = load_config(path), load_config(ROOT / "config" / "smoke.yaml")
    assert (config.results, config.policy.rounds) == ("mine", 7)
    assert config.policy == base.policy.model_copy(update={"rounds": 7})
    assert config.sources == base.sources


@pytest.mark.parametrize("uri", ["file:data/nltk", "tiny:"])
def test_local_sources_need_no_checksum(whole, uri):
    assert parse_config(changed(whole, sources__nltk={"uri": uri}), "").sources.nltk.sha256 is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_resolved_copy_gives_the_same_configuration(path: Path, tmp_path: Path):
    config = load_config(path)
    write_config(config, tmp_path / "deep" / "copy.yaml")
    assert load_config(tmp_path / "deep" / "copy.yaml") == config


def test_resolved_copy_spells_out_every_default(whole, tmp_path: Path):
    write_config(parse_config(whole, ""), tmp_path / "copy.yaml")
    assert yaml.safe_load((tmp_path / "copy.yaml").read_text()) == whole
    assert "max_grad_norm" in whole["policy"]


def test_resolved_copy_is_rewritten_only_when_it_differs(whole, tmp_path: Path):
    path = tmp_path / "copy.yaml"
    write_config(parse_config(whole, ""), path)
    os.utime(path, (1, 1))
    write_config(parse_config(whole, ""), path)
    assert path.stat().st_mtime == 1
    write_config(parse_config(changed(whole, policy__rounds=5), ""), path)
    assert path.stat().st_mtime > 1
    assert load_config(path).policy.rounds == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the configuration is not there"),
        ("policy: [", "the configuration is not YAML"),
        (b"\xff\xfe", "the configuration is not YAML"),
        ("", "the configuration is not a mapping of keys"),
        ("- policy", "the configuration is not a mapping of keys"),
    ],
)
def test_file_that_is_no_configuration_is_refused_by_name(tmp_path: Path, content, message):
    path = tmp_path / "my.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert caught.value.where == str(path)


def test_loaded_configuration_cannot_be_changed(whole):
    with pytest.raises(ValueError, match="frozen"):
        parse_config(whole, "").policy.rounds = 9


def test_every_key_is_described_in_the_readme():
    quoted = re.findall(r"`([^`\n]+)`", (ROOT / "config" / "README.md").read_text())
    described = {part for text in quoted for part in re.split(r"[.\s]", text)}
    keys = {name for model in models(Config, set()) for name in model.model_fields}
    assert {"threads", "sha256", "each_round", "min_std"} <= keys
    assert sorted(keys - described) == []


PROTOCOLS = sorted((ROOT / "config" / "protocols").glob("*.yaml"))


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_every_shipped_protocol_loads_under_its_name(path):
    assert load_protocol(path).name == path.stem


def test_without_a_protocol_it_is_greedy():
    assert Protocol() == load_protocol(ROOT / "config/protocols/greedy.yaml")


def test_a_protocol_by_its_file_stands_whole_in_the_resolved_configuration(monkeypatch):
    monkeypatch.chdir(ROOT)
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    values["evaluation"]["protocol"] = "config/protocols/paper.yaml"
    values["evaluation"]["benchmarks"]["ifbench"] = {"limit": 3}
    evaluation = parse_config(values, "here").evaluation
    assert evaluation.protocol == load_protocol(ROOT / "config/protocols/paper.yaml")
    own = evaluation.protocol_of("ifbench")
    assert (own.limit, own.max_tokens, own.label) == (3, 4096, "paper/1")
    assert evaluation.protocol_of("validation").max_tokens == 48


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"temperatur": 1}, "temperatur: unknown key"),
        ({"samples": 5}, "samples has to be 1 at temperature 0"),
        ({"version": 0}, "version: Input should be greater"),
    ],
)
def test_a_wrong_protocol_is_refused_by_key(tmp_path, changes, what):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", **changes}))
    with pytest.raises(UserError, match="the protocol is wrong") as caught:
        load_protocol(path)
    assert what in caught.value.what
    with pytest.raises(UserError, match="the protocol is not there"):
        load_protocol(tmp_path / "other.yaml")


def test_dvc_watches_every_key_that_moves_a_figure():
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {
        key for stage in stages.values() for given in stage.get("params", []) for keys in given.values() for key in keys
    }
    indifferent = {"results", "policy.checkpoint_every", "policy.diagnostics_every"}

    def unwatched(part: Any, name: str) -> list[str]:
        if name in named or name in indifferent or name.endswith(".threads"):
            return []
        if not isinstance(part, dict):
            return [name]
        return [key for inner, value in part.items() for key in unwatched(value, f"{name}.{inner}".lstrip("."))]

    assert unwatched(values, "") == []
