import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import models
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.images.checked_files import file_sha256
from lib.networks.from_experiments import read_keras_ensemble, read_keras_network, refuse_replaced_weights
from lib.networks.from_onnx import read_onnx_network
from lib.networks.keras_model import trained_model
from lib.networks.network_choice import NetworkChoice
from lib.networks.onnx_export import export, onnx_mean, onnx_model, with_float16_weights, write_onnx
from lib.networks.onnx_metadata import BYTES_PER_PIXEL_KEY, METADATA_KEY
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from models.cost import activation_bytes_per_pixel
from models.folding import fold_for_prediction

# The exporter of Keras uses np.object, for which numpy gives a warning.
pytestmark = pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")

NUMBER = "testing settings.threshold=0.25"
IMAGES = np.random.default_rng(0).random((2, 61, 97, 1), np.float32)


@pytest.fixture(scope="module")
def mean_file(members, tmp_path_factory):
    return export(members, [NUMBER], tmp_path_factory.mktemp("mean") / "both.onnx")


def test_an_ensemble_is_one_file_that_predicts_the_mean(members, mean_file):
    single = [
        trained_model(read_configuration(m.configuration), m.weights("best")).predict_on_batch(IMAGES)
        for m in members
    ]
    assert np.abs(single[0] - single[1]).max() > 0.01  # the mean is neither of them
    network = read_onnx_network(mean_file)
    np.testing.assert_allclose(network.predict(IMAGES), np.mean(single, axis=0), atol=1e-4)


def test_members_may_have_several_input_channels():
    images = np.random.default_rng(1).random((1, 33, 40, 3), np.float32)
    networks = [keras.Sequential([keras.Input((None, None, 3)), layer]) for layer in convolutions()]
    expected = np.mean([network.predict_on_batch(images) for network in networks], axis=0)
    mean = onnx_mean([onnx_model(network) for network in networks])
    onnx.checker.check_model(mean, full_check=True)
    session = onnxruntime.InferenceSession(mean.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def convolutions():
    return [keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid") for _ in range(3)]


def test_the_file_describes_the_ensemble(members, mean_file):
    network, ensemble = read_onnx_network(mean_file), read_keras_ensemble(members, [NUMBER])
    assert (network.name, network.threshold, network.threshold_source) == ("both", 0.25, "configuration")
    for name in ("architecture", "label", "preprocessing", "testing_settings", "weights_sha256"):
        assert getattr(network, name) == getattr(ensemble, name), name


def test_the_file_has_the_tiles_of_the_ensemble_and_these_are_smaller_than_those_of_a_member(
    members, tmp_path
):
    settings = [NUMBER, "testing settings.window=auto"]
    network = read_onnx_network(export(members, settings, tmp_path / "auto.onnx"))
    ensemble = read_keras_ensemble(members, settings)
    assert network.testing_settings == ensemble.testing_settings
    (member, _) = read_keras_network(members[0], settings)
    assert member.testing_settings.tile_size > network.testing_settings.tile_size


def test_the_stated_memory_is_that_of_the_layers_in_the_file(members, tmp_path):
    network, _ = read_keras_network(members[0], [NUMBER])
    model = models.build("retina_unet", filters=(4, 8), dropout=0.1)
    write_onnx([model], network, read_configuration(members[0].configuration), tmp_path / "1.onnx")
    (stored,) = onnx.load(tmp_path / "1.onnx").metadata_props
    stated = json.loads(stored.value)[BYTES_PER_PIXEL_KEY]
    assert stated == activation_bytes_per_pixel(fold_for_prediction(model, upsampling=False))
    assert stated > 1.5 * activation_bytes_per_pixel(fold_for_prediction(model))


def test_the_default_file_is_in_the_folder_of_the_ensemble(members):
    file = export(members, [NUMBER])
    assert file == members[0].folder.parent / "first+second" / "first+second.onnx"
    assert read_onnx_network(file).name == "first+second"


def test_the_threshold_of_an_exported_ensemble_must_be_given(members):
    with pytest.raises(UserError, match="do not hold for their mean; give numbers"):
        export(members, [])


def test_float16_weights_halve_the_kernels_and_hardly_change_the_output(members, mean_file, tmp_path):
    small = export(members, [NUMBER], tmp_path / "both.onnx", float16_weights=True)
    expected = read_onnx_network(mean_file).predict(IMAGES)
    difference = np.abs(read_onnx_network(small).predict(IMAGES) - expected)
    assert 0 < difference.max() < 1e-3

    def kernels(file):
        tensors = {t.name: t for t in onnx.load(file).graph.initializer}
        return {name: onnx.numpy_helper.to_array(t) for name, t in tensors.items() if len(t.dims) == 4}

    before, after = kernels(mean_file), kernels(small)
    assert {array.dtype for array in after.values()} == {np.dtype(np.float16)}
    assert sum(a.nbytes for a in after.values()) * 2 == sum(a.nbytes for a in before.values())


def test_the_computation_of_float16_weights_is_that_of_the_rounded_weights_in_float32(mean_file):
    halved = onnx.load(mean_file)
    with_float16_weights(halved.graph)
    onnx.checker.check_model(halved)
    rounded = onnx.load(mean_file)
    for tensor in rounded.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    def output(model):
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {session.get_inputs()[0].name: IMAGES})[0]

    np.testing.assert_array_equal(output(halved), output(rounded))


def test_kernels_outside_the_range_of_float16_stay_as_they_are():
    large = onnx.numpy_helper.from_array(np.full((2, 2), 1e6, np.float32), "large")
    graph = onnx.helper.make_graph([], "none", [], [], [large])
    with_float16_weights(graph)
    assert graph.initializer[0] == large and not graph.node


def test_openvino_computes_float16_weights(mean_file, tmp_path):
    pytest.importorskip("openvino", reason="the optional engine is not installed")
    model = onnx.load(mean_file)
    with_float16_weights(model.graph)
    onnx.save(model, tmp_path / "small.onnx")
    found = read_onnx_network(tmp_path / "small.onnx", engine="openvino").predict(IMAGES)
    np.testing.assert_allclose(found, read_onnx_network(mean_file).predict(IMAGES), atol=1e-3)


def test_the_file_holds_hashes_but_no_names_of_the_images_of_all_members(members, tmp_path):
    other = Experiment(shutil.copytree(members[1].folder, tmp_path / "second"), "second")
    content = json.loads(other.split.read_text())
    parts = content["parts"]
    moved = parts["test"].pop()  # the second member has seen an image that is a test image of the first
    parts["train"].append(moved)
    other.split.write_text(json.dumps(content))
    seen = [m for part in ("train", "validation") for m in parts[part]]
    names = [m["name"] for part in parts.values() for m in part]
    file = export([members[0], other], [NUMBER], tmp_path / "both.onnx")
    expected = {value for m in seen for value in (m["sha256"], m["pixels"])}
    assert moved["sha256"] in expected and parts["test"][0]["sha256"] not in expected
    assert read_onnx_network(file).seen_images_sha256 == expected
    (metadata,) = (e.value for e in onnx.load(file).metadata_props if e.key == METADATA_KEY)
    assert names and not any(name in metadata for name in names)


def test_a_file_without_hashes_of_images_is_read(mean_file, tmp_path):
    model = onnx.load(mean_file)
    content = json.loads(model.metadata_props[0].value)
    assert content.pop("seen_images_sha256")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(content)})
    onnx.save(model, tmp_path / "older.onnx")
    assert read_onnx_network(tmp_path / "older.onnx").seen_images_sha256 == frozenset()


