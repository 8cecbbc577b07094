"""Tables, figures, the report page, and the comparison in MLflow."""


rule write_report:
    input:
        scores=all_scores,
        discriminator=(rules.train_discriminator.output.metrics if SETTINGS.needs_discriminator() else []),
        left_out=left_out(),
    output:
        main=f"{RESULTS}/tables/main.csv",
        main_md=f"{RESULTS}/tables/main.md",
        main_txt=f"{RESULTS}/tables/main.txt",
        paired=f"{RESULTS}/tables/paired.csv",
        curves=f"{RESULTS}/tables/curves.csv",
        figures=expand(
            f"{RESULTS}/figures/{{name}}.{{format}}",
            name=["learning_curves", "comparison"] + (["discriminator"] if SETTINGS.needs_discriminator() else []),
            format=["svg", "png"],
        ),
        page=f"{RESULTS}/report/index.html",
    log:
        f"{RESULTS}/logs/write_report.log",
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG,
        results=RESULTS,
        settings={
            "seed": SETTINGS.evaluation.seed,
            "draws": SETTINGS.evaluation.bootstrap_draws,
            "arms": list(SETTINGS.arms),
        },
        discriminator=lambda wildcards, input: (f"--discriminator {input.discriminator}" if input.discriminator else ""),
    message:
        "Writing tables, figures and the report"
    shell:
        "rtt report"
        " --config {params.config}"
        " --scores {input.scores}"
        " {params.discriminator}"
        " --left-out {input.left_out}"
        " --output {params.results}"
        " > {log} 2>&1"


rule log_comparison:
    input:
        scores=all_scores,
        report=rules.write_report.output,
        prompts=rules.make_prompts.output.prompts,
        experiment=rules.create_experiment.output[0],
    output:
        f"{RESULTS}/mlflow/comparison.json",
    log:
        f"{RESULTS}/logs/log_comparison.log",
    threads: 1
    resources:
        mem_mb=500,
    params:
        config=CONFIG,
        track=TRACK,
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
