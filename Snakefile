"""Rubrics to Tokens, from sources to tables. The way the data goes is the order of the includes."""

from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


if "sources" not in config and "base" not in config:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/judging.smk"
include: "workflow/rules/relevance.smk"
include: "workflow/rules/policy.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/stages.smk"


rule all:
    default_target: True
    input:
        rules.write_report.output,
        rules.log_comparison.output,
        rules.check_contamination.output if SETTINGS.sources.benchmarks else [],
        rules.compare_domain.output if SETTINGS.evaluation.domain else [],
    message:
        "The study is complete"


# Database and experiment are made once, before parallel jobs write to them. They are no rule's product: what is trained
# does not depend on them, and a database made anew trains nothing anew.
onstart:
    if workflow.is_main_process and workflow.local_exec:
        preloaded.start()
    shell("rtt experiment --config {CONFIG} --track {TRACK} --output {RESULTS}/mlflow/experiment.json")


# Whatever stopped, the table of what there is gets written, and says what is missing and why.
onerror:
    shell("rtt report --partial --config {CONFIG} --output {RESULTS} || true")
