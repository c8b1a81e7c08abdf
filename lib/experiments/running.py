"""Many trainings from one file: what varies, every run an experiment of its own, one table at the end."""

import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import chain
from pathlib import Path

from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.training_lock import FolderLocked
from lib.experiments.plan import Plan, Run
from lib.runtime.errors import UserError
from lib.runtime.ray_cluster import ClusterOptions, cluster_connection, results_as_completed

WAIT_FOR_FOLDER = 60
"""Seconds."""


def run_plan(plan: Plan, cluster: ClusterOptions | None = None) -> tuple[Path, list[str]]:
    """Prepare, train and test every run that is not finished; write the table after each.

    Args:
        plan: what to run.
        cluster: where runs are computed at once; None runs one after the other in this process.

    Returns:
        The table's file, and a line for each run that failed.
    """
    from lib.experiments.pooled_folds import chosen_in_each_fold, read_variants
    from lib.experiments.results_table import write_comparison, write_table

    failures = {}
    for run, failure in _at_once(plan, cluster) if cluster else _one_after_the_other(plan):
        if failure:
            failures[run] = f"{run.name}: {failure}"
        write_table(plan)
    variants = read_variants(plan)
    write_comparison(plan, variants)
    told = [failures[run] for run in plan.runs if run in failures]
    return write_table(plan, [*variants, *chosen_in_each_fold(plan)]), told


def _one_after_the_other(plan: Plan) -> Iterator[tuple[Run, str | None]]:
    for number, run in enumerate(plan.runs, 1):
        print(f"[{number}/{len(plan.runs)}] {run.name}", flush=True)
        failure = carry_out(plan, run)
        if failure:
            print(f"failed: {failure}", flush=True)
        yield run, failure


def _at_once(plan: Plan, cluster: ClusterOptions) -> Iterator[tuple[Run, str | None]]:
    """Carry the runs out on a cluster; yields each when it has ended, with why it failed."""
    with cluster_connection(cluster):
        failed = {run: why for run in plan.runs if (why := _failure(_prepare_fold, plan, run))}
        calls = ((run, (plan, run)) for run in plan.runs if run not in failed)
        carried_out = results_as_completed(carry_out_alone, calls, cluster, own_process=True)
        for number, (run, failure) in enumerate(chain(failed.items(), carried_out), 1):
            ended = failure or "finished"
            print(f"[{number}/{len(plan.runs)}] {run.name}: {ended}", flush=True)
            yield run, failure


def carry_out_alone(plan: Plan, run: Run) -> str | None:
    """`carry_out` in a process of its own, whose console goes to a file in the run's folder."""
    from lib.runtime.keras_startup import start_keras

    start_keras()
    name = read_configuration(plan.base, run.overrides).experiment_name
    name.folder.mkdir(parents=True, exist_ok=True)
    log = name.folder / f"{name.name}_training.nohup"
    with log.open("a", encoding="utf-8") as console, redirect_stdout(console):
        return _failure(_carry_out_when_free, plan, run)


def _carry_out_when_free(plan: Plan, run: Run) -> None:
    """Wait for a machine that was given up: its training may hold the folder for a while."""
    for _ in range(WAIT_FOR_FOLDER // 5):
        try:
            return _carry_out(plan, run)
        except FolderLocked:
            time.sleep(5)
    return _carry_out(plan, run)


def carry_out(plan: Plan, run: Run) -> str | None:
    """Prepare, train and test a run unless it is finished; returns why it failed."""
    return _failure(_carry_out, plan, run)


def _carry_out(plan: Plan, run: Run) -> None:
    import keras

    from lib.evaluation.test_run import test
    from lib.training.train import train

    configuration = read_configuration(plan.base, run.overrides)
    if _finished(configuration):
        return
    _prepare_fold(plan, run)
    keras.backend.clear_session()
    train(configuration)
    test(configuration)


def _failure(step: Callable[[Plan, Run], None], plan: Plan, run: Run) -> str | None:
    try:
        step(plan, run)
    except Exception as error:  # memory, disk, a damaged file: the other runs may still succeed
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return f"{kind}{error}"
    return None


def _finished(configuration: Configuration) -> bool:
    """Whether the run has been tested, under these very settings."""
    name = configuration.experiment_name
    stored = name.folder / f"{name.name}_configuration.txt"
    return (
        (configuration.results_folder / "performances.json").is_file()
        and stored.is_file()
        and read_configuration(stored).texts == configuration.texts
    )


def _prepare_fold(plan: Plan, run: Run) -> None:
    configuration = read_configuration(plan.base, run.overrides)
    if (
        not configuration.preparation.fold
        or (configuration.data_paths.path_local / "split.json").is_file()
    ):
        return
    from lib.datasets import ffa, vessels

    if plan.data_set == "FFA":
        ffa.prepare(configuration)
    else:
        vessels.prepare(configuration, plan.data_set)
