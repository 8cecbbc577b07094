"""`rtt run`: one run at a time on the same results, and where they are at the end."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rtt import layout
from rtt.config import FULL, load_config
from rtt.errors import UserError
from rtt.workflow import run_workflow, settle_future, settle_pulled, summary

SMOKE = Path(__file__).parents[1] / "config" / "smoke.yaml"
TABLE = "arm   instruction accuracy\nbase  31.2\n"
WORKS = f"""
rule all:
    output: "made/tables/main.txt"
    run:
        with open(output[0], "w") as file:
            file.write({TABLE!r})
"""
FAILS = """
rule all:
    output: "made/tables/main.txt"
    shell: "exit 3"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose results lie in the working directory, a temporary one."""
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load(SMOKE.read_text())
    values["results"] = "made"
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_finished_run_prints_the_table_and_where_everything_is(config, tmp_path, capfd):
    (tmp_path / "Snakefile").write_text(WORKS)
    assert run_workflow(config, "1", []) == 0
    printed = capfd.readouterr().out
    assert TABLE.rstrip() in printed
    for place in ("made/tables/main.csv", "made/figures/learning_curves.svg", "made/report/index.html"):
        assert place in printed


def test_failed_run_has_a_status_and_says_where_to_look(config, tmp_path, capfd):
    (tmp_path / "Snakefile").write_text(FAILS)
    assert run_workflow(config, "1", []) != 0
    printed = capfd.readouterr()
    assert "error: the workflow stopped; what was finished is kept" in printed.err
    assert "where: made/logs" in printed.err
    assert "main.csv" not in printed.out


def test_further_arguments_reach_snakemake(config, tmp_path, capfd):
    (tmp_path / "Snakefile").write_text(WORKS)
    assert run_workflow(config, "1", ["--dry-run"]) == 0
    assert not (tmp_path / "made" / "tables").exists()
    assert "main.csv" not in capfd.readouterr().out


def test_second_run_on_the_same_results_is_refused(config, tmp_path):
    (tmp_path / "Snakefile").write_text(WORKS)
    (tmp_path / "made").mkdir()
    with (tmp_path / "made" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing to these results") as caught:
            run_workflow(config, "1", [])
    assert caught.value.where == "made"
    assert not (tmp_path / "made" / "tables").exists()


def test_killed_run_leaves_no_lock_behind(config, tmp_path):
    (tmp_path / "Snakefile").write_text(WORKS)
    (tmp_path / "made").mkdir()
    hold = "import fcntl, time; held = open('made/.lock', 'w'); fcntl.flock(held, fcntl.LOCK_EX); print(1, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(60)"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(UserError, match="another run"):
            run_workflow(config, "1", ["--dry-run"])
        holder.kill()
    assert run_workflow(config, "1", ["--dry-run"]) == 0


def test_snakemake_that_outlives_a_killed_run_keeps_others_away(config, tmp_path):
    (tmp_path / "Snakefile").write_text('rule all:\n    shell: "touch started; sleep 60"\n')
    command = [sys.executable, "-m", "rtt.cli", "run", "--config", str(config), "--cores", "1"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    try:
        with pytest.raises(UserError, match="another run"):
            run_workflow(config, "1", ["--dry-run"])
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_summary_gives_the_discriminators_figures_and_none_for_a_missing_one(config, tmp_path):
    (tmp_path / "made" / "tables").mkdir(parents=True)
    (tmp_path / "made" / "tables" / "main.txt").write_text(TABLE)
    assert "discriminator" not in summary(load_config(config), 60)
    figures = Path(layout.discriminator_metrics("made", FULL))
    figures.parent.mkdir(parents=True)
    quality = {"sets": {"unseen_topics": {"auprc": 0.7512}, "unseen_kinds": {"auprc": None}}}
    figures.write_text(json.dumps(quality))
    assert "trained in" not in summary(load_config(config), 90)
    figures.with_name("costs.json").write_text(json.dumps({"train_seconds": 42.4}))
    text = summary(load_config(config), 90)
    assert "discriminator, AUPRC: unseen_topics 0.751, unseen_kinds none; trained in 42 s" in text
    assert text.endswith("done in 1.5 minutes")


def pulled(folder: Path) -> tuple[Path, Path]:
    """Two products that came in the wrong order, and what DVC knows them by."""
    made, made_from = folder / "made" / "tables" / "main.csv", folder / "made" / "data" / "prompts.parquet"
    for age, path in ((200, made), (100, made_from)):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
        os.utime(path, (time.time() - age, time.time() - age))
    (folder / "dvc.lock").write_text("stages:\n  data:\n    outs:\n    - path: made/data\n")
    return made, made_from


def test_pulled_products_are_of_one_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, made_from = pulled(tmp_path)
    assert settle_pulled(Path("made"), tmp_path) is True
    times = {path.stat().st_mtime for path in (made, made_from, made.parent)}
    assert len(times) == 1
    assert times.pop() > time.time() - 60


@pytest.mark.parametrize("there", ["no lock", "other results", "Snakemake has run"])
def test_products_that_did_not_come_by_dvc_keep_their_times(tmp_path, monkeypatch, there):
    monkeypatch.chdir(tmp_path)
    made, made_from = pulled(tmp_path)
    if there == "no lock":
        (tmp_path / "dvc.lock").unlink()
    elif there == "other results":
        (tmp_path / "dvc.lock").write_text("stages:\n  data:\n    outs:\n    - path: made_elsewhere/data\n")
    else:
        (tmp_path / ".snakemake" / "metadata").mkdir(parents=True)
        (tmp_path / ".snakemake" / "metadata" / "bWFkZQ==").write_text("{}")
    assert settle_pulled(Path("made"), tmp_path) is False
    assert made.stat().st_mtime < made_from.stat().st_mtime


def test_products_of_the_future_come_back_in_their_order(tmp_path):
    made, made_from = pulled(tmp_path)
    now = time.time()
    for ahead, path in ((5000, made), (3000, made_from)):
        os.utime(path, (now + ahead, now + ahead))
    assert settle_future(tmp_path / "made") == pytest.approx(5000, abs=5)
    assert made.stat().st_mtime == pytest.approx(now, abs=5)
    assert made.stat().st_mtime - made_from.stat().st_mtime == pytest.approx(2000, abs=1)
    assert settle_future(tmp_path / "made") == 0
    assert settle_future(tmp_path / "nothing") == 0
