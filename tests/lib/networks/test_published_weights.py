import dataclasses
import hashlib
import json

import h5py
import keras
import numpy as np
import pytest
from scipy.signal import convolve2d

import models
from lib.configuration.experiment_folder import Experiment
from lib.datasets.vessels import prepare
from lib.networks.published_weights import import_published_weights, retina_unet_weights
from lib.runtime.errors import UserError
from tests.lib.datasets.test_vessels import configuration, drive

SHAPES = [(32, 1), (32, 32), (64, 32), (64, 64), (128, 64), (128, 128)]
SHAPES += [(64, 192), (64, 64), (32, 96), (32, 32), (2, 32)]


@pytest.fixture
def published(tmp_path):
    """A file in the format of the original, with random numbers."""
    generator = np.random.default_rng(0)
    file = tmp_path / "test_best_weights.h5"
    with h5py.File(file, "w") as store:
        for number, (outputs, inputs) in enumerate(SHAPES, 1):
            layer = store.create_group(f"convolution2d_{number}")
            side = 1 if number == 11 else 3
            kernel = generator.normal(0, (inputs * side**2) ** -0.5, (outputs, inputs, side, side))
            layer[f"convolution2d_{number}_W"] = kernel.astype(np.float32)
            layer[f"convolution2d_{number}_b"] = generator.normal(0, 0.1, outputs)
    return file


def theano_network(file, image):
    """The original network, computed with scipy: image (H, W) to probability of class 1 (H, W)."""
    with h5py.File(file) as store:
        layers = [
            [store[f"convolution2d_{n}/convolution2d_{n}_{which}"][...] for which in "Wb"]
            for n in range(1, 12)
        ]

    def convolution(x, number):
        kernel, bias = layers[number - 1]
        planes = [
            sum(convolve2d(x[i], kernel[o, i], mode="same") for i in range(len(x))) + bias[o]
            for o in range(len(bias))
        ]
        return np.maximum(planes, 0)

    def pool(x):
        return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max(axis=(2, 4))

    def up(x):
        return x.repeat(2, axis=1).repeat(2, axis=2)

    first = convolution(convolution(image[None], 1), 2)
    second = convolution(convolution(pool(first), 3), 4)
    x = convolution(convolution(pool(second), 5), 6)
    x = convolution(convolution(np.concatenate([up(x), second]), 7), 8)
    x = convolution(convolution(np.concatenate([up(x), first]), 9), 10)
    classes = np.exp(convolution(x, 11))
    return classes[1] / classes.sum(axis=0)


def test_the_imported_network_agrees_with_the_original_in_each_pixel(published):
    network = models.build("retina_unet", filters=(32, 64, 128), dropout=0.2)
    network.set_weights(list(retina_unet_weights(published)))
    image = np.random.default_rng(1).random((12, 16), dtype=np.float32)
    ours = keras.ops.convert_to_numpy(network(image[None, ..., None], training=False))[0, ..., 0]
    expected = theano_network(published, image)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_an_import_is_an_experiment_with_its_source_and_its_training_images(published, tmp_path):
    settings = configuration(drive(tmp_path), "DRIVE", "experiment name.name=published")
    with pytest.raises(
        UserError,
        match=r"split\.json: no such file; expected the prepared set DRIVE; run prepare_datasets_vessels",
    ):
        import_published_weights(settings, published)
    assert not Experiment.of(settings).folder.exists()
    prepare(settings, "DRIVE")
    import_published_weights(settings, published)
    experiment = Experiment.of(settings)
    source = json.loads(experiment.source.read_text())
    assert source["sha256"] == hashlib.sha256(published.read_bytes()).hexdigest()
    trained_on = json.loads(experiment.split.read_text())["parts"]["train"]
    assert sorted(m["name"] for m in trained_on) == [f"{n}_training" for n in range(21, 41)]
    assert experiment.weights("best").is_file() and experiment.configuration.is_file()
    import_published_weights(settings, published)  # the same file again
    other_scale = dataclasses.replace(settings.preprocessing, field_of_view_diameter=540)
    with pytest.raises(UserError, match=r"the same weights with another \[preprocessing\]; choose another"):
        import_published_weights(dataclasses.replace(settings, preprocessing=other_scale), published)
    with h5py.File(published, "a") as store:
        store["convolution2d_1/convolution2d_1_b"][0] = 1
    before = experiment.weights("best").read_bytes()
    with pytest.raises(UserError, match="holds the weights of another file; choose another --experiment"):
        import_published_weights(settings, published)
    assert experiment.weights("best").read_bytes() == before


def test_the_error_for_another_file(published, tmp_path):
    with h5py.File(published, "a") as store:
        del store["convolution2d_7"]
    with pytest.raises(UserError, match="not retina-unet's published weights"):
        list(retina_unet_weights(published))
    other = tmp_path / "other.h5"
    other.write_text("text")
    with pytest.raises(UserError, match="not retina-unet's published weights"):
        list(retina_unet_weights(other))


def test_the_real_file_has_the_published_number_of_parameters(shared_data):
    arrays = list(retina_unet_weights(shared_data / "retina_unet" / "test_best_weights.h5"))
    assert sum(array.size for array in arrays) == 471_010


def test_a_file_with_a_link_to_another_file_is_refused(published):
    with h5py.File(published, "a") as store:
        del store["convolution2d_7"]
        store["convolution2d_7"] = h5py.ExternalLink("secret.h5", "/")
    with pytest.raises(UserError, match="convolution2d_7 is a link, which is not followed"):
        list(retina_unet_weights(published))
