"""Plain folders out of GGUF files and transformers folders, and what is said of damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file, save_file

from rtt.errors import UserError
from rtt.policy.pretrained import load_policy, load_tokenizer, save_plain_model
from rtt.policy.tiny import make_tiny_model
from rtt.sources import tree_sha256

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: Path, path: Path, *, leave_out: str = "") -> None:
    """The tiny model of `folder` as llama.cpp's converter writes it: Q8_0, heads interleaved for its rotation."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = tokenizer["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3 if i < 3 else 1 for i in range(len(vocabulary))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        parts = name.removesuffix(".weight").split(".", 3)
        if parts[1:2] == ["layers"]:
            target = f"blk.{parts[2]}.{NAMES[parts[3]]}"
        else:
            target = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[parts[-1]]
        if target == leave_out:
            continue
        values = tensor.numpy()
        count = heads.get(target.split(".")[-1])
        if count:
            values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if values.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{target}.weight", quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{target}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def gguf_file(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "policy.source"  # any name will do
    write_gguf(tiny_policy, path)
    return path


@pytest.fixture(scope="module")
def plain(gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "policy"
    save_plain_model(gguf_file, folder)
    return folder


@torch.inference_mode()
def _logits(folder: Path) -> torch.Tensor:
    ids = load_tokenizer(folder)("The river carries 12 stones.", return_tensors="pt")
    return load_policy(folder)(**ids).logits


def test_gguf_weights_are_the_originals_up_to_rounding(tiny_policy: Path, plain: Path) -> None:
    before, after = load_file(tiny_policy / "model.safetensors"), load_file(plain / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == torch.float32
        # Q8_0 rounds to 1/127 of the largest value among 32 neighbours.
        assert (after[name] - tensor).abs().max() <= tensor.abs().max() / 127 / 2 + 1e-4, name
    torch.testing.assert_close(_logits(plain), _logits(tiny_policy), atol=0.02, rtol=0)


def test_gguf_tokenizer_is_the_original(tiny_policy: Path, plain: Path) -> None:
    text = "Here are three:\n\n1. naïve 漢字 🙂  22 b"
    before, after = load_tokenizer(tiny_policy), load_tokenizer(plain)
    assert after(text)["input_ids"] == before(text)["input_ids"]
    assert after.decode(after(text)["input_ids"]) == text
    assert after.chat_template == before.chat_template
    assert (after.bos_token, after.eos_token, after.pad_token) == (before.bos_token, before.eos_token, before.pad_token)
    assert (after.padding_side, after.model_max_length) == ("left", 2048)


def test_the_plain_folder_remembers_neither_quantization_nor_place(gguf_file: Path, plain: Path) -> None:
    config = json.loads((plain / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    for path in plain.iterdir():
        assert str(gguf_file.parent).encode() not in path.read_bytes(), path.name


def test_a_gguf_saved_twice_is_equal_byte_for_byte(gguf_file: Path, plain: Path, tmp_path: Path) -> None:
    save_plain_model(gguf_file, tmp_path / "again")
    assert tree_sha256(tmp_path / "again") == tree_sha256(plain)


def test_a_plain_folder_saved_again_is_equal_byte_for_byte(plain: Path, tiny_policy: Path, tmp_path: Path) -> None:
    save_plain_model(tiny_policy, tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():
        assert str(tiny_policy.parent).encode() not in path.read_bytes(), path.name
    weights = "model.safetensors"
    assert (tmp_path / "copy" / weights).read_bytes() == (tiny_policy / weights).read_bytes()
    assert torch.equal(_logits(tmp_path / "copy"), _logits(tiny_policy))


def test_half_precision_becomes_float32(tiny_policy: Path, tmp_path: Path) -> None:
    load_policy(tiny_policy).bfloat16().save_pretrained(tmp_path / "half")
    load_tokenizer(tiny_policy).save_pretrained(tmp_path / "half")
    save_plain_model(tmp_path / "half", tmp_path / "plain")
    assert {tensor.dtype for tensor in load_file(tmp_path / "plain/model.safetensors").values()} == {torch.float32}


def test_a_tokenizer_without_padding_gets_the_end_token(tiny_policy: Path, tmp_path: Path) -> None:
    source = _copy(tiny_policy, tmp_path)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    del settings["pad_token"], settings["model_max_length"]
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    save_plain_model(source, tmp_path / "plain")
    tokenizer = load_tokenizer(tmp_path / "plain")
    assert (tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", 2048)


def test_the_owners_of_the_folder_can_share_the_weights(plain: Path) -> None:
    assert len({path.stat().st_mode for path in plain.iterdir()}) == 1


def test_an_old_folder_is_replaced_as_a_whole(tiny_policy: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "leftover.bin").write_text("old")
    save_plain_model(tiny_policy, tmp_path / "policy")
    assert {path.name for path in (tmp_path / "policy").iterdir()} == {path.name for path in tiny_policy.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_gguf_is_refused_and_the_old_folder_stays(gguf_file: Path, tmp_path: Path, share: float) -> None:
    data = gguf_file.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data[: int(len(data) * share)])
    make_tiny_model(tmp_path / "policy")
    before = tree_sha256(tmp_path / "policy")
    with pytest.raises(UserError, match=r"cannot be read") as caught:
        save_plain_model(damaged, tmp_path / "policy")
    assert caught.value.where == str(damaged)
    assert tree_sha256(tmp_path / "policy") == before


def test_a_gguf_that_lacks_a_tensor_is_refused(tiny_policy: Path, tmp_path: Path) -> None:
    write_gguf(tiny_policy, tmp_path / "part.gguf", leave_out="blk.2.ffn_up")
    with pytest.raises(UserError, match=r"lack 1 tensor.*layers\.2\.mlp\.up_proj"):
        save_plain_model(tmp_path / "part.gguf", tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="file is not a GGUF model"):
        save_plain_model(tmp_path / "model.gguf", tmp_path / "policy")


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        save_plain_model(tmp_path / "model.gguf", tmp_path / "policy")


def test_a_quantized_folder_is_refused(tiny_policy: Path, tmp_path: Path) -> None:
    source = _copy(tiny_policy, tmp_path)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UserError, match="weights are quantized"):
        save_plain_model(source, tmp_path / "policy")


@pytest.mark.parametrize("load", [load_policy, load_tokenizer])
def test_an_absent_folder_is_refused(load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder is not there") as caught:
        load(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")


@pytest.mark.parametrize("load", [load_policy, load_tokenizer])
def test_a_folder_without_configuration_is_refused(load, tiny_policy: Path, tmp_path: Path) -> None:
    source = _copy(tiny_policy, tmp_path)
    (source / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        load(source)


def test_an_unreadable_configuration_is_refused(tiny_policy: Path, tmp_path: Path) -> None:
    source = _copy(tiny_policy, tmp_path)
    (source / "config.json").write_text("{")
    for attempt in (load_policy, lambda folder: save_plain_model(folder, tmp_path / "plain")):
        with pytest.raises(UserError, match="model cannot be read"):
            attempt(source)


@pytest.mark.parametrize("size", [0, 100, 400_000])
def test_truncated_weights_are_refused(tiny_policy: Path, tmp_path: Path, size: int) -> None:
    source = _copy(tiny_policy, tmp_path)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(UserError, match="model cannot be read"):
        load_policy(source)


def test_absent_weights_are_refused(tiny_policy: Path, tmp_path: Path) -> None:
    source = _copy(tiny_policy, tmp_path)
    (source / "model.safetensors").unlink()
    with pytest.raises(UserError, match="model cannot be read"):
        load_policy(source)


def test_incomplete_weights_are_refused(tiny_policy: Path, tmp_path: Path) -> None:
    source = _copy(tiny_policy, tmp_path)
    tensors = load_file(source / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 tensor.*layers\.1\.mlp\.up_proj"):
        load_policy(source)


@pytest.mark.parametrize(("text", "complaint"), [(None, "tokenizer is not there"), ("{", "tokenizer cannot be read")])
def test_an_absent_or_damaged_tokenizer_is_refused(
    tiny_policy: Path, tmp_path: Path, text: str | None, complaint: str
) -> None:
    source = _copy(tiny_policy, tmp_path)
    (source / "tokenizer.json").unlink()
    if text is not None:
        (source / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=complaint):
        load_tokenizer(source)


def _copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "source")
