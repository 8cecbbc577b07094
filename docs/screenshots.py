"""Takes the screenshots of docs/mlflow.md and docs/view.md from a finished study.

    .venv/bin/python docs/screenshots.py --results results

Needs chromium and the packages of `make install`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from rtt.tracking import SHARED_VIEW

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SLOW = 60_000
"""Milliseconds MLflow's page may take to draw."""


@contextmanager
def mlflow_ui(results: Path) -> Iterator[str]:
    """MLflow's UI on a free port of loopback, as `make ui` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{results}/mlflow/mlflow.db"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--host", "127.0.0.1"]
    served = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        yield address
    finally:
        served.terminate()
        served.wait()


def mlflow_pictures(page: Page, address: str, results: Path, output: Path) -> None:
    experiment = json.loads((results / "mlflow" / "experiment.json").read_text())["id"]
    runs = f"{address}/#/experiments/{experiment}/runs?viewStateShareKey={SHARED_VIEW}"
    for name, mode in (("mlflow_arms", "TABLE"), ("mlflow_curves", "CHART")):
        page.goto("about:blank")
        page.goto(f"{runs}&compareRunsMode={mode}")
        page.get_by_text("rtt_csr seed 0").first.wait_for(timeout=SLOW)
        _close_assistant(page)
        if mode == "CHART":
            page.get_by_placeholder("Search metric charts").fill("validation/instruction_strict|train/reward$")
        page.wait_for_timeout(4000)
        page.screenshot(path=output / f"{name}.png")
    page.get_by_text("rtt_csr seed 0").first.click()
    page.wait_for_timeout(6000)
    page.screenshot(path=output / "mlflow_run.png")


def _close_assistant(page: Page) -> None:
    button = page.get_by_role("button", name="Close").first
    if button.count():
        button.click()


def view_pictures(page: Page, results: Path, output: Path) -> None:
    rounds = sorted((results / "policies" / "rtt_csr" / "seed_0").glob("round_*/view.html"))
    page.goto(rounds[-1].resolve().as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    page.keyboard.press("1")
    page.screenshot(path=output / "view.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, mlflow_ui(asked.results) as address:
        browser: Any = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 800})
        mlflow_pictures(page, address, asked.results, asked.output)
        view_pictures(page, asked.results, asked.output)
        browser.close()
    for path in sorted(asked.output.glob("*.png")):
        print(path)


if __name__ == "__main__":
    main()
