"""Fetching: what is asked for arrives whole and checked, or nothing changes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils
import pytest

from rtt import sources
from rtt.errors import UserError
from rtt.sources import fetch, file_sha256, install, tree_sha256

NOBODY = "http://127.0.0.1:9"  # the discard port, on which nobody listens
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for destinations, apart from the sources, so that leftovers show."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


# file:


def test_a_local_file_is_copied(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"prompts.jsonl": "{}\n"})
    monkeypatch.chdir(tmp_path)
    assert fetch("file:prompts.jsonl", file="", sha256=None, destination=place / "deep/er/x.jsonl") == (
        place / "deep/er/x.jsonl"
    )
    assert contents(place) == {"deep/er/x.jsonl": "{}\n"}


def test_a_local_folder_is_copied_whole_or_in_part(tmp_path: Path, place: Path) -> None:
    folder = fill(tmp_path / "data", {"a.txt": "1", "sub/b.txt": "2", "sub/c/d.txt": "3"})
    uri = f"file:{folder}"
    fetch(uri, file="", sha256=None, destination=place / "whole")
    assert contents(place / "whole") == contents(folder)
    fetch(uri, file="sub/", sha256=None, destination=place / "sub")
    assert contents(place / "sub") == {"b.txt": "2", "c/d.txt": "3"}
    fetch(uri, file="sub/b.txt", sha256=None, destination=place / "one")
    assert (place / "one").read_text() == "2"


def test_keep_takes_only_what_starts_with_one_of_its_prefixes(tmp_path: Path, place: Path) -> None:
    folder = fill(tmp_path / "data", {"n/stop/english": "1", "n/stop/german": "2", "n/tab/x": "3", "english": "4"})
    fetch(f"file:{folder}", file="n/", sha256=None, destination=place / "kept", keep=("stop/english", "tab/"))
    assert contents(place / "kept") == {"stop/english": "1", "tab/x": "3"}


def test_a_keep_that_matches_nothing_is_refused(tmp_path: Path, place: Path) -> None:
    folder = fill(tmp_path / "data", {"stop/english": "1"})
    with pytest.raises(UserError, match="starts with stop/engilsh"):
        fetch(f"file:{folder}", file="", sha256=None, destination=place / "kept", keep=("stop/", "stop/engilsh"))
    with pytest.raises(UserError, match="keep takes no part"):
        fetch(f"file:{folder}", file="stop/english", sha256=None, destination=place / "kept", keep=("stop/",))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("file", ["absent.txt", "sub", "absent/"])
def test_an_absent_member_is_refused(tmp_path: Path, place: Path, file: str) -> None:
    folder = fill(tmp_path / "data", {"sub/b.txt": "2"})
    with pytest.raises(UserError, match=f"has no file .*{file}"):
        fetch(f"file:{folder}", file=file, sha256=None, destination=place / "x")
    assert list(place.iterdir()) == []


def test_a_member_of_a_file_is_refused(tmp_path: Path, place: Path) -> None:
    fill(tmp_path, {"a.txt": "1"})
    with pytest.raises(UserError, match=r"is a file, so it holds no b\.txt"):
        fetch(f"file:{tmp_path}/a.txt", file="b.txt", sha256=None, destination=place / "x")


def test_an_absent_path_is_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(UserError, match="is not there") as caught:
        fetch(f"file:{tmp_path}/absent", file="", sha256=None, destination=place / "x")
    assert caught.value.where == f"{tmp_path}/absent"


def test_a_folder_that_holds_the_destination_is_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(UserError, match="holds the place"):
        fetch(f"file:{tmp_path}", file="", sha256=None, destination=place / "x")


@pytest.mark.parametrize("file", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret"])
def test_a_member_may_not_lead_out_of_the_source(tmp_path: Path, place: Path, file: str) -> None:
    fill(tmp_path, {"secret": "!", "data/a": "1"})
    with pytest.raises(UserError, match="leads out of"):
        fetch(f"file:{tmp_path}/data", file=file, sha256=None, destination=place / "x")
    assert list(place.iterdir()) == []


# Checksums


def test_a_right_checksum_passes_in_either_case(tmp_path: Path, place: Path) -> None:
    fill(tmp_path, {"a.txt": "abc"})
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    for sha256 in (known, known.upper()):
        fetch(f"file:{tmp_path}/a.txt", file="", sha256=sha256, destination=place / "a.txt")
    assert (place / "a.txt").read_text() == "abc"


def test_a_folders_checksum_is_the_documented_one(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", {"b": "2", "C": "3", "a/z": "1", "a.txt": "é", "Ü": "4", "with space": "5"})
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert tree_sha256(folder) == printed.split()[0]


def test_a_folders_checksum_sees_contents_and_names(tmp_path: Path) -> None:
    sums = [
        tree_sha256(fill(tmp_path / str(i), files))
        for i, files in enumerate([{"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "1"}])
    ]
    assert len(set(sums)) == 4


def test_a_folders_checksum_is_of_what_is_kept(tmp_path: Path, place: Path) -> None:
    folder = fill(tmp_path / "data", {"a/1": "x", "b/1": "y"})
    part = tree_sha256(fill(tmp_path / "part", {"a/1": "x"}))
    fetch(f"file:{folder}", file="", sha256=part, destination=place / "x", keep=("a/",))
    assert tree_sha256(place / "x") == part


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_wrong_checksum_names_both_sums_and_changes_nothing(tmp_path: Path, place: Path, kind: str) -> None:
    source = tmp_path / "new"
    if kind == "file":
        source.write_text("new")
        (place / "x").write_text("old")
    else:
        fill(source, {"a": "new"})
        fill(place / "x", {"b": "old"})
    found, old, wrong = tree_sha256(source), tree_sha256(place / "x"), "0" * 64
    with pytest.raises(UserError) as caught:
        fetch(f"file:{source}", file="", sha256=wrong, destination=place / "x")
    assert f"expected sha256 {wrong}, found {found}" in str(caught.value)
    assert caught.value.where == f"file:{source}"
    assert tree_sha256(place / "x") == old
    assert tree_sha256(source) == found
    assert [path.name for path in place.iterdir()] == ["x"]


# Putting in place


@pytest.mark.parametrize("old", ["absent", "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_the_destination_is_replaced_whatever_it_was(tmp_path: Path, place: Path, old: str, new: str) -> None:
    if old == "file":
        (place / "x").write_text("old")
    elif old == "folder":
        fill(place / "x", {"leftover": "old"})
    fill(tmp_path / "data", {"a": "new"})
    fetch(f"file:{tmp_path}/data", file="a" if new == "file" else "", sha256=None, destination=place / "x")
    found = (place / "x").read_text() if new == "file" else contents(place / "x")
    assert found == ("new" if new == "file" else {"a": "new"})
    assert [path.name for path in place.iterdir()] == ["x"]


def test_the_old_folder_comes_back_when_the_renaming_fails(place: Path) -> None:
    fill(place / "x", {"a": "old"})
    with pytest.raises(FileNotFoundError):
        install(place / "never made", place / "x")
    assert contents(place) == {"x/a": "old"}


def test_a_copy_is_writable_even_where_the_source_is_not(tmp_path: Path, place: Path) -> None:
    folder = fill(tmp_path / "data", {"a": "1"})
    (folder / "a").chmod(0o400)
    fetch(f"file:{folder}", file="", sha256=None, destination=place / "x")
    assert (place / "x" / "a").stat().st_mode & 0o200


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "no space is left"),
        (errno.EACCES, "cannot be put in place.*denied"),
    ],
)
def test_a_failing_disk_is_reported_and_changes_nothing(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, code: int, complaint: str
) -> None:
    fill(tmp_path, {"a.txt": "new"})
    (place / "x").write_text("old")

    def fail(source, target) -> None:
        target.write(b"ne")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(UserError, match=complaint):
        fetch(f"file:{tmp_path}/a.txt", file="", sha256=None, destination=place / "x")
    assert contents(place) == {"x": "old"}


# Malformed sources


@pytest.mark.parametrize(
    "uri", ["six==1.16.0", "http://example.org/x", "pypi:", "hf: ", "file:", "", "PYPI:six==1.16.0"]
)
def test_an_unknown_form_lists_the_known_ones(place: Path, uri: str) -> None:
    with pytest.raises(UserError) as caught:
        fetch(uri, file="a", sha256="0" * 64, destination=place / "x")
    for form in ("pypi:name==version", "hf:owner/repository@revision", "file:path"):
        assert form in caught.value.todo


@pytest.mark.parametrize(
    "uri",
    [
        *("pypi:six", "pypi:six>=1.16.0", "pypi:six==", "pypi:six==1.*", "pypi:--index-url==1", "pypi:six==1 --pre"),
        *("hf:owner/repo", "hf:owner/repo@", "hf:repo@main", "hf:a/b/c@main", "hf:owner/repo@a b"),
    ],
)
def test_an_unpinned_source_is_refused(place: Path, uri: str) -> None:
    with pytest.raises(UserError, match="is not pinned to one"):
        fetch(uri, file="a", sha256="0" * 64, destination=place / "x")


@pytest.mark.parametrize("uri", ["pypi:six==1.16.0", "hf:owner/repo@main"])
def test_a_fetched_source_needs_a_checksum(place: Path, uri: str) -> None:
    with pytest.raises(UserError, match="has no sha256"):
        fetch(uri, file="a", sha256=None, destination=place / "x")


# pypi:


def write_wheel(folder: Path, members: Mapping[str, str], requires: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "toy_data-1.0-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n{requires}"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    own = {"METADATA": metadata, "WHEEL": tags, "RECORD": ""}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in [*members.items(), *((f"toy_data-1.0.dist-info/{name}", text) for name, text in own.items())]:
            archive.writestr(name, text)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip can see; its own configuration says so."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_a_file_and_a_folder_come_out_of_a_wheel(index: Path, place: Path) -> None:
    wheel = write_wheel(
        index,
        {"toy/a.txt": "1", "toy/n/stop/english": "2", "toy/n/stop/german": "3"},
        "Requires-Dist: absent-package\n",
    )
    options = {"sha256": file_sha256(wheel), "cache": place.parent / "cache"}
    fetch("pypi:toy-data==1.0", file="toy/a.txt", destination=place / "a", **options)
    assert (place / "a").read_text() == "1"
    fetch("pypi:toy-data==1.0", file="toy/n/", destination=place / "n", keep=("stop/english",), **options)
    assert contents(place / "n") == {"stop/english": "2"}
    assert sorted(path.name for path in place.iterdir()) == ["a", "n"]


def test_a_wheel_with_a_wrong_sum_or_no_such_member_changes_nothing(index: Path, place: Path) -> None:
    wheel = write_wheel(index, {"toy/a.txt": "1"})
    (place / "x").write_text("old")
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, found {file_sha256(wheel)}"):
        fetch("pypi:toy-data==1.0", file="toy/a.txt", sha256="0" * 64, destination=place / "x")
    with pytest.raises(UserError, match=r"has no file toy/b\.txt"):
        fetch("pypi:toy-data==1.0", file="toy/b.txt", sha256=file_sha256(wheel), destination=place / "x")
    assert contents(place) == {"x": "old"}
    assert wheel.exists()


@pytest.mark.parametrize("name", ["toy/../../evil", "toy//etc/evil"])
def test_a_wheels_folder_may_not_reach_outside(tmp_path: Path, place: Path, name: str, monkeypatch) -> None:
    wheel = write_wheel(tmp_path / "index", {"toy/a.txt": "1", name: "!"})
    monkeypatch.setattr(sources, "_download_wheel", lambda *arguments: wheel)
    with pytest.raises(UserError, match="leads out of"):
        fetch("pypi:toy-data==1.0", file="toy/", sha256=file_sha256(wheel), destination=place / "x")
    assert contents(tmp_path / "place") == {}
    assert not (tmp_path / "evil").exists()


def test_a_package_the_index_lacks_is_reported_with_pips_own_words(index: Path, place: Path) -> None:
    index.mkdir()
    with pytest.raises(UserError, match=r"No matching distribution found for toy-data==1\.0") as caught:
        fetch("pypi:toy-data==1.0", file="a", sha256="0" * 64, destination=place / "x")
    assert "PIP_FIND_LINKS" in caught.value.todo
    assert list(place.iterdir()) == []


def test_an_unreachable_index_is_told_apart_from_an_absent_package(
    index: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOBODY}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match=r"connection broken by .*refused"):
        fetch("pypi:toy-data==1.0", file="a", sha256="0" * 64, destination=place / "x")


def test_a_full_disk_under_pip_is_told_apart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    full = subprocess.CompletedProcess([], 1, "", text)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: full)
    with pytest.raises(UserError, match="no space is left"):
        fetch("pypi:toy-data==1.0", file="a", sha256="0" * 64, destination=place / "x")


def test_a_wheel_of_the_real_index(place: Path) -> None:
    sha256 = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    try:
        fetch("pypi:six==1.16.0", file="six.py", sha256=sha256, destination=place / "six.py")
    except UserError as error:
        if "cannot be downloaded" in error.what:
            pytest.skip(f"the package index is out of reach: {error.what}")
        raise
    assert '__version__ = "1.16.0"' in (place / "six.py").read_text()


# hf:


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds one revision of owner/toy, as the hub's client lays it out, and no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    repository = tmp_path / "hub" / "models--owner--toy"
    fill(repository / "refs", {"v1": COMMIT})
    files = {"config.json": "{}", "data/a.txt": "1", "data/b[1].txt": "2"}
    for name, text in files.items():
        blob = repository / "blobs" / hashlib.sha1(text.encode()).hexdigest()
        fill(blob.parent, {blob.name: text})
        link = repository / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_repository_comes_whole_out_of_the_cache(hub: Path, tmp_path: Path, place: Path, revision: str) -> None:
    expected = {"config.json": "{}", "data/a.txt": "1", "data/b[1].txt": "2"}
    sha256 = tree_sha256(fill(tmp_path / "expected", expected))
    fetch(f"hf:owner/toy@{revision}", file="", sha256=sha256, destination=place / "toy", cache=hub)
    assert contents(place / "toy") == expected
    assert not any(path.is_symlink() for path in (place / "toy").rglob("*"))


def test_one_file_and_one_folder_come_out_of_a_repository(hub: Path, tmp_path: Path, place: Path) -> None:
    one = hashlib.sha256(b"2").hexdigest()
    fetch("hf:owner/toy@v1", file="data/b[1].txt", sha256=one, destination=place / "b", cache=hub)
    assert (place / "b").read_text() == "2"
    some = tree_sha256(fill(tmp_path / "expected", {"a.txt": "1"}))
    fetch("hf:owner/toy@v1", file="data/", sha256=some, destination=place / "data", keep=("a",), cache=hub)
    assert contents(place / "data") == {"a.txt": "1"}


@pytest.mark.parametrize(
    ("file", "keep", "wanted"),
    [
        ("", (), {"a.txt", "sub/a.txt", "sub/b[1].txt", "sub/b1.txt", "sub/c/d"}),
        ("sub/b[1].txt", (), {"sub/b[1].txt"}),
        ("sub/", (), {"sub/a.txt", "sub/b[1].txt", "sub/b1.txt", "sub/c/d"}),
        ("sub/", ("b[", "c/"), {"sub/b[1].txt", "sub/c/d"}),
    ],
)
def test_no_more_than_what_is_wanted_is_downloaded(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, file: str, keep: tuple[str, ...], wanted: set[str]
) -> None:
    names = ["a.txt", "sub/a.txt", "sub/b[1].txt", "sub/b1.txt", "sub/c/d"]

    def download(repository: str, *, allow_patterns: list[str], **options) -> str:
        asked.update(huggingface_hub.utils.filter_repo_objects(names, allow_patterns=allow_patterns))
        return str(fill(tmp_path / "snapshot", dict.fromkeys(names, "")))

    asked: set[str] = set()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match="checksum"):
        fetch("hf:owner/toy@v1", file=file, sha256="0" * 64, destination=place / "x", keep=keep)
    assert asked == wanted


def test_a_repository_with_a_wrong_sum_changes_nothing(hub: Path, place: Path) -> None:
    (place / "x").write_text("old")
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, found {hashlib.sha256(b'1').hexdigest()}"):
        fetch("hf:owner/toy@v1", file="data/a.txt", sha256="0" * 64, destination=place / "x", cache=hub)
    assert contents(place) == {"x": "old"}
    assert (hub / "models--owner--toy/snapshots" / COMMIT / "data/a.txt").exists()


@pytest.mark.parametrize("uri", ["hf:owner/toy@v2", "hf:owner/other@v1"])
def test_a_repository_out_of_reach_is_reported(hub: Path, place: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"cannot be fetched: \w") as caught:
        fetch(uri, file="", sha256="0" * 64, destination=place / "x", cache=hub)
    assert "refused" not in caught.value.what  # offline, nobody is asked
    assert "HF_HUB_OFFLINE" in caught.value.todo
    assert list(place.iterdir()) == []


def test_an_unreachable_hub_is_reported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    with pytest.raises(UserError, match=r"owner/toy at v1 cannot be fetched: .*refused"):
        fetch("hf:owner/toy@v1", file="", sha256="0" * 64, destination=place / "x", cache=place.parent / "empty")
    assert list(place.iterdir()) == []


def test_the_hubs_own_environment_is_honoured(hub: Path, place: Path) -> None:
    code = (
        "import sys, pathlib; from rtt.sources import fetch;"
        f"fetch('hf:owner/toy@v1', file='data/a.txt', sha256='{hashlib.sha256(b'1').hexdigest()}',"
        " destination=pathlib.Path(sys.argv[1]))"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code, str(place / "a")], env=environment, check=True)
    assert (place / "a").read_text() == "1"
