"""Test images whose truth is empty or full, or that are constant: from the files to the scores."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lib.datasets.ffa import prepare
from lib.evaluation.test_run import test as run_test
from lib.training.train import train
from tests.conftest import tiny_configuration

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")]


def labelme(points: list) -> str:
    shapes = [{"label": "NP", "points": points, "shape_type": "polygon"}] if points else []
    size = {"imageHeight": 128, "imageWidth": 128, "imageData": None}
    return json.dumps({"imagePath": "a.png", "shapes": shapes, **size})


@pytest.mark.parametrize("tested", [["nothing"], ["all"], ["constant"], ["nothing", "all", "constant"]])
def test_undefined_scores_are_empty_without_a_warning(prepared, tmp_path, tested):
    folder = tmp_path / "angiograms"
    shutil.copytree(prepared / "angiograms", folder)
    pixels = np.random.default_rng(0).integers(60, 200, (3, 128, 128), dtype=np.uint8)
    pixels[2] = 90
    frame = [[0, 0], [127, 0], [127, 127], [0, 127]]
    truths = {"nothing": [], "all": frame, "constant": [[9, 9], [50, 9], [50, 50]]}
    names = sorted(file.stem for file in folder.glob("*.png"))
    for (name, points), image in zip(truths.items(), pixels, strict=True):
        if name in tested:
            Image.fromarray(image).save(folder / f"{name}.png")
            (folder / f"{name}.json").write_text(labelme(points))
    parts = {"train": names[:5], "validation": names[5:], "test": tested}
    split = {"parts": {part: [{"name": n} for n in parts[part]] for part in parts}}
    (tmp_path / "mine.json").write_text(json.dumps(split))
    configuration = tiny_configuration(
        tmp_path, f"preparation.split_file={tmp_path / 'mine.json'}", "training settings.N_epochs=1"
    )
    prepare(configuration)
    experiment = train(configuration)
    evaluation = run_test(configuration)
    with (experiment.folder / "per_image.csv").open(encoding="utf-8-sig") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows.keys() == set(tested)
    for name, row in rows.items():
        assert (row["auc_roc"] in {"", "n/a"}) == (name != "constant")
    if len(tested) == 1:
        assert (evaluation.in_field_of_view.auc_roc is None) == (tested != ["constant"])
        assert ("n/a" in (experiment.folder / "performances.txt").read_text()) or tested == ["constant"]
    assert (experiment.folder / "ROC.png").is_file()
