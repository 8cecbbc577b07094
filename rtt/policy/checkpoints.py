"""Checkpoints with a manifest of checksums, written last: a checkpoint without one was cut short."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from rtt.errors import UserError

MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Writes the manifest of every file in `folder`; done last, and by renaming, so that it is whole or absent."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    sums = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    partial = folder / (MANIFEST + ".partial")
    partial.write_text(json.dumps(sums, indent=1) + "\n")
    partial.replace(folder / MANIFEST)


def verify(folder: Path) -> None:
    """Raises UserError for a checkpoint that is missing, cut short or changed, naming the file."""
    again = "delete the round's folder and run the same command again; it is made anew from the round before"
    if not folder.is_dir():
        raise UserError("the checkpoint is not there", where=folder, todo="run the round before first")
    try:
        sums = dict(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"the checkpoint has no readable {MANIFEST}: it was cut short", where=folder, todo=again
        ) from None
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"the checkpoint lacks {name}", where=folder, todo=again)
        found = file_sha256(path)
        if found != expected:
            raise UserError(
                f"the checkpoint is damaged: {name} has sha256 {found}, expected {expected}", where=folder, todo=again
            )


def last_sealed(work: Path) -> Path | None:
    """The newest whole `checkpoint-<step>` in `work`; the ones cut short are deleted."""
    whole = []
    for folder in work.glob("checkpoint-*"):
        try:
            verify(folder)
            whole.append((int(folder.name.split("-")[1]), folder))
        except UserError:
            shutil.rmtree(folder)
    return max(whole)[1] if whole else None


def digest(folder: Path) -> str:
    """One sum over a sealed folder, or over a single file."""
    if folder.is_file():
        return file_sha256(folder)
    return file_sha256(folder / MANIFEST)
