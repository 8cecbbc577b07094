"""Prompts with rubrics: made here, and the benchmarks'."""


rule fetch_prompts:
    output:
        directory(f"{RESULTS}/data/source"),
    log:
        f"{RESULTS}/logs/fetch_prompts.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        source=section("sources")["sources"]["prompts"],
    message:
        "Fetching the prompts"
    shell:
        "rtt fetch prompts" " --config {params.config}" " --output {output}" " > {log} 2>&1"


rule make_prompts:
    input:
        source=rules.fetch_prompts.output if SETTINGS.sources.prompts else [],
        against=benchmark_tables() if SETTINGS.prompts.contamination.remove_from is not None else [],
    output:
        prompts=f"{RESULTS}/data/prompts.parquet",
    log:
        f"{RESULTS}/logs/make_prompts.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        settings=section("prompts"),
        source=f"--input {RESULTS}/data/source --split" if SETTINGS.sources.prompts else "",
        against=lambda wildcards, input: option("against", input.against),
    message:
        "Making the prompts with rubrics"
    shell:
        "rtt prompts"
        " --config {params.config}"
        " {params.source}"
        " {params.against}"
        " --output {output.prompts}"
        " > {log} 2>&1"


rule check_contamination:
    input:
        prompts=rules.make_prompts.output.prompts,
        benchmarks=benchmark_tables(),
    output:
        f"{RESULTS}/data/contamination.csv",
    log:
        f"{RESULTS}/logs/check_contamination.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        settings=section("prompts")["prompts"]["contamination"],
    message:
        "Comparing the prompts with the benchmarks"
    shell:
        "rtt contamination"
        " --config {params.config}"
        " --prompts {input.prompts}"
        " --benchmarks {input.benchmarks}"
        " --output {output}"
        " > {log} 2>&1"


rule fetch_benchmark:
    output:
        f"{RESULTS}/data/benchmarks/{{source}}.jsonl",
    log:
        f"{RESULTS}/logs/fetch_benchmark/{{source}}.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        source=lambda wildcards: section("sources")["sources"]["benchmarks"][wildcards.source],
    message:
        "Fetching the benchmark {wildcards.source}"
    shell:
        "rtt fetch {wildcards.source}" " --config {params.config}" " --output {output}" " > {log} 2>&1"


rule fetch_evaluator:
    output:
        directory(f"{RESULTS}/data/evaluators/{{source}}"),
    log:
        f"{RESULTS}/logs/fetch_evaluator/{{source}}.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        source=lambda wildcards: section("sources")["sources"]["evaluators"][wildcards.source],
    message:
        "Fetching the evaluator of {wildcards.source}"
    shell:
        "rtt fetch {wildcards.source}" " --evaluator" " --config {params.config}" " --output {output}" " > {log} 2>&1"


rule read_benchmark:
    input:
        jsonl=rules.fetch_benchmark.output[0],
        nltk=rules.fetch_nltk.output[0],
    output:
        prompts=f"{RESULTS}/data/benchmarks/{{source}}.parquet",
        left_out=f"{RESULTS}/data/benchmarks/{{source}}.left_out.json",
    log:
        f"{RESULTS}/logs/read_benchmark/{{source}}.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        judged=lambda wildcards: "--judged" if SETTINGS.judge or wildcards.source in SETTINGS.sources.evaluators else "",
    message:
        "Reading the benchmark {wildcards.source}"
    shell:
        "rtt benchmark"
        " {params.judged}"
        " --name {wildcards.source}"
        " --input {input.jsonl}"
        " --nltk {input.nltk}"
        " --output {output.prompts}"
        " --left-out {output.left_out}"
        " > {log} 2>&1"
