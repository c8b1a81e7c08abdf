"""Many trainings from one file: what varies, every run an experiment of its own, one table at the end."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path, PurePath

from lib.configuration.ini_file import ini_sections
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.values import experiment_name
from lib.runtime.errors import UserError
from lib.runtime.ray_cluster import ClusterOptions, connected, outcomes

WAIT_FOR_FOLDER = 60
"""Seconds."""

KEYS = {
    "experiments": {"name", "base", "data_set", "folds", "seeds"},
    "reference": {"source"},
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: of its experiment.
        variant: what distinguishes it but for its fold and seed, e.g. "unet".
        seed: of training, where the plan gives seeds.
        fold: from 1, where the plan has folds.
        overrides: what it lays over the base.
    """

    name: str
    variant: str
    seed: int | None
    fold: int | None
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A file of experiments, read.

    Attributes:
        name: of the whole; its runs lie in a folder of that name.
        base: the configuration that all runs share.
        data_set: FFA, DRIVE, STARE or CHASE_DB1: how each fold is prepared; empty if there are no folds.
        runs: in the order in which they are run.
        reference: published AUC-ROC by name of test image, to stand beside ours.
        reference_source: whose that is.
    """

    name: str
    base: Path
    data_set: str
    runs: tuple[Run, ...]
    reference: Mapping[str, float]
    reference_source: str


def read_plan(file: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a file of experiments; `overrides` of the form "section.key=value" hold for all its runs.

    [experiments] holds `name`, `base` (a configuration, relative to the file), where folds are run
    `data_set` and `folds`, and where trainings are repeated their `seeds`. [settings] holds
    `section.key = value` for all runs; [vary] holds `section.key = value | value ...`, of which every
    combination is run, under every seed, in every fold. [reference] holds `source` and a published AUC
    for each image.

    Raises:
        UserError: not such a file.
    """
    sections = ini_sections(file, "no such file of experiments", delimiters=("=",))
    if unknown := set(sections) - {"experiments", "settings", "vary", "reference"}:
        raise UserError(
            f"{file}: unknown section [{unknown.pop()}]; known: experiments, settings, vary, reference"
        )
    head = sections.get("experiments", {})
    if missing := {"name", "base"} - set(head):
        raise UserError(f"{file}: [experiments] key '{missing.pop()}' is missing")
    if unknown := set(head) - KEYS["experiments"]:
        raise UserError(f"{file}: [experiments] unknown key '{unknown.pop()}'")
    folds = _whole_number(head.get("folds") or "0", f"{file}: [experiments] folds")
    data_set = head.get("data_set", "")
    if folds and data_set not in {"FFA", "DRIVE", "STARE", "CHASE_DB1"}:
        raise UserError(
            f"{file}: [experiments] data_set = {data_set!r}: expected FFA, DRIVE, STARE or CHASE_DB1, "
            "since every fold is prepared anew"
        )
    try:
        experiment_name(head["name"])
    except ValueError as error:
        raise UserError(
            f"{file}: [experiments] name = {head['name']!r}: expected {error}"
        ) from None
    reference = sections.get("reference", {})
    source = reference.pop("source", "")
    base = file.parent / head["base"]
    settings = [f"{key}={value}" for key, value in sections.get("settings", {}).items()]
    settings += overrides
    vary = sections.get("vary", {})
    seeds = _seeds(head.get("seeds", ""), [*settings, *vary], file)
    runs = tuple(_runs(head["name"], base, settings, vary, seeds, folds))
    _check_runs(runs, base, file)
    values = {image: _number(v, f"{file}: [reference] {image}") for image, v in reference.items()}
    return Plan(head["name"], base, data_set, runs, values, source)


def _seeds(text: str, settings: Sequence[str], file: Path) -> list[int | None]:
    """The seeds of training, [None] where the plan leaves them to the configuration."""
    where = f"{file}: [experiments] seeds"
    seeds = [_whole_number(word, where) for word in text.split()]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where} = {text!r}: expected each seed once")
    if seeds and any(s.partition("=")[0].strip() == "training settings.seed" for s in settings):
        raise UserError(f"{where} and training settings.seed are both given: expected one of them")
    return seeds or [None]