def test_the_export_of_an_earlier_epoch_is_refused(members, tmp_path):
    experiment = Experiment(shutil.copytree(members[0].folder, tmp_path / members[0].name), members[0].name)
    export([experiment], [NUMBER])
    choice = NetworkChoice("onnx", experiment.onnx, ((experiment.folder, experiment.name),), ())
    assert choice.read().name == experiment.name
    weights = experiment.weights("best")
    weights.write_bytes(weights.read_bytes() + b"1")  # as if the training had gone on
    with pytest.raises(
        UserError, match=r"the training has gone on since; export .* again with run_export\.py"
    ):
        choice.read()
    assert NetworkChoice("onnx", experiment.onnx, (), ()).read().name == experiment.name


def test_weights_that_a_training_replaces_meanwhile_are_refused(members):
    weights = members[0].weights("best")
    refuse_replaced_weights(weights, file_sha256(weights))
    with pytest.raises(UserError, match=r"best\.weights\.h5: a training has replaced these weights"):
        refuse_replaced_weights(weights, "0" * 64)


def test_an_existing_output_is_not_overwritten(members, tmp_path):
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"made by a person")
    names = [member.name for member in members]
    command = [sys.executable, PROJECT / "run_export.py", "--experiments", *names, "--output", mine]
    folder = f"experiment name.path_experiments={members[0].folder.parent}"
    done = subprocess.run([*command, "--set", folder], capture_output=True, text=True)
    assert done.returncode == 2 and "mine.onnx: exists already; name a new file" in done.stderr
    assert mine.read_bytes() == b"made by a person"
