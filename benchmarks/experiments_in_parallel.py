"""Two trainings in parallel on two workers, compared with one after the other; one core each.

    python -m benchmarks.experiments_in_parallel

Both measure `run_experiments.py` from its start to the finished table: on two running Ray workers of one
core, and in one process that is limited to one core. The two alternate. Writes
docs/results/experiments_in_parallel.json and .md; the exit code is 1 if the ratio of the medians is not
below `WANTED`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.runtime.atomic_files import write_text
from lib.runtime.paths import PROJECT

DEMO = PROJECT / "configurations" / "demo.txt"
RESULT = PROJECT / "docs" / "results" / "experiments_in_parallel"
WANTED = 0.65
AT_ONCE, IN_TURN = "two at once", "one after the other"


def plan_file(folder: Path, patches: int) -> Path:
    """Write a plan of two trainings with different seeds."""
    lines = ["[experiments]", "name = parallel", f"base = {DEMO}", "seeds = 1 2", "[settings]"]
    settings = {
        "data paths.path_images": folder / "angiograms",
        "data paths.path_local": folder / "datasets",
        "experiment name.path_experiments": folder / "experiments",
        "training settings.N_subimgs": patches,
        "training settings.N_epochs": 4,
        "training settings.patience": 4,
    }
    file = folder / "plan.txt"
    file.write_text("\n".join(lines + [f"{k} = {v}" for k, v in settings.items()]) + "\n")
    return file


def prepare(folder: Path, plan: Path) -> None:
    from lib.datasets import ffa
    from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
    from lib.experiments.plan import read_plan

    write_synthetic_angiograms(folder / "angiograms", 16, seed=1)
    read = read_plan(plan)
    ffa.prepare(read.runs[0].configuration)


def seconds(folder: Path, plan: Path, cores: list[int], *options: str) -> float:
    shutil.rmtree(folder / "experiments", ignore_errors=True)
    command = [sys.executable, str(PROJECT / "run_experiments.py"), str(plan), *options]
    started = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | one_thread(),
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return time.perf_counter() - started


def one_thread() -> dict[str, str]:
    from lib.runtime.ray_cluster import ClusterOptions, worker_environment

    return worker_environment(ClusterOptions())


def measure(folder: Path, plan: Path, repeats: int) -> dict[str, list[float]]:
    from ray.cluster_utils import Cluster

    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)  # the workers inherit it
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    times = {AT_ONCE: [], IN_TURN: []}
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        for _ in range(repeats):
            times[AT_ONCE].append(seconds(folder, plan, cores, "--cluster", cluster.address))
            times[IN_TURN].append(seconds(folder, plan, cores[:1]))
            print({name: round(values[-1], 1) for name, values in times.items()}, flush=True)
    finally:
        cluster.shutdown()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=3200, help="an epoch; default: 3200")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two cores are needed")
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = plan_file(folder, arguments.patches)
        prepare(folder, plan)
        times = measure(folder, plan, arguments.repeats)
    medians = {way: statistics.median(values) for way, values in times.items()}
    ratio = medians[AT_ONCE] / medians[IN_TURN]
    machine = f"{platform.processor() or platform.machine()}, two of {os.cpu_count()} cores"
    about = {"machine": machine, "date": time.strftime("%Y-%m-%d")}
    result = {"about": about, "seconds": times, "medians": medians, "ratio": ratio}
    write_text(arguments.result.with_suffix(".json"), json.dumps(result, indent=2) + "\n")
    lines = [
        "# Two trainings at once",
        "",
        f"`python -m benchmarks.experiments_in_parallel`; {machine}, {about['date']}. Two trainings of",
        f"`configurations/demo.txt` (4 epochs of {arguments.patches} patches) and their tests, one core",
        f"each, from the start of `run_experiments.py` to the table; median of {arguments.repeats} in turn.",
        "",
        "| | seconds |",
        "|---|---|",
        *(f"| {way} | {median:.0f} |" for way, median in medians.items()),
        f"| ratio | {ratio:.3f} (wanted: below {WANTED}) |",
        "",
    ]
    write_text(arguments.result.with_suffix(".md"), "\n".join(lines))
    print("\n".join(lines))
    raise SystemExit(0 if ratio < WANTED else 1)


if __name__ == "__main__":
    main()
