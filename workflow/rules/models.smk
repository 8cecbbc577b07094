"""Models and other things fetched, pinned by version and checksum."""


rule fetch_policy:
    output:
        directory(f"{RESULTS}/models/policy"),
    log:
        f"{RESULTS}/logs/fetch_policy.log",
    threads: 1
    resources:
        mem_mb=3000,
    params:
        config=CONFIG,
        source=section("sources")["sources"]["policy"],
    message:
        "Fetching the policy"
    shell:
        "rtt fetch policy" " --config {params.config}" " --output {output}" " > {log} 2>&1"


rule fetch_nltk:
    output:
        directory(f"{RESULTS}/models/nltk"),
    log:
        f"{RESULTS}/logs/fetch_nltk.log",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=CONFIG,
        source=section("sources")["sources"]["nltk"],
    message:
        "Fetching NLTK data"
    shell:
        "rtt fetch nltk" " --config {params.config}" " --output {output}" " > {log} 2>&1"
