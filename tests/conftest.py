"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.scripted"]

# The same examples each time, so that a run says something about the change it runs on; HYPOTHESIS_PROFILE=search
# looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Benchmarks and NLTK data that lie beside the repository, in a folder `shared`."""
    if not SHARED_DATA.is_dir():
        pytest.skip("there is no folder shared/data beside the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def nltk_data(shared_data: Path) -> Path:
    """An NLTK data folder with punkt_tab, stopwords and the English tagger."""
    folder = shared_data / "nltk_data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data has no nltk_data")
    return folder


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Llama with random weights; read only, copy it before changing anything."""
    from rtt.policy.tiny import make_tiny_model

    folder = tmp_path_factory.mktemp("policy") / "tiny"
    make_tiny_model(folder)
    return folder
