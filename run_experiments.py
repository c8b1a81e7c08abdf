"""Run the trainings that a plan describes and write a table of results; run again to continue."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.runtime.command_line import add_set_option, run_script
from lib.runtime.keras_startup import start_keras
from lib.runtime.ray_cluster import ClusterOptions, add_cluster_options


def main() -> None:
    """Read the plan, carry out each run that is not finished, print where the table is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "plan", type=Path, metavar="FILE", help="plan, e.g. configurations/stare_leave_one_out_cpu.txt"
    )
    add_set_option(parser)
    add_cluster_options(parser)
    arguments = parser.parse_args()

    # Imported here: it takes a second, and run_script reports a missing package.
    from lib.experiments import plan, running

    cluster = ClusterOptions.of(arguments)
    runs = plan.read_plan(arguments.plan, arguments.overrides)
    start_keras()
    table, failures = running.run_plan(runs, cluster)
    print(table.read_text(encoding="utf-8"))
    print(f"written to {table}")
    if failures:
        print("\n".join(["failed:", *failures]))
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
