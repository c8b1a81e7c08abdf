import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import models
from lib.networks.from_experiments import read_keras_network
from lib.networks.from_onnx import newest_export, read_onnx_network
from lib.networks.onnx_export import export, onnx_model
from lib.networks.onnx_metadata import METADATA_KEY
from lib.prediction.image_file import predict_file
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.training.train import train
from tests.conftest import tiny_configuration

# The exporter of Keras uses np.object, for which numpy gives a warning.
pytestmark = pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")


@pytest.fixture(scope="module")
def exported(tested):
    _, experiment, _ = tested
    return experiment, export([experiment], [])


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 61, 97), (2, 33, 18), (1, 129, 64)])
def test_the_output_agrees_with_keras(exported, shape):
    experiment, file = exported
    keras_network, _ = read_keras_network(experiment)
    images = np.random.default_rng(0).random((*shape, 1), np.float32)
    expected = np.asarray(keras_network.predict(images))
    assert np.ptp(expected) > 0.01  # the output is not constant
    np.testing.assert_allclose(read_onnx_network(file).predict(images), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["enhance_laddernet", "resunet", "retina_gnet", "ldpc_net", "w_net"])
def test_every_kind_of_network_can_be_exported(architecture):
    model = models.build(architecture, filters=(4, 8), dropout=0.1)
    images = np.random.default_rng(1).random((2, 37, 50, 1), np.float32)
    expected = model.predict_on_batch(images)
    exported = onnx_model(model)
    # Without our own layers, up-sampling and dilation take a third of the time of LDPC-Net.
    assert not {"Tile", "SpaceToDepth"} & {node.op_type for node in exported.graph.node}
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_openvino_agrees_with_onnxruntime_and_computes_in_bfloat16_only_on_request(exported):
    pytest.importorskip("openvino", reason="the optional engine is not installed")
    _, file = exported
    images = np.random.default_rng(2).random((2, 61, 97, 1), np.float32)
    expected = read_onnx_network(file).predict(images)
    exact = read_onnx_network(file, engine="openvino").predict(images)
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    rounding = ["testing settings.precision=mixed_bfloat16"]
    rounded = read_onnx_network(file, rounding, "openvino").predict(images)
    np.testing.assert_allclose(rounded, expected, atol=0.05)


@pytest.fixture(scope="module")
def with_channels(prepared, tmp_path_factory):
    """A network of three channels that sees resampled images."""
    return train(
        tiny_configuration(
            prepared,
            f"experiment name.path_experiments={tmp_path_factory.mktemp('experiments')}",
            "preprocessing.channels=preprocessed local_contrast texture",
            "preprocessing.field_of_view_diameter=84",
            "training settings.N_epochs=1",
            "testing settings.threshold=0.5",
            "testing settings.test_batch_size=auto",
        )
    )


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_network_of_several_channels_predicts_files_as_keras_does(prepared, with_channels, engine):
    if engine == "openvino":
        pytest.importorskip("openvino", reason="the optional engine is not installed")
    network, model = read_keras_network(with_channels)
    assert model.input_shape[-1] == 3
    exported = read_onnx_network(export([with_channels], []), engine=engine)
    assert exported.preprocessing == network.preprocessing
    file = sorted((prepared / "angiograms").glob("*.png"))[0]
    expected, found = predict_file(network, file), predict_file(exported, file)
    assert found.probability.shape == found.original.shape[:2]
    assert np.ptp(expected.probability[expected.field_of_view > 0]) > 0.01
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)


def test_all_fields_are_those_of_the_experiment(exported):
    experiment, file = exported
    from_file, original = read_onnx_network(file), read_keras_network(experiment)[0]
    for name in (
        "name", "architecture", "structure", "label", "info_banner", "preprocessing",
        "testing_settings", "threshold", "threshold_source", "min_area_px", "weights_sha256",
    ):  # fmt: skip
        assert getattr(from_file, name) == getattr(original, name), name
    assert from_file.threshold_source == "best F1 on the validation images"


def test_the_file_does_not_contain_the_path_of_the_experiment(exported):
    experiment, file = exported
    assert str(experiment.folder.parent).encode() not in file.read_bytes()


def test_predicting_with_onnx_imports_no_keras(exported):
    code = (
        "import sys; from pathlib import Path; import lib.prediction.folder;"
        "from lib.networks.from_onnx import read_onnx_network;"
        f"read_onnx_network(Path({str(exported[1])!r}));"
        "print([m for m in ('keras', 'tensorflow', 'matplotlib', 'sklearn', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout == "[]\n", done.stderr


def test_newest_export_of_a_folder(exported, tmp_path):
    experiment, file = exported
    assert newest_export(experiment.folder.parent) == file
    assert newest_export(tmp_path) is None


def test_the_threshold_can_change_but_not_the_settings_for_which_it_was_chosen(exported):
    _, file = exported
    network = read_onnx_network(file, ["testing settings.threshold=0.25"])
    assert (network.threshold, network.threshold_source) == (0.25, "configuration")
    for override in ("testing settings.window=whole", "preprocessing.gamma=2"):
        with pytest.raises(UserError, match="cannot change after the export"):
            read_onnx_network(file, [override])


def changed(file, folder, change):
    model = onnx.load(file)
    change(model)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def external_weights(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_attribute(model):
    node = model.graph.node.add(op_type="Constant", output=["secret"])
    tensor = onnx.TensorProto(data_type=onnx.TensorProto.UINT8, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    node.attribute.append(onnx.helper.make_attribute("value", tensor))


def custom_operator(model):
    model.graph.node[0].domain = "com.example"


def without_metadata(model):
    del model.metadata_props[:]


def broken_metadata(model):
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: "{}"})


def other_metadata(key, value):
    def change(model):
        content = json.loads(model.metadata_props[0].value)
        content["sections"]["preprocessing"][key] = value
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(content)})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_weights, "has weights in other files"),
        (external_attribute, "has weights in other files"),
        (custom_operator, "is not in the ONNX standard"),
        (without_metadata, "not exported by this project"),
        (broken_metadata, "export it again"),
        (other_metadata("gamma", "-1"), "gamma = '-1': expected a number"),
        (other_metadata("colour", "1"), "unknown key 'colour'"),
    ],
)
def test_a_file_that_is_not_ours_or_refers_to_other_files_is_refused(exported, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_onnx_network(changed(exported[1], tmp_path, change))


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x07" + bytes(99)])
def test_the_error_for_a_damaged_file_names_it(tmp_path, data):
    file = tmp_path / "a.onnx"
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.onnx: "):
        read_onnx_network(file)


def test_a_truncated_file_is_refused(exported, tmp_path):
    file = tmp_path / "a.onnx"
    file.write_bytes(exported[1].read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.onnx: "):
        read_onnx_network(file)


def test_the_error_for_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"python run_export\.py NAME"):
        read_onnx_network(tmp_path / "a.onnx")
