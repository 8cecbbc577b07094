"""How many rubric programs the sandbox checks a second.

.venv/bin/python benchmarks/sandbox.py
"""

from __future__ import annotations

import os
import time
from statistics import median

os.environ.setdefault("TQDM_DISABLE", "1")

from measure import keep, options, spread

from rtt.config import Sandbox
from rtt.judging.cases import Case
from rtt.judging.sandbox import Programs
from rtt.rubrics import PROGRAM, Rubric

SOURCES = [
    "def check_following(instruction, response):\n    return len(response.split()) >= 40",
    "import re\ndef check_following(instruction, response):\n    return len(re.findall(r'[.!?]+', response)) == 3",
    """
import json
def check_following(instruction, response):
    try:
        json.loads(response)
    except ValueError:
        return False
    return True
""",
    """
from collections import Counter
def check_following(instruction, response):
    return Counter(response.lower().split()).most_common(1)[0][1] > 2
""",
    "def check_following(instruction, response):\n    return not any(c.isupper() for c in response)",
]


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--checks", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    response = "The quick brown fox jumps over the lazy dog. " * 20
    cases = [
        Case(
            Rubric(rubric_id=f"p/{n}", kind=PROGRAM, text="t", kwargs={"source": SOURCES[n % len(SOURCES)]}),
            response,
            "p",
        )
        for n in range(asked.checks)
    ]
    seconds = []
    for _ in range(asked.turns):
        started = time.perf_counter()
        verdicts = Programs(Sandbox()).judge(cases)
        seconds.append(time.perf_counter() - started)
        assert not any(verdict.missing for verdict in verdicts)
    result = {
        "checks": asked.checks,
        "seconds": spread(seconds),
        "checks a second": asked.checks / median(seconds),
        "workers": Sandbox().workers,
    }
    keep(result, asked.output)


if __name__ == "__main__":
    main()