def _check_runs(runs: Sequence[Run], base: Path, file: Path) -> None:
    """Before hours are spent on the first of them."""
    for name, number in Counter(run.name for run in runs).items():
        if number > 1:
            raise UserError(f"{file}: [vary] gives {number} runs of the name {name}")
    for run in runs:
        read_configuration(base, run.overrides)


def _runs(
    name: str,
    base: Path,
    settings: list[str],
    vary: Mapping[str, str],
    seeds: Sequence[int | None],
    folds: int,
) -> Iterator[Run]:
    folder = read_configuration(base, settings).experiment_name.path_experiments / name
    choices = [[(key, v.strip()) for v in values.split("|")] for key, values in vary.items()]
    for chosen in product(*choices):
        # Of a file its name will do.
        shown = [PurePath(value).name.removesuffix(".weights.h5") for _, value in chosen]
        varied = [
            f"{key.rpartition('.')[2]}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', value)}"
            for (key, _), value in zip(chosen, shown, strict=True)
        ]
        variant = ", ".join(shown) or name
        overrides = [*settings, *(f"{key}={value}" for key, value in chosen)]
        configuration = read_configuration(base, overrides)
        overrides.append(f"experiment name.path_experiments={folder}")
        for seed, fold in product(seeds, range(1, folds + 1) if folds else [None]):
            parts, changed = [*varied], [*overrides]
            if seed is not None:
                parts.append(f"seed{seed}")
                changed.append(f"training settings.seed={seed}")
            if fold:
                parts.append(f"fold{fold:02d}")
                changed += _in_fold(configuration, name, fold, folds)
            run = "_".join(parts) or "run"
            yield Run(run, variant, seed, fold, (*changed, f"experiment name.name={run}"))


def _in_fold(configuration: Configuration, name: str, fold: int, folds: int) -> list[str]:
    """Overrides that prepare the fold in a folder whose name says all that its split depends on."""
    local = configuration.data_paths.path_local
    packed = f"fold{fold}of{folds}_seed{configuration.preparation.split_seed}"
    return [
        f"preparation.fold={fold}/{folds}",
        f"data paths.path_local={local.parent / f'{local.name}_{name}' / packed}",
    ]


def run_plan(plan: Plan, cluster: ClusterOptions | None = None) -> tuple[Path, list[str]]:
    """Prepare, train and test every run that is not finished; write the table after each.

    Args:
        plan: what to run.
        cluster: where runs are computed at once; None runs one after the other in this process.

    Returns:
        The table's file, and a line for each run that failed.
    """
    from lib.experiment_table import write_comparison, write_table
    from lib.out_of_fold import chosen_in_each_fold, read_variants

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
    with connected(cluster):
        failed = {run: why for run in plan.runs if (why := _failure(_prepare_fold, plan, run))}
        calls = ((run, (plan, run)) for run in plan.runs if run not in failed)
        carried_out = outcomes(carry_out_alone, calls, cluster, own_process=True)
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
    from lib.configuration.experiment_folder import FolderTaken

    for _ in range(WAIT_FOR_FOLDER // 5):
        try:
            return _carry_out(plan, run)
        except FolderTaken:
            time.sleep(5)
    return _carry_out(plan, run)


def carry_out(plan: Plan, run: Run) -> str | None:
    """Prepare, train and test a run unless it is finished; returns why it failed."""
    return _failure(_carry_out, plan, run)


def _carry_out(plan: Plan, run: Run) -> None:
    import keras

    from lib.testing import test
    from lib.training import train

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


def _whole_number(value: str, where: str) -> int:
    if not value.isdecimal():
        raise UserError(f"{where} = {value!r}: expected a whole number")
    return int(value)


def _number(value: str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{where} = {value!r}: expected a number") from None
