"""What a report consists of: its tables, the arms each of them holds, and every file written for it.

The workflow asks for these at every start, so nothing here imports pandas, matplotlib or torch.
"""

from __future__ import annotations

from rtt.config import BASE, FULL, Config
from rtt.errors import UserError

MAIN = "main"
TABLE_FORMATS = ("csv", "md", "tex")
FIGURE_FORMATS = ("svg", "png")
METRICS = "metrics.json"
"""The values of `main` by arm, benchmark and metric, as DVC compares them."""
OTHER_TABLES = ("paired", "curves", "groups", "efficiency", "efficiency_seeds")
"""Tables over the whole study; no table of arms may have such a name."""


def tables_of(config: Config) -> dict[str, tuple[str, ...]]:
    """Arms of each table, in order and each once; `main` comes first and holds every arm where the study names none.

    Raises:
        UserError: a table has the name of a file this report writes anyway.
    """
    tables = {name: tuple(dict.fromkeys(arms)) for name, arms in config.table_arms().items()}
    if taken := [name for name in OTHER_TABLES if name in tables]:
        raise UserError(
            f"no table of arms can be called {taken[0]}: the report writes a file of that name",
            where=f"tables.{taken[0]}",
            todo=f"choose another name than {', '.join(OTHER_TABLES)}",
        )
    return {MAIN: tables.pop(MAIN, (BASE, *config.arms)), **tables}


def curves_stem(table: str) -> str:
    """Name, without a suffix, of the learning curves of a table's arms."""
    return "learning_curves" if table == MAIN else f"learning_curves_{table}"


def differences_stem(table: str) -> str:
    """Name, without a suffix, of the figure of a table's paired differences."""
    return f"differences_{table}"


def draws_kinds(config: Config) -> bool:
    """Whether the report has a figure of the discriminator `full`, by rubric kind."""
    return FULL in config.discriminators()


def figure_stems(config: Config) -> list[str]:
    """Names, without a suffix, of all figures, in the order of the page."""
    stems = [curves_stem(MAIN), "comparison", differences_stem(MAIN)]
    for name in tables_of(config):
        if name != MAIN:
            stems += [curves_stem(name), differences_stem(name)]
    return stems + ["discriminator"] * draws_kinds(config)


def report_outputs(config: Config) -> list[str]:
    """Every file :func:`rtt.report.write.write_report` writes, relative to the results folder.

    The files are the same ones when evaluations are missing: what cannot be shown is then said in them.
    """
    tables = [f"tables/{name}.{suffix}" for name in tables_of(config) for suffix in TABLE_FORMATS]
    tables += [f"tables/{MAIN}.txt", f"tables/{METRICS}", *(f"tables/{name}.csv" for name in OTHER_TABLES)]
    figures = [f"figures/{stem}.{suffix}" for stem in figure_stems(config) for suffix in FIGURE_FORMATS]
    return [*tables, *figures, "report/index.html"]
