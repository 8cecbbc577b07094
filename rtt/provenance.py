"""What a result was made from: commit, versions and digests."""

from __future__ import annotations

import hashlib
import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "if-verifiable", "mlflow", "snakemake")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def commit() -> dict[str, str]:
    """Commit and whether the working tree differs from it; ``unknown`` outside a git checkout."""
    head = _git("rev-parse", "HEAD")
    dirty = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git.commit": head or "unknown",
        "git.dirty": "unknown" if dirty is None else str(bool(dirty)).lower(),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def short_digest(value: Any) -> str:
    """16 hex digits over a JSON-able value, or over a file's bytes when given a path."""
    data = value.read_bytes() if isinstance(value, Path) else json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def tags(config: dict[str, Any], data: Path | None = None) -> dict[str, str]:
    """The tags every MLflow run carries."""
    lock = Path("dvc.lock")
    return {
        **commit(),
        "config.hash": short_digest(config),
        "dvc.lock": short_digest(lock) if lock.exists() else "none",
        "data.digest": short_digest(data) if data else "none",
    }
