"""A plan: a base configuration, what varies, folds and seeds, as a list of runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path, PurePath

from lib.configuration.experiment_folder import Experiment
from lib.configuration.ini_file import current_key, ini_sections
from lib.configuration.reading import Configuration, completed_texts, read_configuration
from lib.configuration.values import Folds, experiment_name
from lib.datasets.vessel_sets import VESSEL_SETS
from lib.evaluation.performance_report import is_test_of
from lib.runtime.errors import UserError
from lib.training.early_stopping import has_ended

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
"""Characters of values that are replaced in the names of runs."""

DATA_SETS = ("FFA", *VESSEL_SETS)

Texts = Mapping[str, Mapping[str, str]]
"""Settings as they are written, by section and key."""


@dataclass(frozen=True)
class Run:
    """One training and its test.

    Attributes:
        name: name of its experiment.
        variant: the values that [vary] gives it, e.g. "unet"; runs that differ in fold and seed share it.
        seed: seed of the training; None where the plan gives no seeds.
        folds: numbers of the folds that test it, from 1; empty where the plan has no folds.
        configuration: all its settings.
        refused: it failed in this call: an earlier result of it does not count.
    """

    name: str
    variant: str
    seed: int | None
    folds: tuple[int, ...]
    configuration: Configuration = field(compare=False, repr=False)
    refused: bool = field(default=False, compare=False)

    @property
    def experiment(self) -> Experiment:
        """The folder of its training."""
        return Experiment.of(self.configuration)

    @property
    def results(self) -> Experiment:
        """The folder of its test: that of the training, or a folder in it for images of another data set."""
        return Experiment(self.configuration.results_folder, self.name)

    @property
    def is_tested(self) -> bool:
        """Whether its training has ended, and scores and predictions of its test are there."""
        if self.refused:
            return False
        files, configuration, history = self.results, self.configuration, self.experiment.history()
        return (
            files.predictions.is_file()
            and is_test_of(files.performances, configuration, len(history))
            and has_ended(history, configuration.training_settings)
        )


@dataclass(frozen=True)
class Plan:
    """A plan file, read.

    Attributes:
        name: name of the plan, and of the folder that holds its runs.
        data_set: how each fold is prepared, one of `DATA_SETS`; empty without folds.
        runs: all runs, in the order in which they are carried out; at least one.
        reference: published AUC-ROC for each name of a test image.
        reference_source: where these were published.
    """

    name: str
    data_set: str
    runs: tuple[Run, ...]
    reference: Mapping[str, float]
    reference_source: str

    @property
    def folder(self) -> Path:
        """The folder of the runs and of the tables."""
        return self.runs[0].configuration.experiment_name.path_experiments


def read_plan(file: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a plan file; `overrides` of the form "section.key=value" hold for all its runs.

    [experiments] holds `name` and `base` (a configuration, relative to the file); for a cross-validation
    `data_set` and `folds`, and `left_out = 2` if each training leaves out two folds; for repeated trainings
    `seeds`. [settings] holds `section.key = value` for all
    runs. [vary] holds `section.key = value | value ...`: each combination is run with each seed in each
    fold. [reference] holds `source` and a published AUC-ROC for each test image, or `plan`: a file whose
    [reference] holds them.

    Raises:
        UserError: the file, or the configuration of one of its runs, has a fault.
    """
    sections = ini_sections(file, "no such file of experiments", delimiters=("=",))
    if unknown := set(sections) - {"experiments", "settings", "vary", "reference"}:
        raise UserError(
            f"{file}: unknown section [{unknown.pop()}]; known: experiments, settings, vary, reference"
        )
    head = sections.get("experiments", {})
    data_set, folds, left_out = _checked_head(file, head)
    reference = sections.get("reference", {})
    if "plan" in reference:
        reference = _reference_of(file, reference)
    source = reference.pop("source", "")
    base = file.parent / head["base"]
    if not base.is_file():
        raise UserError(
            f"{file}: [experiments] base = {head['base']}: no such file {base}; expected a configuration, "
            "relative to the file of the plan"
        )
    settings = [f"{key}={value}" for key, value in sections.get("settings", {}).items()]
    settings += overrides
    vary = sections.get("vary", {})
    _refuse_settings_without_effect(file, vary, settings, has_folds=folds > 0)
    seeds = _seeds(head.get("seeds", ""), [*settings, *vary], file)
    runs = tuple(_runs(file, head["name"], base, settings, vary, seeds, list(_tested_folds(folds, left_out))))
    for run, number in Counter(run.name for run in runs).items():
        if number > 1:
            raise UserError(f"{file}: [vary] gives {number} runs of the name {run}")
    _refuse_log_files(file, runs)
    if folds:
        _refuse_tests_that_are_not_pooled(file, runs)
    else:
        _refuse_variants_of_the_same_data(file, vary)
    values = {image: _number(v, f"{file}: [reference] {image}") for image, v in reference.items()}
    return Plan(head["name"], data_set, runs, values, source)


