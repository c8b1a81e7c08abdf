import dataclasses
import json
import shutil
import zipfile

import cv2
import h5py
import keras
import numpy as np
import pytest

from lib.configuration.experiment_folder import Experiment
from lib.datasets.prepared_hdf5 import PreparedImage, read_part, write_part
from lib.networks.from_experiments import read_keras_network
from lib.networks.keras_model import (
    build_model,
    recorded_training_images,
    save_weights,
    trained_model,
    write_experiment_record,
)
from lib.networks.trained_network import TrainingImages, joined
from lib.runtime.errors import UserError
from tests.conftest import tiny_configuration

KERNEL = "layers/conv2d/vars/0"


@pytest.fixture
def configuration(tmp_path):
    return tiny_configuration(tmp_path)


@pytest.fixture
def weights(tmp_path, configuration):
    file = tmp_path / "tiny_best.weights.h5"
    save_weights(build_model(configuration), file)
    return file


def replace(file, dataset, value) -> None:
    with h5py.File(file, "a") as store:
        del store[dataset]
        store[dataset] = value


def link_to_another_file(file):
    shutil.copy(file, file.with_name("secret.h5"))
    replace(file, KERNEL, h5py.ExternalLink("secret.h5", KERNEL))


def link_to_a_group(file):
    with h5py.File(file, "a") as store:
        store["layers/more"] = h5py.SoftLink("/layers")


def external_storage(file):
    with h5py.File(file, "a") as store:
        shape = store[KERNEL].shape
        del store[KERNEL]
        raw = file.with_name("secret.raw")
        raw.write_bytes(bytes(4 * int(np.prod(shape))))
        external = [(str(raw), 0, h5py.h5f.UNLIMITED)]
        store.create_dataset(KERNEL, shape, "float32", external=external)


def virtual_dataset(file):
    shutil.copy(file, file.with_name("secret.h5"))
    with h5py.File(file, "a") as store:
        shape = store[KERNEL].shape
        del store[KERNEL]
        layout = h5py.VirtualLayout(shape, "float32")
        layout[...] = h5py.VirtualSource("secret.h5", KERNEL, shape)
        store.create_virtual_dataset(KERNEL, layout)


def huge_dataset(file):
    with h5py.File(file, "a") as store:
        del store[KERNEL]
        store.create_dataset(KERNEL, (10**6, 10**6), "float32")


def text_instead_of_numbers(file):
    replace(file, KERNEL, np.array([b"x" * 1000] * 36))


def more_layers(file):
    with h5py.File(file, "a") as store:
        store["layers/of_a_later_version/vars/0"] = np.zeros(7, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (link_to_another_file, "is a link"),
        (link_to_a_group, "layers/more is a link"),
        (external_storage, "keeps its content in other files"),
        (virtual_dataset, "keeps its content in other files"),
        (huge_dataset, r"100000000\d+ numbers in the file, 1645 in the network"),
        (text_instead_of_numbers, "holds no numbers"),
        (more_layers, "1652 numbers in the file, 1645 in the network"),
    ],
)
def test_weights_that_refer_to_other_files_or_do_not_fit_are_refused(configuration, weights, change, reason):
    trained_model(configuration, weights)
    change(weights)
    with pytest.raises(
        UserError, match=rf"tiny_best\.weights\.h5: not the weights of this network .*{reason}"
    ):
        trained_model(configuration, weights)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_saved_model_with_code_is_refused_and_its_code_does_not_run(configuration, weights, ending, capfd):
    code = keras.layers.Lambda(lambda x: print("executed") or x)
    model = keras.Sequential([keras.Input((4,)), code, keras.layers.Dense(2)])
    whole = weights.with_name(f"model.{ending}")
    model.save(whole)
    capfd.readouterr()
    weights.write_bytes(whole.read_bytes())
    assert zipfile.is_zipfile(weights) == (ending == "keras")
    with pytest.raises(UserError, match=r"tiny_best\.weights\.h5: not the weights"):
        trained_model(configuration, weights)
    assert "executed" not in capfd.readouterr().out


def test_a_full_disk_is_one_line_and_the_process_continues(configuration, tmp_path, small_files_only):
    file = tmp_path / "a.weights.h5"
    with (
        small_files_only(20_000),
        pytest.raises(UserError, match=r"a\.weights\.h5: cannot be written: File too large; is the disk"),
    ):
        save_weights(build_model(configuration), file)
    assert not list(tmp_path.iterdir())


def test_scale_and_colour_of_the_training_images_are_recorded(tested):
    configuration, experiment, _ = tested
    images = list(read_part(configuration.data_paths.hdf5("train")))
    inside = [image.field_of_view for image in images]
    sizes = [max(np.ptp(np.flatnonzero(f.any(0))), np.ptp(np.flatnonzero(f.any(1)))) + 1 for f in inside]
    assert recorded_training_images(experiment) == TrainingImages(min(sizes), max(sizes), colour=False)
    network, _ = read_keras_network(experiment)
    assert network.training_images == recorded_training_images(experiment)


def test_with_validation_by_patches_the_images_of_both_parts_are_recorded(tmp_path, configuration):
    settings = dataclasses.replace(configuration.training_settings, validation="patches")
    configuration = dataclasses.replace(configuration, training_settings=settings)
    experiment = Experiment.of(configuration)
    for part, diameter in (("train", 40), ("validation", 60)):
        inside = cv2.circle(np.zeros((64, 64), np.uint8), (32, 32), diameter // 2, 1, -1)
        image = PreparedImage("a", "a", 100 * inside, 0 * inside, inside)
        configuration.data_paths.hdf5(part)[0].parent.mkdir(exist_ok=True)
        write_part(configuration.data_paths.hdf5(part), [image], (1, 64, 64, 3))
    configuration.data_paths.split.touch()
    write_experiment_record(experiment, configuration, build_model(configuration))
    assert recorded_training_images(experiment) == TrainingImages(41, 61, colour=False)


def test_an_experiment_of_an_earlier_version_has_no_record_of_its_images(tested, tmp_path):
    _, experiment, _ = tested
    older = Experiment(tmp_path, experiment.name)
    assert recorded_training_images(older) is None
    content = experiment.training_record()
    del content["training_images"]
    older.versions.write_text(json.dumps(content))
    assert recorded_training_images(older) is None


def test_the_images_of_an_ensemble_are_those_of_all_its_networks():
    small, large = TrainingImages(50, 60, colour=False), TrainingImages(90, 99, colour=True)
    assert joined([small, large]) == TrainingImages(50, 99, colour=True)
    assert joined([small, None]) is None
