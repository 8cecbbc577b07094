"""Tables, figures, the report page, and the comparison in MLflow."""


rule write_report:
    input:
        scores=all_scores,
        discriminators=discriminator_metrics(),
        left_out=left_out(),
        references="config/reference_results.yaml",
    output:
        [in_report(path) for path in report_outputs(SETTINGS)],
    log:
        f"{RESULTS}/logs/write_report.log",
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=CONFIG,
        results=RESULTS,
        settings={
            "seed": SETTINGS.evaluation.seed,
            "draws": SETTINGS.evaluation.bootstrap_draws,
            "tables": SETTINGS.table_arms(),
            "headline": SETTINGS.headline,
        },
        discriminators=lambda wildcards, input: option("discriminators", input.discriminators),
        left_out=lambda wildcards, input: option("left-out", input.left_out),
    message:
        "Writing tables, figures and the report"
    shell:
        "rtt report"
        " --config {params.config}"
        " --scores {input.scores}"
        " {params.discriminators}"
        " {params.left_out}"
        " --references {input.references}"
        " --output {params.results}"
        " > {log} 2>&1"


rule log_comparison:
    input:
        scores=all_scores,
        report=rules.write_report.output,
        prompts=rules.make_prompts.output.prompts,
    output:
        f"{RESULTS}/mlflow/comparison.json",
    log:
        f"{RESULTS}/logs/log_comparison.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        track=TRACK,  # another MLflow: logged there too
        results=RESULTS,
    message:
        "Logging the comparison to MLflow"
    shell:
        "rtt compare"
        " --config {params.config}"
        " --track {params.track}"
        " --scores {input.scores}"
        " --report {params.results}"
        " --prompts {input.prompts}"
        " --output {output}"
        " > {log} 2>&1"
