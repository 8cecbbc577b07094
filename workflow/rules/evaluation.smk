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
    # The longest would otherwise come last, since Snakemake prefers large inputs, and have the machine for itself.
    priority: 5
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=4000,
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
        mem_mb=4000,
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


rule ask_domain_base:
    input:
        policy=rules.fetch_policy.output[0],
    output:
        f"{RESULTS}/evaluations/base/domain.json",
    log:
        f"{RESULTS}/logs/evaluate/base_domain.log",
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=4000,
    params:
        config=CONFIG,
        settings=section("evaluation")["evaluation"]["domain"],
    message:
        "Asking the base policy what is out of domain"
    shell:
        "rtt domain --config {params.config} --policy {input.policy} --output {output} > {log} 2>&1"


rule ask_domain:
    input:
        policy=rules.fetch_policy.output[0],
        checkpoint=layout.round_file(RESULTS, "{arm}", "{seed}", "{round}", "checkpoint"),
    output:
        f"{RESULTS}/evaluations/{{arm}}/seed_{{seed}}/round_{{round}}/domain.json",
    log:
        f"{RESULTS}/logs/evaluate/{{arm}}_seed_{{seed}}_round_{{round}}_domain.log",
    threads: SETTINGS.evaluation.threads
    resources:
        mem_mb=4000,
    params:
        config=CONFIG,
        settings=section("evaluation")["evaluation"]["domain"],
    message:
        "Asking {wildcards.arm}, seed {wildcards.seed}, what is out of domain"
    shell:
        "rtt domain"
        " --config {params.config}"
        " --policy {input.policy}"
        " --checkpoint {input.checkpoint}"
        " --output {output}"
        " > {log} 2>&1"


rule compare_domain:
    input:
        base=rules.ask_domain_base.output[0],
        records=[
            f"{RESULTS}/evaluations/{arm}/seed_{seed}/round_{SETTINGS.policy.rounds}/domain.json"
            for arm, seed in SETTINGS.runs()
        ],
    output:
        f"{RESULTS}/tables/domain.csv",
    log:
        f"{RESULTS}/logs/compare_domain.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        draws=SETTINGS.evaluation.bootstrap_draws,
    message:
        "Comparing what is out of domain with the base"
    shell:
        "rtt domain-table"
        " --config {params.config}"
        " --base {input.base}"
        " --records {input.records}"
        " --output {output}"
        " > {log} 2>&1"
