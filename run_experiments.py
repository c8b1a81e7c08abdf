"""Run many trainings that one file describes, and write their table; call again to go on."""

import argparse
from pathlib import Path

from lib.runtime.command_line import add_set_option, run_script
from lib.runtime.ray_cluster import ClusterOptions, add_cluster_options


def main() -> None:
    """Read the plan, run what is not finished, say where the table lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "plan", type=Path, metavar="FILE", help="e.g. configurations/stare_leave_one_out_cpu.txt"
    )
    add_set_option(parser)
    add_cluster_options(parser)
    arguments = parser.parse_args()

    from lib.experiments.plan import read_plan
    from lib.experiments.running import run_plan
    from lib.runtime.keras_startup import start_keras

    cluster = ClusterOptions.of(arguments)
    plan = read_plan(arguments.plan, arguments.overrides)
    start_keras()
    table, failures = run_plan(plan, cluster)
    print(table.read_text(encoding="utf-8"))
    print(f"written to {table}")
    if failures:
        print("\n".join(["failed:", *failures]))
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