def _checked_head(file: Path, head: Mapping[str, str]) -> tuple[str, int, int]:
    """Check [experiments]; returns data set, folds and how many folds are left out."""
    if missing := {"name", "base"} - set(head):
        raise UserError(f"{file}: [experiments] key '{missing.pop()}' is missing")
    if unknown := set(head) - {"name", "base", "data_set", "folds", "left_out", "seeds"}:
        raise UserError(f"{file}: [experiments] unknown key '{unknown.pop()}'")
    folds = _whole_number(head.get("folds") or "0", f"{file}: [experiments] folds")
    left_out = _whole_number(head.get("left_out") or "1", f"{file}: [experiments] left_out")
    if left_out not in (1, 2):
        raise UserError(f"{file}: [experiments] left_out = {left_out}: expected 1 or 2 folds")
    if folds < 3 and (folds, left_out) != (0, 1):
        found = f"folds = {folds}" + (f" with left_out = {left_out}" if "left_out" in head else "")
        raise UserError(
            f"{file}: [experiments] {found}: expected at least 3 folds, for training, validation and test; "
            "or no folds"
        )
    data_set = head.get("data_set", "")
    if folds and data_set not in DATA_SETS:
        raise UserError(
            f"{file}: [experiments] data_set = {data_set!r}: expected one of {', '.join(DATA_SETS)}, "
            "since each fold is prepared separately"
        )
    try:
        experiment_name(head["name"])
    except ValueError as error:
        raise UserError(f"{file}: [experiments] name = {head['name']!r}: expected {error}") from None
    return data_set, folds, left_out


def _refuse_settings_without_effect(
    file: Path, vary: Mapping[str, str], settings: Sequence[str], *, has_folds: bool
) -> None:
    """Refuse keys of [settings] or `--set` that are in [vary] too, and those that the plan itself sets."""
    given = [current_key(*setting.partition("=")[::2]) for setting in settings]
    for key, values in vary.items():
        if (current := current_key(key, values.partition("|")[0])) in given:
            raise UserError(
                f"{file}: [settings] or --set {current}: the plan varies this key (= {values}), so the "
                "setting would have no effect; remove it, or change [vary] in a copy of the plan"
            )
    own = {"experiment name.name": "choose another [experiments] name"}
    if has_folds:
        own["preparation.fold"] = "choose [experiments] folds"
    for key in (*given, *vary):
        if remedy := own.get(key):
            raise UserError(f"{file}: {key}: the plan sets this key in each run; {remedy}")
    if "experiment name.path_experiments" in vary:
        raise UserError(f"{file}: [vary] experiment name.path_experiments: all runs have one folder")


def _refuse_variants_of_the_same_data(file: Path, vary: Mapping[str, str]) -> None:
    """Refuse keys of [vary] that only a preparation follows: without folds, a plan prepares nothing."""
    images = ("data paths.path_images", "data paths.path_negatives")
    for key in vary:
        if (key.startswith("preparation.") or key in images) and "data paths.path_local" not in vary:
            raise UserError(
                f"{file}: [vary] {key}: without folds, all variants would have the same prepared data; give "
                "folds, or prepare each variant and vary data paths.path_local instead"
            )


def _refuse_log_files(file: Path, runs: Sequence[Run]) -> None:
    """Refuse `nohup`: the runs share one process, and one console."""
    for run in runs:
        settings = run.configuration
        if settings.training_settings.nohup or settings.testing_settings.nohup:
            raise UserError(
                f"{file}: nohup = True: expected False in a plan; run `nohup python run_experiments.py ... &`"
            )


def _refuse_tests_that_are_not_pooled(file: Path, runs: Sequence[Run]) -> None:
    """Refuse folds that do not test every image of the data set once; the threshold of two is pooled too."""
    for run in runs:
        if tested := run.configuration.data_paths.path_test:
            raise UserError(
                f"{file}: [data paths] path_test = {tested}: expected none with folds, since every fold "
                "would test the same images"
            )
        limit = run.configuration.testing_settings.full_images_to_test
        if len(run.folds) > 1 and limit != "all":
            raise UserError(
                f"{file}: [testing settings] full_images_to_test = {limit}: expected all with left_out = 2"
            )


def _reference_of(file: Path, reference: Mapping[str, str]) -> dict[str, str]:
    """The [reference] of the plan that [reference] `plan` names."""
    if len(reference) > 1:
        raise UserError(f"{file}: [reference] plan is given: expected no other key")
    other = file.parent / reference["plan"]
    found = ini_sections(other, f"no such file, named by [reference] plan of {file}", delimiters=("=",))
    if not found.get("reference", {}).get("source"):
        raise UserError(f"{other}: expected [reference] with source, since {file} names this file as plan")
    return found["reference"]


