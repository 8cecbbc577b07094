"""The whole report: its files, its named tables, and a study with gaps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rtt import layout
from rtt.errors import UserError
from rtt.report.outputs import report_outputs, tables_of
from rtt.tables import Scores, write_table

LONG = ["arm", "seeds", "step", "benchmark", "metric", "value", "low", "high", "seed_std", "n_prompts"]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_complete_study_writes_exactly_the_declared_files(write, config):
    assert files(write()) == set(report_outputs(config()))
    assert len(report_outputs(config())) == len(set(report_outputs(config())))


def test_a_study_without_tables_writes_one_of_all_arms(write, config):
    study = config(tables={}, headline=None)
    assert tables_of(study) == {"main": ("base", "rl_csr", "rtt_csr", "rtt_few", "rtt_rules")}
    assert files(write(study=study)) == set(report_outputs(study))


def test_a_study_whose_tables_lack_main_gets_it(config):
    assert list(tables_of(config(tables={"peers": ("base", "rl_csr")}))) == ["main", "peers"]


def test_a_table_may_not_have_the_name_of_another_file(config):
    with pytest.raises(UserError, match="called paired"):
        report_outputs(config(tables={"paired": ("base", "rl_csr")}))


def test_declaring_the_files_needs_no_heavy_import():
    code = (
        "import sys; from rtt.report.outputs import report_outputs; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60).returncode == 0


def test_a_table_has_its_own_order_and_not_that_of_the_scores(write, config):
    study = config(tables={"main": ("rtt_csr", "base", "rl_csr")})
    table = pd.read_csv(write(study=study) / "tables" / "main.csv")
    assert list(table["arm"].unique()) == ["rtt_csr", "base", "rl_csr"]


def test_each_table_holds_its_arms(write):
    folder = write() / "tables"
    table = pd.read_csv(folder / "relevance.csv")
    assert list(table)[:10] == LONG
    assert list(table)[10:14] == ["n_instructions", "protocol", "budget", "judge"]
    assert list(table)[14:] == ["paper_value", "paper_source", "discriminator_auprc"]
    assert list(table["arm"].unique()) == ["rtt_csr", "rtt_few", "rtt_rules"]
    assert set(table["seeds"]) == {2}
    paired = pd.read_csv(folder / "paired.csv")
    assert set(paired["table"]) == {"main", "relevance", "partition"}
    assert ((paired["table"] == "main") & (paired["arm"] == "rtt_csr") & (paired["against"] == "rl_csr")).any()


def test_relevance_shows_each_discriminator_on_unseen_topics(write):
    folder = write() / "tables"
    found = pd.read_csv(folder / "relevance.csv").groupby("arm")["discriminator_auprc"].first()
    assert found["rtt_csr"] == pytest.approx(0.87)
    assert found["rtt_few"] == pytest.approx(0.55)
    assert np.isnan(found["rtt_rules"])
    text = (folder / "relevance.md").read_text()
    assert "discriminator AUPRC (unseen topics)" in text
    assert "| rtt_few | 2 | 0.55 |" in text
    assert "| rtt_rules | 2 | – |" in text
    assert "AUPRC" not in (folder / "main.md").read_text()


def test_the_papers_figures_stand_beside_ours(write):
    folder = write() / "tables"
    table = pd.read_csv(folder / "main.csv")
    known = table.dropna(subset=["paper_value"])
    assert set(known["arm"]) == {"base", "rtt_csr"}
    assert set(known["benchmark"]) == {"ifbench"}
    text = (folder / "main.md").read_text()
    assert "34.69" in text
    assert "no comparison" in text
    assert "34.69" in (folder / "main.tex").read_text()


def test_the_terminal_gets_the_main_table_and_the_headline(write):
    text = (write() / "tables" / "main.txt").read_text()
    assert text.startswith("validation (12 prompts, 24 instructions; greedy/1, at most 48 tokens; judged by ")
    assert "rtt_csr minus rl_csr, points" in text
    assert "rtt_few" not in text


def test_the_caption_says_what_was_resampled(write, config):
    assert "over seeds and prompts (100 draws); seeds 0, 1." in (write() / "tables/main.md").read_text()


GAPS = (
    {"arm": "rtt_csr", "seed": 1, "what": "training", "why": "it ran out of memory in round 2"},
    {"arm": "rtt_few", "seed": None, "what": "the discriminator few", "why": "its training failed"},
)


@pytest.fixture
def torn(study_scores):
    """The study's scores less a seed that stopped after round 1, an arm, and one evaluation nobody accounts for."""
    gone = (study_scores["arm"] == "rtt_csr") & (study_scores["seed"] == 1) & (study_scores["step"] == 16)
    gone |= study_scores["arm"] == "rtt_few"
    gone |= (study_scores["arm"] == "rtt_rules") & (study_scores["benchmark"] == "ifbench")
    return study_scores[~gone]


