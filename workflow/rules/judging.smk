"""Responses of the start policy, and the verdicts on them: to label, and for the arms that learn offline.

The steps up to the discriminator claim the same number of cores: what follows them waits for all of them, and a long
round started on a core they leave free would keep the discriminator waiting.
"""


rule sample_responses:
    input:
        policy=rules.fetch_policy.output[0],
        prompts=rules.make_prompts.output.prompts,
    output:
        responses=f"{RESULTS}/labels/responses.parquet",
    log:
        f"{RESULTS}/logs/sample_responses.log",
    priority: 50
    threads: SETTINGS.discriminator.threads
    resources:
        mem_mb=3000,
    params:
        config=CONFIG,
        settings=section("labels", "linear_precision"),
    message:
        "Sampling responses to label"
    shell:
        "rtt responses"
        " --config {params.config}"
        " --policy {input.policy}"
        " --prompts {input.prompts}"
        " --output {output.responses}"
        " > {log} 2>&1"


rule judge_responses:
    input:
        responses=rules.sample_responses.output.responses,
        prompts=rules.make_prompts.output.prompts,
        nltk=rules.fetch_nltk.output[0],
    output:
        verdicts=f"{RESULTS}/labels/verdicts.parquet",
    log:
        f"{RESULTS}/logs/judge_responses.log",
    priority: 50
    threads: SETTINGS.discriminator.threads
    resources:
        mem_mb=2000,
    params:
        config=CONFIG,
        settings=section("judge"),
    message:
        "Judging the responses"
    shell:
        "rtt verdicts"
        " --config {params.config}"
        " --responses {input.responses}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --output {output.verdicts}"
        " > {log} 2>&1"


rule sample_candidates:
    input:
        policy=rules.fetch_policy.output[0],
        prompts=rules.make_prompts.output.prompts,
    output:
        responses=f"{RESULTS}/candidates/responses.parquet",
    log:
        f"{RESULTS}/logs/sample_candidates.log",
    priority: 40
    threads: SETTINGS.discriminator.threads
    resources:
        mem_mb=3000,
    params:
        config=CONFIG,
        settings=section("offline", "policy", "linear_precision"),
    message:
        "Sampling the responses that offline arms learn from"
    shell:
        "rtt responses --candidates"
        " --config {params.config}"
        " --policy {input.policy}"
        " --prompts {input.prompts}"
        " --output {output.responses}"
        " > {log} 2>&1"


rule judge_candidates:
    input:
        responses=rules.sample_candidates.output.responses,
        prompts=rules.make_prompts.output.prompts,
        nltk=rules.fetch_nltk.output[0],
    output:
        verdicts=f"{RESULTS}/candidates/verdicts.parquet",
    log:
        f"{RESULTS}/logs/judge_candidates.log",
    priority: 40
    threads: 1
    resources:
        mem_mb=2000,
    params:
        config=CONFIG,
        settings=section("judge"),
    message:
        "Judging what offline arms learn from"
    shell:
        "rtt verdicts"
        " --config {params.config}"
        " --responses {input.responses}"
        " --prompts {input.prompts}"
        " --nltk {input.nltk}"
        " --output {output.verdicts}"
        " > {log} 2>&1"
