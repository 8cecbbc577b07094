"""Rounds of training, one after the other per arm and seed; arms and seeds side by side."""


rule train_round:
    input:
        prompts=rules.make_prompts.output.prompts,
        nltk=rules.fetch_nltk.output[0],
        policy=rules.fetch_policy.output[0],
        discriminator=discriminator_of,
        start=round_before,
    output:
        checkpoint=directory(layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "checkpoint")),
        rollouts=layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "rollouts.parquet"),
        metrics=layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "metrics.jsonl"),
    log:
        layout.round_log(RESULTS, "{arm}", "{seed}", "{round}"),
    wildcard_constraints:
        arm=one_of(ONLINE),
    priority: 10
    threads: SETTINGS.policy.threads * LAUNCHER.get("num_processes", 1)
    resources:
        mem_mb=6000,
    params:
        config=CONFIG,
        settings=arm_settings,
        folder=lambda wildcards, output: os.path.dirname(output.rollouts),
        start=lambda wildcards, input: option("start", input.start),
        discriminator=lambda wildcards, input: option("discriminator", input.discriminator),
    message:
        "Training {wildcards.arm}, seed {wildcards.seed}, round {wildcards.round}"
    shell:
        "rtt round"
        " --config {params.config}"
        " --arm {wildcards.arm}"
        " --seed {wildcards.seed}"
        " --round {wildcards.round}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --policy {input.policy}"
        " {params.discriminator}"
        " {params.start}"
        " --output {params.folder}"
        " --track {TRACK}"
        " > {log} 2>&1"


rule train_offline_round:
    input:
        prompts=rules.make_prompts.output.prompts,
        nltk=rules.fetch_nltk.output[0],
        policy=rules.fetch_policy.output[0],
        responses=rules.sample_candidates.output.responses,
        verdicts=rules.judge_candidates.output.verdicts,
        start=round_before,
    output:
        checkpoint=directory(layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "checkpoint")),
        metrics=layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "metrics.jsonl"),
    log:
        layout.round_log(RESULTS, "{arm}", "{seed}", "{round}"),
    wildcard_constraints:
        arm=one_of(OFFLINE),
    priority: 10
    threads: SETTINGS.policy.threads * LAUNCHER.get("num_processes", 1)
    resources:
        mem_mb=6000,
    params:
        config=CONFIG,
        settings=arm_settings,
        folder=lambda wildcards, output: os.path.dirname(output.metrics),
        start=lambda wildcards, input: option("start", input.start),
    message:
        "Training {wildcards.arm}, seed {wildcards.seed}, round {wildcards.round}"
    shell:
        "rtt round"
        " --config {params.config}"
        " --arm {wildcards.arm}"
        " --seed {wildcards.seed}"
        " --round {wildcards.round}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --policy {input.policy}"
        " --responses {input.responses}"
        " --verdicts {input.verdicts}"
        " {params.start}"
        " --output {params.folder}"
        " --track {TRACK}"
        " > {log} 2>&1"
