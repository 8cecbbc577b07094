"""Runs `snakemake --lint` and fails on any finding that is not explained here."""

import re
import subprocess
import sys

EXPLAINED = {
    "Specify a conda environment or container for each rule.": (
        "every step runs in the one environment the constraints file pins, which `make install` makes"
    ),
    "Param results is a prefix of input or output file but hardcoded": (
        "the results folder is the configuration's `results`; the step writes several folders below it"
    ),
    "Shell command directly uses variable TRACK from outside of the rule": (
        "as a parameter it would train everything anew for another MLflow, on which nothing that is trained depends"
    ),
}


def findings(report: str) -> list[tuple[str, str]]:
    """(rule or file, title) of every finding in Snakemake's report."""
    found, place = [], ""
    for line in report.splitlines():
        if heading := re.match(r"Lints for (.+?)(?: \(.*\))?:$", line):
            place = heading[1]
        elif title := re.match(r"    \* (.+?):?$", line):
            found.append((place, title[1]))
    return found


def main() -> int:
    done = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    found = findings(report)
    unexplained = [(place, title) for place, title in found if title not in EXPLAINED]
    if not found and done.returncode:  # the linter itself failed
        sys.stderr.write(report)
        return 1
    for place, title in unexplained:
        print(f"{place}: {title}", file=sys.stderr)
    print(f"snakemake --lint: {len(found)} findings, {len(unexplained)} of them unexplained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
