"""Targets by stage, for `dvc.yaml` and for people: everything up to a stage, by one name."""


localrules:
    data,
    labels,
    discriminator,
    policies,
    evaluation,
    tables,


rule data:
    input:
        rules.make_prompts.output,
        rules.fetch_policy.output,
        rules.fetch_nltk.output,
        expand(rules.read_benchmark.output, source=SETTINGS.sources.benchmarks),
        rules.check_contamination.output if SETTINGS.sources.benchmarks else [],


rule labels:
    input:
        rules.label_relevance.output,


rule discriminator:
    input:
        [layout.discriminator(RESULTS, name) for name in SETTINGS.discriminators()],


rule policies:
    input:
        [layout.round_file(RESULTS, arm, seed, SETTINGS.policy.rounds, "checkpoint") for arm, seed in SETTINGS.runs()],


rule evaluation:
    input:
        all_scores(),


rule tables:
    input:
        rules.write_report.output,