def test_gaps_are_shown_as_dashes_and_explained(write, config, torn, discriminators):
    folder = write(torn, missing=GAPS, discriminators={"full": discriminators["full"]})
    assert files(folder) == set(report_outputs(config()))
    lines = (folder / "tables" / "relevance.md").read_text().splitlines()
    [few] = [line for line in lines if line.startswith("| rtt_few |")]
    assert set(few.strip("| ").split(" | ")) == {"rtt_few", "–"}
    assert "rtt_few" not in set(pd.read_csv(folder / "tables" / "relevance.csv")["arm"])
    text = "\n".join(lines)
    page = (folder / "report" / "index.html").read_text()
    for sentence in (
        "rtt_csr, seed 1: training is missing: it ran out of memory in round 2",
        "rtt_csr is shown on validation, ifbench over seed 0, of 2",
        "rtt_few: the discriminator few is missing: its training failed",
        "rtt_rules, seeds 0, 1: no final scores on ifbench",
    ):
        assert sentence in text
        assert sentence in page
    assert "rtt_few" not in (folder / "tables" / "partition.md").read_text()
    table = pd.read_csv(folder / "tables" / "main.csv")
    assert table.groupby("arm")["seeds"].first().to_dict() == {"base": 1, "rl_csr": 2, "rtt_csr": 1}
    paired = pd.read_csv(folder / "tables" / "paired.csv")
    headline = paired[(paired["arm"] == "rtt_csr") & (paired["against"] == "rl_csr")]
    assert set(headline["seeds"]) == {1}


def test_the_base_alone_gives_a_table(write, config, study_scores):
    folder = write(study_scores[study_scores["arm"] == "base"], discriminators={})
    assert files(folder) == set(report_outputs(config()))
    assert set(pd.read_csv(folder / "tables" / "main.csv")["arm"]) == {"base"}
    assert "| rtt_csr | – | – | – |" in (folder / "tables" / "main.md").read_text()
    assert pd.read_csv(folder / "tables" / "paired.csv").empty
    assert "hold no answer" in (folder / "report" / "index.html").read_text()


def test_arms_without_the_base_are_reported(write, config, study_scores):
    folder = write(study_scores[study_scores["arm"] != "base"])
    assert files(folder) == set(report_outputs(config()))
    assert "base: no final scores on validation, ifbench" in (folder / "tables" / "main.md").read_text()


def test_no_scores_at_all_are_a_user_error(write):
    with pytest.raises(UserError, match="no scores"):
        write(pd.DataFrame())


def test_figures_of_a_discriminator_no_arm_learns_from_are_not_shown(write, config, study_scores):
    study = config(
        arms={"rl_csr": {}, "rtt_few": {"credit": {"discriminator": "few"}}},
        tables={"relevance": ["rl_csr", "rtt_few"]},
        headline=None,
    )
    folder = write(study_scores[study_scores["arm"].isin(["base", *study.arms])], study=study)
    assert files(folder) == set(report_outputs(study))
    assert not (folder / "figures" / "discriminator.svg").exists()
    assert "no figures of a discriminator" in (folder / "report" / "index.html").read_text()


def test_a_discriminator_nobody_configured_is_refused(write, discriminators):
    with pytest.raises(UserError, match="no discriminator is called 'half'"):
        write(discriminators={"half": discriminators["few"]})


def test_inconsistent_scores_still_raise(write, study_scores, scores):
    with pytest.raises(UserError, match="scored twice"):
        write(pd.concat([study_scores, study_scores[study_scores["arm"] == "rl_csr"]]))


def test_the_same_scores_give_the_same_bytes(write, tmp_path):
    first = {path: path.read_bytes() for path in sorted(write().rglob("*.*")) if path.is_file()}
    assert len(first) > 10
    write()
    assert {path: path.read_bytes() for path in first} == first


def test_the_comparison_logs_every_run_and_every_file(write, config, study_scores, tmp_path):
    from mlflow import MlflowClient

    from rtt.report.compare import log_comparison

    output = write(study_scores[study_scores["seed"] == 0])
    write_table(study_scores[study_scores["seed"] == 0], Scores, tmp_path / "seen.parquet")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = log_comparison(config(), uri, scores=[tmp_path / "seen.parquet"], output=output, data=tmp_path / "full.json")
    client = MlflowClient(uri)
    metrics = client.get_run(run).data.metrics
    main = pd.read_csv(output / "tables" / "relevance.csv")
    [value] = main.loc[
        (main["arm"] == "rtt_rules") & (main["benchmark"] == "ifbench") & (main["metric"] == "prompt_strict"), "value"
    ]
    assert metrics["rtt_rules/ifbench/prompt_strict"] == pytest.approx(value)
    for folder in ("tables", "figures", "report"):
        wanted = {name for name in report_outputs(config()) if name.startswith(folder)}
        assert {item.path for item in client.list_artifacts(run, folder)} == wanted
    [experiment] = [one for one in client.search_experiments() if one.name == config().tracking.experiment]
    runs = client.search_runs([experiment.experiment_id], "tags.level = 'arm'")
    assert {one.data.tags["arm"] for one in runs} == {"base", *config().arms}
    assert all("eval/ifbench/prompt_strict" in one.data.metrics for one in runs)


def test_figures_of_rounds_that_mlflow_lacks_are_sent_from_their_files(config, tmp_path):
    from rtt.report.compare import send_missing
    from rtt.tracking import Rounds, Tracker

    study = config(results=str(tmp_path / "results"))
    arm, seed = study.runs()[0]
    path = Path(layout.round_file(study.results, arm, seed, 1, "metrics.jsonl"))
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"step": 3, "lo')
    (tmp_path / "prompts").touch()
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "lacking")
    send_missing(study, Rounds(tracker, study, tmp_path / "prompts"))
    (experiment,) = [one for one in tracker.client.search_experiments() if one.name == "lacking"]
    runs = tracker.client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["level"] for run in runs) == ["arm", "round"]
    for run in runs:
        history = tracker.client.get_metric_history(run.info.run_id, "train/loss")
        assert [(one.step, one.value) for one in history] == [(1, 0.5), (2, 0.25)]
