"""Answers to held-out prompts and benchmarks, scored instruction by instruction."""


rule evaluate_base:
    input:
        policy=rules.fetch_policy.output[0],
        prompts=benchmark_prompts,
        nltk=rules.fetch_nltk.output[0],
        evaluator=evaluator_of,
    output:
        scores=layout.base_file(RESULTS, "{benchmark}", "scores.parquet"),
        responses=layout.base_file(RESULTS, "{benchmark}", "responses.parquet"),
        record=layout.base_file(RESULTS, "{benchmark}", "record.json"),
    log:
        layout.base_log(RESULTS, "{benchmark}"),
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=2500,
    params:
        config=CONFIG,
        settings=evaluation_settings,
        evaluator=lambda wildcards, input: option("evaluator", input.evaluator),
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
        " {params.evaluator}"
        " --output {output.scores}"
        " --responses {output.responses}"
        " > {log} 2>&1"


rule evaluate_round:
    input:
        policy=rules.fetch_policy.output[0],
        checkpoint=layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "checkpoint"),
        prompts=benchmark_prompts,
        nltk=rules.fetch_nltk.output[0],
        evaluator=evaluator_of,
    output:
        scores=layout.evaluation_file(RESULTS, "{arm}", "{seed}", "{round}", "{benchmark}", "scores.parquet"),
        responses=layout.evaluation_file(RESULTS, "{arm}", "{seed}", "{round}", "{benchmark}", "responses.parquet"),
        record=layout.evaluation_file(RESULTS, "{arm}", "{seed}", "{round}", "{benchmark}", "record.json"),
    log:
        layout.evaluation_log(RESULTS, "{arm}", "{seed}", "{round}", "{benchmark}"),
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=2500,
    params:
        config=CONFIG,
        settings=evaluation_settings,
        evaluator=lambda wildcards, input: option("evaluator", input.evaluator),
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
        " {params.evaluator}"
        " --output {output.scores}"
        " --responses {output.responses}"
        " > {log} 2>&1"
