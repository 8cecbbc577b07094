"""What a result was made from: read off a real checkout."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from rtt.provenance import PACKAGES, commit, short_digest, tags, versions


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in no checkout, whatever lies above it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def checkout(outside: Path) -> Path:
    """A checkout with one commit."""
    git("init", "--quiet")
    (outside / "file.txt").write_text("one\n")
    git("add", "file.txt")
    git("commit", "--quiet", "-m", "One")
    return outside


def test_commit_is_the_head_of_a_clean_checkout(checkout):
    assert commit() == {"git.commit": git("rev-parse", "HEAD"), "git.dirty": "false"}


def test_changed_file_makes_the_checkout_dirty_and_an_unknown_one_does_not(checkout):
    (checkout / "results.txt").write_text("made\n")
    assert commit()["git.dirty"] == "false"
    (checkout / "file.txt").write_text("two\n")
    assert commit()["git.dirty"] == "true"


def test_checkout_without_a_commit_has_none(outside):
    git("init", "--quiet")
    assert commit() == {"git.commit": "unknown", "git.dirty": "false"}


def test_outside_a_checkout_both_are_unknown(outside):
    assert commit() == {"git.commit": "unknown", "git.dirty": "unknown"}


def test_without_git_both_are_unknown(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert commit() == {"git.commit": "unknown", "git.dirty": "unknown"}


def test_digest_has_sixteen_hex_digits_and_follows_the_content(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"abc")
    assert short_digest(path) == hashlib.sha256(b"abc").hexdigest()[:16] == "ba7816bf8f01cfea"  # FIPS 180-2, B.1
    assert short_digest({"a": 1, "b": [2]}) == short_digest({"b": [2], "a": 1})
    assert short_digest({"a": 1}) != short_digest({"a": 2})
    assert len(short_digest({"a": 1})) == 16


def test_tags_say_what_is_not_there(outside):
    found = tags({"results": "r"})
    assert found == {
        "git.commit": "unknown",
        "git.dirty": "unknown",
        "config.hash": short_digest({"results": "r"}),
        "dvc.lock": "none",
        "data.digest": "none",
    }


def test_tags_carry_the_digests_of_data_and_lock(outside):
    (outside / "dvc.lock").write_text("stages: {}\n")
    (outside / "prompts.parquet").write_bytes(b"prompts")
    found = tags({}, outside / "prompts.parquet")
    assert found["dvc.lock"] == hashlib.sha256(b"stages: {}\n").hexdigest()[:16]
    assert found["data.digest"] == hashlib.sha256(b"prompts").hexdigest()[:16]


def test_versions_name_every_package():
    found = versions()
    assert tuple(found) == PACKAGES
    assert found["torch"] == version("torch")


def test_absent_package_is_said_to_be_absent(monkeypatch):
    monkeypatch.setattr("rtt.provenance.PACKAGES", ("no-such-package",))
    assert versions() == {"no-such-package": "not installed"}
