"""Pages in a real browser, Debian's chromium, driven by playwright; skipped, with the reason, where one is absent."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rtt.rubrics import Rubric, dump_rubrics
from rtt.tables import Prompts, Rollouts, write_table

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
]
REFERENCES = Path(__file__).with_name("references")
HOSTILE = (
    "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<a href=\"javascript:alert(1)\">x</a> \u202eltr\u202c \x00\x1b[31m &lt;b&gt; \U0001f600 'quoted' ${1+1} {{1+1}}"
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Any]]:
    """Opens an address and waits until the page says it is drawn. After the test: nothing may stand in the console, and
    nothing may have been asked of any other place than where the page came from."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, device_scale_factor=1, locale="en-GB")
    said: list[str] = []
    asked: list[str] = []

    def opened(address: str, ready: str = "html[data-ready]", **size: int) -> Any:
        page = context.new_page()
        if size:
            page.set_viewport_size(size)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector(ready, state="attached", timeout=20_000)
        page.home = address
        return page

    yield opened
    homes = [page.home for page in context.pages if hasattr(page, "home")]
    context.close()
    assert said == []
    strangers = [url for url in asked if not url.startswith("data:") and not any(url.startswith(h) for h in homes)]
    assert strangers == []


@pytest.fixture
def accessible() -> Callable[[Any], None]:
    """Fails where axe-core finds something to fault on a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()

    def check(page: Any) -> None:
        found = axe.run(page).response["violations"]
        assert [(fault["id"], [node["html"][:160] for node in fault["nodes"][:3]]) for fault in found] == []

    return check


@pytest.fixture
def looks_as_before() -> Callable[[Any, str], None]:
    """Compares a screenshot with the one kept: coarsely, as letters are not drawn alike on every machine.

    ``RTT_KEEP_SCREENSHOTS=1`` keeps the new one instead.
    """
    from PIL import Image

    def coarse(picture: Any) -> np.ndarray:
        return np.asarray(picture.convert("RGB").resize((60, 40), Image.Resampling.BOX), dtype=float)

    def check(page: Any, name: str) -> None:
        now = Image.open(io.BytesIO(page.screenshot()))
        kept = REFERENCES / f"{name}.png"
        if os.environ.get("RTT_KEEP_SCREENSHOTS"):
            kept.parent.mkdir(exist_ok=True)
            now.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(kept, optimize=True)
            return
        before = Image.open(kept)
        assert now.size == before.size
        difference = np.abs(coarse(now) - coarse(before))
        assert difference.mean() < 4, "the page as a whole looks different; look at it, then keep the new screenshot"
        assert (difference.max(axis=2) > 60).mean() < 0.02, "a part of the page looks different"

    return check


def _row(step: int, place: int, prompt_id: str, response: str, verdicts: dict, about: dict | None) -> dict[str, Any]:
    """One response of words as tokens; the first word of each is what every rubric is about."""
    spans, start = [], 0
    for word in response.split(" "):
        end = min(len(response), start + len(word) + 1)
        spans.append([start, end])
        start = end
    level = 0.5 if place % 2 else -0.5
    token = [0.75 if t == 0 else -0.25 for t in range(len(spans))]
    return {
        "step": step,
        "row": place,
        "prompt_id": prompt_id,
        "response": response,
        "verdicts": json.dumps(verdicts),
        "reward": 0.5,
        "response_advantage": level,
        "token_spans": json.dumps(spans),
        "relevance": json.dumps(about if about is not None else {}),
        "token_advantages": json.dumps(token),
        "advantages": json.dumps([level + value for value in token]),
    }


@pytest.fixture
def results(tmp_path) -> Path:
    """A results folder with prompts and two rounds of rollouts, four responses a prompt, some of them hostile."""
    rubrics = {
        "p0": [
            Rubric(rubric_id="p0/0", kind="punctuation:no_comma", text="Use no commas."),
            Rubric(
                rubric_id="p0/1",
                kind="keywords:existence",
                text='Say "sorry".',
                kwargs={"keywords": ["sorry"]},
            ),
        ],
        "p1": [Rubric(rubric_id="p1/0", kind="judge", text="Stay friendly <b>always</b>.")],
    }
    prompts = pd.DataFrame(
        [
            {"prompt_id": "p0", "split": "train", "topic": "a", "prompt": "Write a short note.", "rubrics": ""},
            {"prompt_id": "p1", "split": "train", "topic": "b", "prompt": HOSTILE, "rubrics": ""},
        ]
    )
    prompts["rubrics"] = [dump_rubrics(rubrics[name]) for name in prompts["prompt_id"]]
    write_table(prompts, Prompts, tmp_path / "results" / "data" / "prompts.parquet")
    for number in (1, 2):
        rows = []
        for place in range(4):
            said = f"I am sorry, really number {place}\nand done"
            count = len(said.split(" "))
            about = {"p0/0": [0.9] + [0.1] * (count - 1), "p0/1": [0.0] * (count - 1) + [1.0]}
            kept = {"p0/0": -1.0, "p0/1": 1.0 if place else -1.0}
            rows.append(_row(2 * number, place, "p0", said, kept, about))
        for place in range(4, 8):
            count = len(HOSTILE.split(" "))
            verdict = {4: 1.0, 5: -1.0}.get(place)
            rows.append(_row(2 * number, place, "p1", HOSTILE, {"p1/0": verdict}, {"p1/0": [0.5] * count}))
        write_table(
            pd.DataFrame(rows),
            Rollouts,
            tmp_path / "results" / "policies" / "rtt_csr" / "seed_0" / f"round_{number}" / "rollouts.parquet",
        )
    return tmp_path / "results"
