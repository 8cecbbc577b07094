"""Rounds of RTT-GRPO, one after the other per arm and seed, arms and seeds side by side."""


rule train_round:
    input:
        prompts=rules.make_prompts.output.prompts,
        nltk=rules.fetch_nltk.output[0],
        policy=rules.fetch_policy.output[0],
        experiment=rules.create_experiment.output[0],
        discriminator=discriminator_of,
        start=round_before,
    output:
        checkpoint=directory(f"{RESULTS}/policies/{{arm}}/seed_{{seed}}/round_{{round}}/checkpoint"),
        rollouts=f"{RESULTS}/policies/{{arm}}/seed_{{seed}}/round_{{round}}/rollouts.parquet",
        metrics=f"{RESULTS}/policies/{{arm}}/seed_{{seed}}/round_{{round}}/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train_round/{{arm}}_seed_{{seed}}_round_{{round}}.log",
    priority: 10
    threads: SETTINGS.policy.threads
    resources:
        mem_mb=4000,
    params:
        config=CONFIG,
        track=TRACK,
        settings=lambda wildcards: {
            **section("policy"),
            "arm": section("arms")["arms"][wildcards.arm],
        },
        folder=lambda wildcards, output: os.path.dirname(output.rollouts),
        start=lambda wildcards, input: f"--start {input.start}" if input.start else "",
        discriminator=lambda wildcards, input: (f"--discriminator {input.discriminator}" if input.discriminator else ""),
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
        " --track {params.track}"
        " > {log} 2>&1"
