"""Carry out the runs of a plan, one after the other or on a cluster, and write its tables."""

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from itertools import chain
from pathlib import Path

from lib.configuration.experiment_folder import refuse_other_split
from lib.configuration.folder_lock import FolderLocked
from lib.configuration.sections import Configuration, Preparation
from lib.datasets import ffa, vessels
from lib.datasets.leakage import refuse_other_initial_weights
from lib.experiments.plan import Plan, Run
from lib.experiments.pooled_folds import best_in_each_fold, read_variants
from lib.experiments.results_table import write_comparison, write_table
from lib.images.checked_files import file_sha256
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.errors import UserError, raise_all
from lib.runtime.keras_startup import start_keras
from lib.runtime.ray_cluster import ClusterOptions, cluster_connection, results_as_completed

PREPARED_WITH = "prepared_with.json"
"""Name of the file, in the folder of a prepared fold, with the settings of its preparation."""

CONTENT = "[data paths] content of the images, truths and fields of view"
"""Key of that file for the SHA-256 of all files that the preparation reads."""

SPLIT_CONTENT = "[preparation] content of split_file"
"""Key of that file for the SHA-256 of the given split; files of earlier versions lack it."""

WAIT_FOR_FOLDER = 60
"""Seconds for which a run waits while another process holds the lock of its folder."""


def run_plan(plan: Plan, cluster: ClusterOptions | None = None) -> tuple[Path, list[str]]:
    """Prepare, train and test each run that is not finished; write the table after each.

    A cluster carries out several runs at once; without one, this process carries out one after the other.

    Returns:
        The table's file, and one line for each run that failed.
    """
    failures, counted = {}, plan
    for run, failure in _on_cluster(plan, cluster) if cluster else _one_by_one(plan):
        if failure:
            failures[run] = f"{run.name}: {failure}"
        runs = tuple(dataclasses.replace(run, refused=run in failures) for run in plan.runs)
        counted = dataclasses.replace(plan, runs=runs)
        write_table(counted)
    variants = read_variants(counted)
    write_comparison(counted, variants)
    table = write_table(counted, [*variants, *best_in_each_fold(counted)])
    return table, [failures[run] for run in plan.runs if run in failures]


def _one_by_one(plan: Plan) -> Iterator[tuple[Run, str | None]]:
    """Carry out one run after the other; yields each with the reason why it failed, if it did."""
    for number, run in enumerate(plan.runs, 1):
        print(f"[{number}/{len(plan.runs)}] {run.name}", flush=True)
        failure = carry_out(plan, run)
        if failure:
            print(f"failed: {failure}", flush=True)
        yield run, failure


def _on_cluster(plan: Plan, cluster: ClusterOptions) -> Iterator[tuple[Run, str | None]]:
    """Carry out the runs on a cluster; yields each when it has ended, as `_one_by_one` does."""
    with cluster_connection(cluster):
        failed = {run: why for run in plan.runs if (why := _failure(_prepare_fold, plan, run))}
        calls = ((run, (plan, run)) for run in plan.runs if run not in failed)
        ended = results_as_completed(carry_out_alone, calls, cluster, own_process=True)
        for number, (run, failure) in enumerate(chain(failed.items(), ended), 1):
            print(f"[{number}/{len(plan.runs)}] {run.name}: {failure or 'finished'}", flush=True)
            yield run, failure


def carry_out_alone(plan: Plan, run: Run) -> str | None:
    """`carry_out` in a process of its own; its console is appended to a file in the folder of the run."""
    start_keras()
    run.experiment.folder.mkdir(parents=True, exist_ok=True)
    log = run.experiment.file("_training.nohup")
    with log.open("a", encoding="utf-8") as console, redirect_stdout(console):
        return _failure(_carry_out_when_unlocked, plan, run)


