"""The Python examples of the page run as they are printed."""

import re
import shutil

import keras
import numpy as np

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from lib.runtime.paths import PROJECT

PAGE = PROJECT / "docs" / "how-to" / "use-from-python.md"
FILE, EXPERIMENT = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_a_file_is_predicted(tmp_path, monkeypatch, capsys):
    write_png(tmp_path / "angiogram.png", synthetic_angiogram(1, 0, 160).image)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(FILE, names)
    shapes = {
        name: getattr(names["prediction"], name) for name in ("original", "field_of_view", "probability")
    }
    assert {name: (a.shape, str(a.dtype)) for name, a in shapes.items()} == {
        "original": ((160, 160), "uint8"),
        "field_of_view": ((160, 160), "uint8"),
        "probability": ((160, 160), "float32"),
    }
    share = names["mask"].sum() / names["prediction"].field_of_view.sum()
    assert names["mask"].dtype == bool and f"ischaemic index {share:.3f}" in capsys.readouterr().out


def test_an_experiment_is_read(tested, tmp_path, monkeypatch):
    _, experiment, _ = tested
    copied = shutil.copytree(experiment.folder, tmp_path / "experiments" / "tested")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(EXPERIMENT.replace("ffa_recommended", copied.name), names)
    assert isinstance(names["model"], keras.Model)
    images = np.zeros((1, 64, 64, names["model"].input_shape[-1]), np.float32)
    assert names["model"].predict_on_batch(images).shape == (1, 64, 64, 1)
    assert names["network"].threshold > 0
