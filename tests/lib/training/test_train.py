import csv
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import log_loss, roc_auc_score

import models.unet
from lib.configuration.experiment_folder import Experiment
from lib.configuration.folder_lock import results_lock, training_lock
from lib.networks.batches import BATCH_SIZES
from lib.networks.keras_model import build_model, trained_model
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.training.callbacks import ProgressBar
from lib.training.early_stopping import TrainingState
from lib.training.patch_sampler import PatchSampler
from lib.training.train import train
from lib.training.training_patches import training_images
from tests.conftest import tiny_configuration, tiny_settings
from tests.hungry_layer import hungry


def history(folder) -> list[dict]:
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def trained(prepared):
    return train(tiny_configuration(prepared, "experiment name.name=whole", "model.dropout=0.3"))


def test_all_files_are_in_the_folder(trained):
    found = {file.name for file in trained.folder.iterdir()}
    assert found >= {
        "whole_configuration.txt",
        "split.json",
        "whole_architecture.json",
        "whole_summary.txt",
        "whole_versions.json",
        "whole_best.weights.h5",
        "whole_last.weights.h5",
        "history.csv",
        "learning_curves.png",
        "sample_input_imgs.png",
        "sample_input_masks.png",
    }
    assert not [name for name in found if name.startswith(".")]  # no temporary file
    rows = history(trained.folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert set(rows[0]) == {"epoch", "loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc"}
    about = json.loads(trained.file("_versions.json").read_text())
    assert about["parameters"] > 0 and about["versions"]["keras"]
    with Image.open(trained.folder / "learning_curves.png") as picture:
        picture.verify()


def test_a_resumed_training_gives_the_same_result(prepared, trained):
    name = "experiment name.name=cut"
    train(tiny_configuration(prepared, name, "model.dropout=0.3", "training settings.N_epochs=1"))
    cut = train(tiny_configuration(prepared, name, "model.dropout=0.3"))
    assert history(cut.folder) == history(trained.folder)
    assert_same_weights(cut, trained)


def test_without_validation_all_epochs_are_trained_and_the_last_one_is_the_best(prepared, trained, capsys):
    settings = (
        "model.dropout=0.3",
        "training settings.validation=none",
        "training settings.patience=1",
        "testing settings.threshold=0.5",
    )
    experiment = train(tiny_configuration(prepared, "experiment name.name=alone", *settings))
    rows = history(experiment.folder)
    kept = ("epoch", "loss", "accuracy", "auc")
    assert rows == [{name: row[name] for name in kept} for row in history(trained.folder)]
    best, last = (arrays(experiment.weights(which)) for which in ("best", "last"))
    assert all(np.array_equal(best[name], last[name]) for name in best)
    assert "no validation: the last epoch counts as the best" in capsys.readouterr().out


def arrays(file) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(file) as store:
        store.visititems(lambda k, v: found.update({k: v[()]} if hasattr(v, "shape") else {}))
    return found


def assert_same_weights(one, other) -> None:
    for which in ("best", "last"):
        first, second = arrays(one.weights(which)), arrays(other.weights(which))
        assert first.keys() == second.keys() and first
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_a_killed_training_gives_the_same_result_when_resumed(prepared, trained, delay):
    name, epochs = f"killed_{delay}", 3
    settings = [f"experiment name.name={name}", "model.dropout=0.3"]
    command = [sys.executable, str(PROJECT / "run_training.py")]
    command += ["--config", str(PROJECT / "configurations" / "demo.txt")]
    command += [part for s in [*tiny_settings(prepared), *settings] for part in ("--set", s)]
    checkpoint = prepared / "experiments" / name / f"{name}_checkpoint.npz"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with np.load(checkpoint) as content:
        done = len(json.loads(content["state"].tobytes())["history"])
    assert 0 < done < epochs  # there is a checkpoint, and epochs are left
    again = train(tiny_configuration(prepared, *settings))
    assert history(again.folder) == history(trained.folder)
    assert_same_weights(again, trained)


def test_resuming_with_other_settings_is_refused(prepared, trained):
    changed = ["experiment name.name=whole", "model.dropout=0.1"]
    with pytest.raises(UserError, match=r"\[model\] dropout = 0\.1, trained with 0\.3"):
        train(tiny_configuration(prepared, *changed))


def measured(prepared, experiment, which: str, *overrides: str) -> tuple[float, float]:
    """AUC and loss of the stored weights on the validation patches, which are cut by slicing."""
    configuration = tiny_configuration(prepared, *overrides)
    model = build_model(configuration)
    model.load_weights(experiment.weights(which))
    images = training_images(configuration)["validation"]
    corners = PatchSampler(images, 32, 32).draw(60, np.random.default_rng([2025, 2]))
    truth, patches, inside = [], [], []
    for index, row, column in zip(corners.image, corners.row, corners.column, strict=True):
        window = (slice(row, row + 32), slice(column, column + 32))
        patches.append(images[index].levels[window].astype(np.float32) / 255)
        inside.append(images[index].field_of_view[window].ravel() > 0)
        truth.append(images[index].truth[window].ravel())
    # Batches as in the training: other ones round otherwise, which changes the order of nearly equal scores.
    scores = model.predict(np.stack(patches), batch_size=16, verbose=0).ravel()
    truth, inside = map(np.concatenate, (truth, inside))
    return roc_auc_score(truth[inside], scores[inside]), log_loss(truth, scores)


def test_recorded_auc_and_loss_are_exact(prepared, trained):
    auc, loss = measured(prepared, trained, "last", "model.dropout=0.3")
    row = history(trained.folder)[-1]
    assert float(row["val_auc"]) == pytest.approx(auc, abs=1e-6)
    assert float(row["val_loss"]) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("best_by", ["auc", "loss"])
def test_the_best_weights_belong_to_the_best_epoch(prepared, best_by):
    settings = [f"experiment name.name=best_{best_by}", f"training settings.best_by={best_by}"]
    settings += ["training settings.learning_rate=0.05"]  # so high that the results go up and down
    experiment = train(tiny_configuration(prepared, *settings))
    auc, loss = measured(prepared, experiment, "best")
    rows = history(experiment.folder)
    if best_by == "auc":
        assert auc == pytest.approx(max(float(row["val_auc"]) for row in rows), abs=1e-6)
    else:
        assert loss == pytest.approx(min(float(row["val_loss"]) for row in rows), rel=1e-4)


def test_a_training_stops_when_no_epoch_is_better(prepared, capsys):
    # With such a low learning rate the first epoch stays the best.
    settings = ["experiment name.name=still", "training settings.learning_rate=1e-30"]
    settings += ["training settings.N_epochs=9", "training settings.patience=2"]
    experiment = train(tiny_configuration(prepared, *settings))
    assert len(history(experiment.folder)) == 3
    assert "no better epoch for 2 epochs; best epoch 1" in capsys.readouterr().out


def test_a_diverging_training_stops_without_a_checkpoint(prepared):
    settings = ["experiment name.name=wild", "training settings.optimizer=adam"]
    settings += ["training settings.learning_rate=1e38"]
    where = r"epoch 1, step [23] of 3: loss (nan|inf) on patches of .*: the training has diverged; lower"
    with pytest.raises(UserError, match=where):
        train(tiny_configuration(prepared, *settings))
    assert not (prepared / "experiments" / "wild" / "wild_checkpoint.npz").exists()


@pytest.mark.parametrize(("auc", "constant"), [(0.5, True), (0.501, False)])
def test_the_line_of_an_epoch_says_if_all_probabilities_are_equal(prepared, capsys, auc, constant):
    row = {"epoch": 1, "loss": 1.88, "auc": auc, "seconds": 3.0}
    bar = ProgressBar(tiny_configuration(prepared).training_settings, 0)
    bar.print_epoch(TrainingState([row], best_epoch=1))
    line = capsys.readouterr().out
    assert line.startswith("epoch   1/") and line.rstrip().endswith("lower learning_rate") == constant


def test_a_second_training_in_the_folder_is_refused(prepared):
    configuration = tiny_configuration(prepared, "experiment name.name=taken")
    with (
        training_lock(Experiment.of(configuration)),
        pytest.raises(UserError, match=r"taken: another training is running in it \(process"),
    ):
        train(configuration, fresh=True)


@pytest.mark.parametrize("results", [".", "on_others"])
def test_fresh_is_refused_while_a_test_writes_its_results(prepared, results):
    configuration = tiny_configuration(prepared, f"experiment name.name=tested_{len(results)}")
    experiment = Experiment.of(configuration)
    with (
        results_lock(experiment.folder / results),
        pytest.raises(UserError, match=r"a test writes into it \(process"),
    ):
        train(configuration, fresh=True)


def test_fresh_removes_the_checkpoint_first_and_allows_brackets_in_names(tmp_path):
    """After a kill during the removal, no training may continue from the files that are left."""
    experiment = Experiment(tmp_path, "a[1]")
    for name in ("a[1]_checkpoint.npz", "a[1]_configuration.txt", "a[1]_training.nohup", "a1_x"):
        (tmp_path / name).touch()
    experiment.clear()
    assert {f.name for f in tmp_path.iterdir()} == {"a[1]_training.nohup", "a1_x"}
    (tmp_path / "a[1]_checkpoint.npz").touch()
    (tmp_path / "a[1]_configuration.txt").mkdir()  # a folder cannot be removed like a file
    with pytest.raises(OSError):
        experiment.clear()
    assert not experiment.checkpoint.exists()


def test_fresh_removes_the_files_of_the_training_before(prepared):
    first = train(tiny_configuration(prepared, "experiment name.name=again"))
    (first.folder / "ROC.png").write_bytes(b"old")
    with pytest.raises(UserError, match="diverged"):
        train(
            tiny_configuration(
                prepared,
                "experiment name.name=again",
                "training settings.optimizer=adam",
                "training settings.learning_rate=1e38",
            ),
            fresh=True,
        )
    assert not first.weights("best").exists() and not (first.folder / "ROC.png").exists()


def test_too_little_memory_is_one_line_and_keeps_the_files_of_the_epochs_before(prepared, monkeypatch):
    settings = "experiment name.name=hungry"
    folder = train(tiny_configuration(prepared, settings, "training settings.N_epochs=1")).folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    build = models.unet.build
    monkeypatch.setattr(models.unet, "build", lambda **options: hungry(build(**options), 15))
    with pytest.raises(
        UserError, match=r"^not enough memory on cpu:0 at \[training settings\] batch_size = 16: .*$"
    ):
        train(tiny_configuration(prepared, settings))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    monkeypatch.undo()
    assert len(history(train(tiny_configuration(prepared, settings)).folder)) == 3


def test_a_measured_batch_size_holds_for_the_whole_training(prepared, capsys):
    def automatic(epochs):
        return tiny_configuration(
            prepared,
            "experiment name.name=automatic",
            "training settings.batch_size=auto",
            f"training settings.N_epochs={epochs}",
        )

    experiment = train(automatic(1))
    size = json.loads(experiment.versions.read_text())["batch_size"]
    assert f"batch_size = auto: {size} patches a step" in capsys.readouterr().out
    assert size in BATCH_SIZES
    versions = json.loads(experiment.versions.read_text()) | {
        "batch_size": 24
    }  # as if measured on another machine
    experiment.versions.write_text(json.dumps(versions))
    train(automatic(2))
    assert "batch_size = auto: 24 patches a step" in capsys.readouterr().out
    assert len(history(experiment.folder)) == 2


def test_a_training_starts_with_the_given_weights(prepared, trained):
    def started(*overrides):
        return train(
            tiny_configuration(
                prepared,
                "experiment name.name=started",
                "training settings.N_epochs=1",
                "training settings.learning_rate=1e-12",
                *overrides,
            ),
            fresh=True,
        )

    experiment = started(f"training settings.initial_weights={trained.weights('best')}")
    with (
        h5py.File(experiment.weights("best")) as started_file,
        h5py.File(trained.weights("best")) as trained_file,
    ):
        names = []
        trained_file.visititems(lambda n, item: names.append(n) if hasattr(item, "shape") else None)
        assert names
        for name in names:
            np.testing.assert_allclose(started_file[name][()], trained_file[name][()], atol=1e-6)
    with pytest.raises(UserError, match="not the weights of this network"):
        started(f"training settings.initial_weights={trained.weights('best')}", "model.filters=4 6")
    with pytest.raises(UserError, match=r"nowhere/split\.json: no such file"):
        started("training settings.initial_weights=/nowhere/a.weights.h5")
    experiment.checkpoint.unlink()
    experiment.history_file.write_text("epoch,loss\n1,0.3\n2,0.2\n")
    with pytest.raises(UserError, match=r"best\.weights\.h5 exists, but no checkpoint .* --fresh"):
        train(tiny_configuration(prepared, "experiment name.name=started"))
    own = experiment.weights("best")
    with pytest.raises(UserError, match="is in the folder of this experiment, whose files a new training"):
        started(f"training settings.initial_weights={own}")
    assert own.is_file()


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_weights_without_a_checkpoint_are_kept_whatever_their_history(prepared, epochs):
    settings = [f"experiment name.name=copied{epochs}", f"training settings.N_epochs={max(epochs, 1)}"]
    experiment = Experiment.of(tiny_configuration(prepared, *settings))
    experiment.folder.mkdir(parents=True)
    experiment.weights("best").touch()
    if epochs:
        rows = "".join(f"{epoch + 1},0.7\n" for epoch in range(epochs))
        experiment.history_file.write_text(f"epoch,val_auc\n{rows}")
    with pytest.raises(UserError, match=r"best\.weights\.h5 exists, but no checkpoint"):
        train(tiny_configuration(prepared, *settings))
    assert experiment.weights("best").is_file()


def test_a_resumed_training_with_negatives_and_an_auxiliary_loss_gives_the_same_result(
    with_negatives, capsys
):
    folder, settings = with_negatives
    settings = [*settings, "training settings.auxiliary_loss_weight=0.5"]
    settings += ["training settings.negatives_share=0.25", "model.dropout=0.3"]
    whole = train(tiny_configuration(folder, *settings, "experiment name.name=auxiliary"))
    assert "3 of 7 training images are negatives; 25% of the patches" in capsys.readouterr().out
    settings.append("experiment name.name=auxiliary_cut")
    train(tiny_configuration(folder, *settings, "training settings.N_epochs=1"))
    cut = train(tiny_configuration(folder, *settings))
    assert history(cut.folder) == history(whole.folder)
    assert_same_weights(cut, whole)
    # The weights for prediction are those of the network alone.
    configuration = tiny_configuration(folder, *settings)
    trained_model(configuration, whole.weights("best"))
    with pytest.raises(UserError, match=r"auxiliary_labels = other: .* was trained with BRVO"):
        train(tiny_configuration(folder, *settings, "preparation.auxiliary_labels=other"))
    with_loss = [float(row["loss"]) for row in history(whole.folder)]
    settings += ["experiment name.name=without", "training settings.auxiliary_loss_weight=0"]
    without = train(tiny_configuration(folder, *settings, "training settings.N_epochs=1"))
    # At first all outputs are near 0.5: the second loss adds about half of the first.
    assert with_loss[0] > 1.2 * float(history(without.folder)[0]["loss"])
