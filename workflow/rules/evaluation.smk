"""Greedy answers to held-out prompts and benchmarks, scored instruction by instruction."""


rule evaluate_base:
    input:
        policy=rules.fetch_policy.output[0],
        prompts=benchmark_prompts,
        nltk=rules.fetch_nltk.output[0],
    output:
        scores=f"{RESULTS}/evaluations/base/{{benchmark}}/scores.parquet",
        responses=f"{RESULTS}/evaluations/base/{{benchmark}}/responses.parquet",
    log:
        f"{RESULTS}/logs/evaluate/base_{{benchmark}}.log",
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=2500,
    params:
        config=CONFIG,
        settings=evaluation_settings,
    message:
        "Evaluating the base policy on {wildcards.benchmark}"
    shell:
        "rtt evaluate"
        " --config {params.config}"
        " --benchmark {wildcards.benchmark}"
        " --arm base --seed 0 --step 0"
        " --policy {input.policy}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --output {output.scores}"
        " --responses {output.responses}"
        " > {log} 2>&1"


rule evaluate_round:
    input:
        policy=rules.fetch_policy.output[0],
        checkpoint=rules.train_round.output.checkpoint,
        prompts=benchmark_prompts,
        nltk=rules.fetch_nltk.output[0],
    output:
        scores=f"{RESULTS}/evaluations/{{arm}}/seed_{{seed}}/round_{{round}}/{{benchmark}}/scores.parquet",
        responses=f"{RESULTS}/evaluations/{{arm}}/seed_{{seed}}/round_{{round}}/{{benchmark}}/responses.parquet",
    log:
        f"{RESULTS}/logs/evaluate/{{arm}}_seed_{{seed}}_round_{{round}}_{{benchmark}}.log",
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=2500,
    params:
        config=CONFIG,
        settings=evaluation_settings,
        step=lambda wildcards: int(wildcards.round) * SETTINGS.policy.steps_per_round,
    message:
        "Evaluating {wildcards.arm}, seed {wildcards.seed}, round {wildcards.round} on {wildcards.benchmark}"
    shell:
        "rtt evaluate"
        " --config {params.config}"
        " --benchmark {wildcards.benchmark}"
        " --arm {wildcards.arm} --seed {wildcards.seed} --step {params.step}"
        " --policy {input.policy}"
        " --checkpoint {input.checkpoint}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --output {output.scores}"
        " --responses {output.responses}"
        " > {log} 2>&1"
