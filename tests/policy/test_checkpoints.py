"""Checkpoints: what is whole is used, what is cut short or changed is refused by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from rtt.errors import UserError
from rtt.policy.checkpoints import MANIFEST, digest, file_sha256, last_sealed, seal, verify


def make(folder: Path, weights: bytes = b"weights") -> Path:
    (folder / "rng").mkdir(parents=True)
    (folder / "adapter.safetensors").write_bytes(weights)
    (folder / "rng" / "state.pth").write_bytes(b"random")
    return folder


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = make(tmp_path / "checkpoint")
    seal(folder)
    return folder


def test_sealed_checkpoint_is_whole_and_lists_every_file(sealed):
    verify(sealed)
    assert json.loads((sealed / MANIFEST).read_text()) == {
        "adapter.safetensors": hashlib.sha256(b"weights").hexdigest(),
        "rng/state.pth": hashlib.sha256(b"random").hexdigest(),
    }
    assert not list(sealed.glob("*.partial"))


def test_sealing_again_does_not_list_the_manifest(sealed):
    before = (sealed / MANIFEST).read_bytes()
    seal(sealed)
    assert (sealed / MANIFEST).read_bytes() == before


def test_equal_checkpoints_have_one_digest_and_others_another(sealed, tmp_path):
    equal, other = make(tmp_path / "equal"), make(tmp_path / "other", b"weightz")
    for folder in (equal, other):
        seal(folder)
    assert digest(equal) == digest(sealed) != digest(other)
    assert digest(sealed / "adapter.safetensors") == hashlib.sha256(b"weights").hexdigest()


def test_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="the checkpoint is not there") as caught:
        verify(tmp_path / "absent")
    assert caught.value.where == str(tmp_path / "absent")


@pytest.mark.parametrize("manifest", [None, "", '{"adapter.safetensors": "ba78', "\0\0\0\0", "null", "[1]", "3"])
def test_checkpoint_without_a_readable_manifest_was_cut_short(sealed, manifest):
    (sealed / MANIFEST).unlink()
    if manifest is not None:
        (sealed / MANIFEST).write_text(manifest)
    with pytest.raises(UserError, match=r"no readable manifest\.json: it was cut short"):
        verify(sealed)


def test_lost_file_is_named(sealed):
    (sealed / "rng" / "state.pth").unlink()
    with pytest.raises(UserError, match=r"the checkpoint lacks rng/state\.pth") as caught:
        verify(sealed)
    assert caught.value.where == str(sealed)


def test_changed_file_is_named_with_both_sums(sealed):
    path = sealed / "adapter.safetensors"
    expected = file_sha256(path)
    path.write_bytes(b"weightz")
    with pytest.raises(UserError, match=r"damaged: adapter\.safetensors") as caught:
        verify(sealed)
    assert f"has sha256 {file_sha256(path)}, expected {expected}" in caught.value.what


def test_newest_whole_checkpoint_is_found_by_its_number(tmp_path):
    for step in (2, 10, 9):
        seal(make(tmp_path / f"checkpoint-{step}"))
    assert last_sealed(tmp_path) == tmp_path / "checkpoint-10"


def test_checkpoints_cut_short_or_damaged_are_passed_over_and_deleted(tmp_path):
    for step in (1, 2, 3):
        seal(make(tmp_path / f"checkpoint-{step}"))
    make(tmp_path / "checkpoint-4")
    (tmp_path / "checkpoint-3" / "adapter.safetensors").write_bytes(b"x")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert last_sealed(tmp_path) == tmp_path / "checkpoint-2"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-2", "metrics.jsonl"}


def test_no_whole_checkpoint_is_none(tmp_path):
    assert last_sealed(tmp_path) is None
    make(tmp_path / "checkpoint-1")
    assert last_sealed(tmp_path) is None
