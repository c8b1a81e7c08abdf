"""A plan: a base configuration, what varies, folds and seeds, as a list of runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePath

from lib.configuration.ini_file import ini_sections
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.values import experiment_name
from lib.runtime.errors import UserError

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


def _whole_number(value: str, where: str) -> int:
    if not value.isdecimal():
        raise UserError(f"{where} = {value!r}: expected a whole number")
    return int(value)


def _number(value: str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{where} = {value!r}: expected a number") from None