def _seeds(text: str, settings: Sequence[str], file: Path) -> list[int | None]:
    """The seeds of training; [None] where the configuration sets the seed."""
    where = f"{file}: [experiments] seeds"
    seeds: list[int | None] = [_whole_number(word, where) for word in text.split()]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where} = {text!r}: expected each seed once")
    if seeds and any(s.partition("=")[0].strip() == "training settings.seed" for s in settings):
        raise UserError(f"{where} and training settings.seed are both given: expected one of them")
    return seeds or [None]


def _runs(
    file: Path,
    name: str,
    base: Path,
    settings: list[str],
    vary: Mapping[str, str],
    seeds: Sequence[int | None],
    tested: Sequence[Folds | None],
) -> Iterator[Run]:
    given_by = f"{file} or --set"
    # Not checked: without [vary], the settings may contradict each other.
    without_vary, _ = completed_texts(base, settings, given_by)
    choices = [[(key, v.strip()) for v in values.split("|")] for key, values in vary.items()]
    for chosen in product(*choices):
        # A weight file is named without its folder and ending.
        shown = [", ".join(map(_without_folder, value.split(","))) for _, value in chosen]
        varied = [
            f"{key.rpartition('.')[2]}-{_NOT_IN_NAMES.sub('-', value)}"
            for (key, _), value in zip(chosen, shown, strict=True)
        ]
        variant = ", ".join(shown) or name
        overrides = [*settings, *(f"{key}={value}" for key, value in chosen)]
        configuration = read_configuration(base, overrides, given_by)
        folder = configuration.experiment_name.path_experiments / name
        overrides.append(f"experiment name.path_experiments={folder}")
        for seed, fold in product(seeds, tested):
            parts, changed = [*varied], [*overrides]
            if seed is not None:
                parts.append(f"seed{seed}")
                changed.append(f"training settings.seed={seed}")
            if fold:
                parts.append("fold" + "-".join(f"{number:02d}" for number in fold.tested))
                changed += _in_fold(configuration, name, fold, without_vary)
            run = "_".join(parts) or "run"
            changed.append(f"experiment name.name={run}")
            yield Run(
                run, variant, seed, fold.tested if fold else (), read_configuration(base, changed, given_by)
            )


def _without_folder(path: str) -> str:
    return PurePath(path.strip()).name.removesuffix(".weights.h5")


def _tested_folds(number: int, left_out: int) -> Iterator[Folds | None]:
    """Every fold, or every two folds, of so many; None for a plan without folds."""
    if not number:
        yield None
    for tested in combinations(range(1, number + 1), left_out) if number else ():
        yield Folds(tested, number)


def _in_fold(configuration: Configuration, name: str, fold: Folds, without_vary: Texts) -> list[str]:
    """Overrides that prepare the fold in a folder of its own, named by fold, folds and seed of the split.

    "stratified" distinguishes it from the folds of version 0.1.0, which were other ones for the same seed.
    A digest of the images and of [preparation] follows if [vary] changes these, so that the variants do not
    share a folder; also with negatives or auxiliary labels. Other folders keep their earlier names.
    """
    local = configuration.data_paths.path_local
    tested = "-".join(map(str, fold.tested))
    packed = f"fold{tested}of{fold.number}_seed{configuration.preparation.split_seed}_stratified"
    further = configuration.data_paths.path_negatives or configuration.preparation.auxiliary_labels
    named = ("fold", "split_seed")  # in the name already
    if further or _digest(configuration.texts, named) != _digest(without_vary, named):
        packed += f"_{_digest(configuration.texts)}"
    return [
        f"preparation.fold={fold}",
        f"data paths.path_local={local.parent / f'{local.name}_{name}' / packed}",
    ]


def _digest(texts: Texts, without: Sequence[str] = ("fold",)) -> str:
    """Eight hexadecimal digits that differ if the prepared images, or how they are prepared, differ."""
    texts = {"preparation": {}, "data paths": {}} | dict(texts)  # the base of a plan may lack them
    one_line = {
        section: {k: " ".join(v.splitlines()).strip() for k, v in texts[section].items()} for section in texts
    }
    preparation = {k: v for k, v in one_line["preparation"].items() if k not in without}
    paths = {key: one_line["data paths"].get(key, "") for key in ("path_images", "path_negatives")}
    text = json.dumps([preparation, paths], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _whole_number(value: str, where: str) -> int:
    if not value.isdecimal():
        raise UserError(f"{where} = {value!r}: expected a whole number")
    return int(value)


def _number(value: str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{where} = {value!r}: expected a number") from None