def _carry_out_when_unlocked(plan: Plan, run: Run) -> None:
    """Wait for a lock: a machine that the cluster gave up may still be training in the folder."""
    for _ in range(WAIT_FOR_FOLDER // 5):
        try:
            return _carry_out(plan, run)
        except FolderLocked:
            time.sleep(5)
    return _carry_out(plan, run)


def carry_out(plan: Plan, run: Run) -> str | None:
    """Prepare, train and test a run unless it is finished; returns why it failed, None if it did not."""
    return _failure(_carry_out, plan, run)


def _carry_out(plan: Plan, run: Run) -> None:
    if _is_tested_without_data(run):
        return
    _prepare_fold(plan, run)
    if run.experiment.history():
        refuse_other_initial_weights(run.experiment, run.configuration)
    if run.is_tested:
        refuse_other_split(run.experiment, run.configuration)
        return
    # Only now: a process of a cluster starts Keras itself, with its own number of threads.
    from lib.experiments.train_and_test import train_and_test

    train_and_test(run.configuration)


def _failure(step: Callable[[Plan, Run], None], plan: Plan, run: Run) -> str | None:
    try:
        step(plan, run)
    except Exception as error:  # memory, disk, a damaged file: the other runs may still succeed
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return f"{kind}{error}"
    return None


def _prepare_fold(plan: Plan, run: Run) -> None:
    """Prepare the data of a run, unless an earlier run has prepared the same, or the run needs them no more.

    Raises:
        UserError: as `prepare`; or the data were prepared from other images or with other settings.
    """
    paths = run.configuration.data_paths
    if not run.folds or _is_tested_without_data(run):
        return
    record, settings = paths.path_local / PREPARED_WITH, _settings_of_preparation(plan, run.configuration)
    if not paths.split.is_file():
        if plan.data_set == "FFA":
            ffa.prepare(run.configuration)
        else:
            vessels.prepare(run.configuration, plan.data_set)
        write_text(record, json.dumps(settings, indent=2) + "\n")
    elif record.is_file():  # earlier versions did not write it
        _refuse_other_preparation(record, settings)


def _is_tested_without_data(run: Run) -> bool:
    """Whether a run is finished, and its prepared data were deleted since."""
    return run.is_tested and not run.configuration.data_paths.split.is_file()


def _refuse_other_preparation(record: Path, settings: Mapping[str, str]) -> None:
    """Refuse a prepared fold whose record has other settings, or another content, than `settings`."""
    stored = read_json(record, f"delete {record.parent}: it is prepared again")
    # Images, or the given split, were removed since; or the record is of an earlier version.
    unknown = {CONTENT} - settings.keys() | {SPLIT_CONTENT} - (settings.keys() & stored.keys())
    keys = sorted((settings.keys() | stored.keys()) - unknown)
    raise_all(
        [
            f"{key} = {settings.get(key, 'default')}, prepared with {stored.get(key, 'default')}"
            for key in keys
            if settings.get(key) != stored.get(key)
        ],
        f"{record.parent} was prepared with other settings; restore them, delete this folder, or choose "
        "another [experiments] name",
    )


def _settings_of_preparation(plan: Plan, configuration: Configuration) -> dict[str, str]:
    """What the prepared images depend on, except the fold, which is in the name of their folder.

    Keys of [preparation] that have the value of files without them are left out: later versions have more.
    """
    texts = configuration.texts["preparation"]
    settings = {
        f"[preparation] {item.name}": texts[item.name]
        for item in dataclasses.fields(Preparation)
        if item.name != "fold" and texts[item.name] != item.metadata["absent"]
    }
    split_file = configuration.preparation.split_file
    if split_file and split_file.is_file():
        settings[SPLIT_CONTENT] = file_sha256(split_file)
    with suppress(UserError):  # a folder of images was removed
        files = _source_files(plan, configuration)
        settings[CONTENT] = _content_sha256(tuple((file, file.stat().st_mtime_ns) for file in files))
    return settings


def _source_files(plan: Plan, configuration: Configuration) -> list[Path]:
    """The images of a data set, with the files of their truths and fields of view."""
    paths = configuration.data_paths
    if plan.data_set == "FFA":
        found = [*ffa.find_angiograms(paths.path_images)[0]]
        for folder in paths.path_negatives:
            found += ffa.find_angiograms(folder, negative=True)[0]
        files = [file for a in found for file in (a.image, a.truth, a.field_of_view)]
    else:
        photographs = vessels.find_photographs(paths.path_images, plan.data_set)[0]
        files = [f for p in photographs for f in (p.image, p.truth, p.second_observer, p.field_of_view)]
    return [file for file in files if file]


@functools.lru_cache(maxsize=8)  # it is compared before each run
def _content_sha256(files: tuple[tuple[Path, int], ...]) -> str:
    """SHA-256 of the names and contents of files."""
    lines = [f"{file.name} {file_sha256(file)}" for file, _ in files]
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()
