"""How long a token view of 2,000 responses takes to write and to open, and how smoothly its list scrolls.

    .venv/bin/python benchmarks/view.py

Needs chromium.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measure import keep, options, spread
from playwright.sync_api import sync_playwright

from rtt.report.view import FINE, write_view

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
GROUP, RUBRICS = 8, 3
SCROLL = """async () => {
  const pane = document.querySelector("nav"), times = [];
  let last = performance.now();
  for (let step = 0; step < 120; step += 1) {
    pane.scrollTop += 200;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""


def made_up(responses: int, tokens: int) -> list[dict[str, Any]]:
    """Groups of responses of words of five letters, with numbers at every token."""
    draw = np.random.default_rng(0)
    text = " ".join(["abcde"] * tokens)
    ends = [min(len(text), 6 * (token + 1)) for token in range(tokens)]

    def numbers() -> list[int]:
        return draw.integers(-FINE, FINE, tokens).tolist()

    def response() -> dict[str, Any]:
        return {
            "text": text,
            "ends": ends,
            "verdicts": [1.0, -1.0, None],
            "reward": 0.5,
            "response_level": 500,
            "relevance": [np.abs(numbers()).tolist() for _ in range(RUBRICS)],
            "token_level": numbers(),
            "combined": numbers(),
            "labels": [[[0, 5]], None, []],
        }

    return [
        {
            "arm": "rtt_csr",
            "seed": "0",
            "round": "1",
            "step": step,
            "prompt": "Write a short note on something. " * 4,
            "before": [],
            "rubrics": [{"text": f"Rubric {k}.", "kind": f"kind:{k}"} for k in range(RUBRICS)],
            "responses": [response() for _ in range(GROUP)],
        }
        for step in range(responses // GROUP)
    ]


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--responses", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    groups = made_up(asked.responses, asked.tokens)
    opened, frames = [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "view.html"
        started = time.perf_counter()
        write_view(groups, page_file)
        written, size = time.perf_counter() - started, page_file.stat().st_size
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for _ in range(asked.turns):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            started = time.perf_counter()
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-ready]", state="attached")
            opened.append(time.perf_counter() - started)
            frames += page.evaluate(SCROLL)
            page.close()
        browser.close()
    result = {
        "responses": asked.responses,
        "tokens a response": asked.tokens,
        "megabytes": round(size / 1e6, 1),
        "seconds to write": round(written, 2),
        "seconds to open": spread(opened),
        "milliseconds a frame while scrolling": {
            "median": median(frames),
            "95 %": float(np.quantile(frames, 0.95)),
            "most": max(frames),
        },
    }
    keep(result, asked.output)


if __name__ == "__main__":
    main()
