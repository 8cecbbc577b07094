"""Which tokens a rubric is about: labels by rule, and the discriminator that learns them."""


rule label_relevance:
    input:
        responses=rules.sample_responses.output.responses,
        verdicts=rules.judge_responses.output.verdicts,
        prompts=rules.make_prompts.output.prompts,
        nltk=rules.fetch_nltk.output[0],
    output:
        labels=f"{RESULTS}/labels/labels.parquet",
    log:
        f"{RESULTS}/logs/label_relevance.log",
    priority: 50
    threads: SETTINGS.discriminator.threads
    resources:
        mem_mb=2000,
    params:
        config=CONFIG,
        settings=section("labels", "judge"),
    message:
        "Labelling which characters each rubric is about"
    shell:
        "rtt labels"
        " --config {params.config}"
        " --responses {input.responses}"
        " --verdicts {input.verdicts}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --output {output.labels}"
        " > {log} 2>&1"


rule train_discriminator:
    input:
        labels=rules.label_relevance.output.labels,
        backbone=rules.fetch_policy.output[0],
    output:
        discriminator=directory(layout.discriminator(RESULTS, "{variant}")),
        metrics=layout.discriminator_metrics(RESULTS, "{variant}"),
    log:
        layout.discriminator_log(RESULTS, "{variant}"),
    priority: 50
    threads: SETTINGS.discriminator.threads
    resources:
        mem_mb=4000,
    params:
        config=CONFIG,
        settings=lambda wildcards: {
            **section("linear_precision"),
            **to_dict(SETTINGS.discriminators()[wildcards.variant]),
        },
    message:
        "Training the discriminator {wildcards.variant}"
    shell:
        "rtt discriminator"
        " --config {params.config}"
        " --variant {wildcards.variant}"
        " --labels {input.labels}"
        " --backbone {input.backbone}"
        " --output {output.discriminator}"
        " --metrics {output.metrics}"
        " --track {TRACK}"
        " > {log} 2>&1"
