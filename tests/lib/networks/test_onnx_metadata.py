"""ONNX files that were changed, are damaged or hostile; no network is trained."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lib.configuration.banner import Banner, parse_info_banner
from lib.configuration.reading import read_configuration
from lib.networks.from_onnx import read_onnx_network
from lib.networks.onnx_export import with_float16_weights
from lib.networks.onnx_metadata import (
    BYTES_PER_PIXEL_KEY,
    LARGEST_AREA_PX,
    METADATA_KEY,
    MOST_OPERATIONS,
    network_fields,
    network_metadata,
    tensors_sha256,
)
from lib.networks.trained_network import TrainingImages
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.conftest import older_onnx_metadata, weightless_network

CONFIGURATION = read_configuration(PROJECT / "configurations" / "demo.txt")
KERNEL = np.array([[[[-10.0]]]], np.float32)
IMAGES = np.random.default_rng(0).random((2, 5, 7, 1), np.float32)


def model_of(nodes=(), output=("batch", "height", "width", 1), *, bias=3.0):
    """Sigmoid(-10 x + bias), then `nodes`, the last of which must give "result"."""
    nodes = nodes or [helper.make_node("Identity", ["probability"], ["result"])]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["image", "kernel"], ["steep"]),
            helper.make_node("Add", ["steep", "bias"], ["shifted"]),
            helper.make_node("Sigmoid", ["shifted"], ["probability"]),
            *nodes,
        ],
        "darkness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", "height", "width", 1])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, output)],
        [
            onnx.numpy_helper.from_array(KERNEL, "kernel"),
            onnx.numpy_helper.from_array(np.array([bias], np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def written(folder, model, metadata):
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, folder / "a.onnx")
    return folder / "a.onnx"


def current_metadata(model, **changes):
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    with_float16_weights(smaller.graph)
    network = weightless_network(None, CONFIGURATION, info_banner=None, **changes)
    return network_metadata(network, CONFIGURATION, (model.graph, smaller.graph))


def described(**changes):
    """A network, and what an ONNX file says of it; its threshold and smallest area are not in its settings."""
    banner = parse_info_banner(CONFIGURATION.texts["preparation"]["info_banner"])
    changes = {"threshold": 0.25, "threshold_source": "validation", "min_area_px": 7, **changes}
    network = weightless_network(None, CONFIGURATION, info_banner=banner, **changes)
    metadata = network_metadata(network, CONFIGURATION, (model_of().graph,))
    fields = {f.name: getattr(network, f.name) for f in dataclasses.fields(network) if f.name != "predict"}
    return fields, json.loads(json.dumps(metadata))


def expected(images):
    return 1 / (1 + np.exp(10 * images - 3))


def test_older_and_current_files_are_read(tmp_path):
    model = model_of()
    for metadata in (older_onnx_metadata(), current_metadata(model)):
        found = read_onnx_network(written(tmp_path, model, metadata)).predict(IMAGES)
        np.testing.assert_allclose(found, expected(IMAGES), atol=1e-5)
    with_float16_weights(model.graph)
    small = read_onnx_network(written(tmp_path, model, current_metadata(model_of())))
    np.testing.assert_allclose(small.predict(IMAGES), expected(IMAGES), atol=1e-5)


def test_changed_weights_are_refused(tmp_path):
    model = model_of()
    metadata = current_metadata(model)
    changed = np.frombuffer(model.graph.initializer[0].raw_data, np.uint32) ^ 1  # one bit
    model.graph.initializer[0].raw_data = changed.tobytes()
    with pytest.raises(UserError, match=r"a\.onnx: its weights are not those that were exported"):
        read_onnx_network(written(tmp_path, model, metadata))


def test_the_sha256_of_weights_stays_that_of_earlier_versions():
    """Of the sorted SHA-256 of each tensor, after its name, dtype and shape; files that were exported hold it."""
    tensors = (("kernel float32 (1, 1, 1, 1) ", KERNEL), ("bias float32 (1,) ", np.array([3], np.float32)))
    digests = sorted(hashlib.sha256(text.encode() + array.tobytes()).hexdigest() for text, array in tensors)
    assert tensors_sha256(model_of().graph) == hashlib.sha256(" ".join(digests).encode()).hexdigest()


def test_weights_that_cannot_be_read_are_an_error_with_the_file(tmp_path):
    model = model_of()
    metadata = current_metadata(model)
    model.graph.initializer[0].raw_data = b"123"
    with pytest.raises(UserError, match=r"a\.onnx: its weights cannot be read"):
        read_onnx_network(written(tmp_path, model, metadata))


def test_other_operations_than_stated_are_refused(tmp_path):
    metadata = current_metadata(model_of())
    for extra in (1, 2):
        names = ["probability", *(f"n{i}" for i in range(extra)), "result"]
        nodes = [helper.make_node("Identity", [a], [b]) for a, b in itertools.pairwise(names)]
        with pytest.raises(UserError, match=r"a\.onnx: has \d+ operations, not those of its metadata"):
            read_onnx_network(written(tmp_path, model_of(nodes), metadata))


def test_an_older_file_with_very_many_operations_is_refused(tmp_path):
    names = ["probability", *(f"n{i}" for i in range(MOST_OPERATIONS)), "result"]
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in itertools.pairwise(names)]
    with pytest.raises(UserError, match="operations; expected at most"):
        read_onnx_network(written(tmp_path, model_of(nodes), older_onnx_metadata()))


def loop():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    true = helper.make_node(
        "Constant", [], ["go"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])
    )
    return [true, helper.make_node("Loop", ["", "go", "probability"], ["result"], body=body)]


def condition():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["probability"], ["y"])],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    true = helper.make_node(
        "Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])
    )
    return [true, helper.make_node("If", ["c"], ["result"], then_branch=branch, else_branch=branch)]


@pytest.mark.parametrize("nodes", [loop(), condition()], ids=["Loop", "If"])
def test_loops_and_branches_are_refused(tmp_path, nodes):
    with pytest.raises(UserError, match="has loops or branches"):
        read_onnx_network(written(tmp_path, model_of(nodes), older_onnx_metadata()))


def test_functions_of_the_file_are_refused(tmp_path):
    model = model_of()
    opsets = [helper.make_opsetid("", 17)]
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("", "Identity", ["a"], ["b"], [node], opsets))
    with pytest.raises(UserError, match="has functions of its own"):
        read_onnx_network(written(tmp_path, model, older_onnx_metadata()))


def test_a_graph_without_output_is_refused(tmp_path):
    model = model_of()
    del model.graph.output[:]
    with pytest.raises(UserError, match="has 1 inputs and 0 outputs"):
        read_onnx_network(written(tmp_path, model, older_onnx_metadata()))


def test_a_scalar_output_is_refused(tmp_path):
    mean = helper.make_node("ReduceMean", ["probability"], ["result"], keepdims=0)
    with pytest.raises(UserError, match=r"result is tensor\(float\), a scalar; expected float32 in four"):
        read_onnx_network(written(tmp_path, model_of([mean], []), older_onnx_metadata()))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"threshold": 1.5}, "threshold = 1.5: expected a number from 0 to 1"),
        ({"threshold": -0.1}, "threshold = -0.1"),
        ({"threshold": float("nan")}, "threshold = nan"),
        ({"threshold": "0.5"}, "threshold = 0.5"),
        ({"threshold": True}, "threshold = True"),
        ({"threshold": 10**400}, "threshold = 1000"),
        ({"min_area_px": -1}, "min_area_px = -1: expected a whole number from 0"),
        ({"min_area_px": 2.5}, "min_area_px = 2.5"),
        ({"min_area_px": 10**12}, "min_area_px = 1000"),
        ({"label": ""}, "label = ''"),
        ({"label": None}, "label = 'None'"),
        ({"label": "N\nP"}, "label = 'N"),
        ({"label": "x" * 101}, "label = 'xxx"),
        ({"name": ["a"]}, "name = "),
        ({"name": "a\x1b[31m"}, "name = "),
        ({"seen_images_sha256": 5}, "not iterable"),
        ({"training_images": {"x": 1}}, "unexpected keyword"),
        ({"sections": [[]]}, "cannot be read"),
    ],
    ids=repr,
)
def test_values_out_of_range_are_an_error_of_one_line(tmp_path, change, shown):
    with pytest.raises(UserError, match=r"a\.onnx: its metadata") as error:
        read_onnx_network(written(tmp_path, model_of(), older_onnx_metadata(**change)))
    assert shown in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name":' * 100_000, "[]", "3", "{", "null"])
def test_other_json_is_an_error_of_one_line(tmp_path, text):
    with pytest.raises(UserError, match=r"a\.onnx: its metadata") as error:
        read_onnx_network(written(tmp_path, model_of(), text))
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)
    assert ("nested too deeply" in str(error.value)) == (len(text) > 99)


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), -float("inf")])
def test_an_output_that_is_not_finite_is_refused(tmp_path, bias):
    node = helper.make_node("Sub", ["shifted", "shifted"], ["result"])  # inf - inf = NaN
    network = read_onnx_network(written(tmp_path, model_of([node], bias=bias), older_onnx_metadata()))
    with pytest.raises(UserError, match=r"a\.onnx: gives values from nan to nan, which are no probabilities"):
        network.predict(IMAGES)


@pytest.mark.parametrize(("source", "image"), [("shifted", 1.0), ("shifted", 0.0)])
def test_an_output_outside_0_and_1_is_refused(tmp_path, source, image):
    node = helper.make_node("Identity", [source], ["result"])
    network = read_onnx_network(written(tmp_path, model_of([node]), older_onnx_metadata()))
    with pytest.raises(UserError, match="which are no probabilities"):
        network.predict(np.full_like(IMAGES, image))


def test_an_output_of_another_size_is_refused(tmp_path):
    pooled = helper.make_node("ReduceMean", ["probability"], ["result"], axes=[1], keepdims=1)
    network = read_onnx_network(written(tmp_path, model_of([pooled]), older_onnx_metadata()))
    with pytest.raises(UserError, match=r"a\.onnx: gives an output of shape \(2, 1, 7, 1\); expected"):
        network.predict(IMAGES)


def test_scale_and_colour_of_the_training_images_are_kept(tmp_path):
    model, images = model_of(), TrainingImages(500, 520, colour=False)
    metadata = current_metadata(model, training_images=images)
    assert read_onnx_network(written(tmp_path, model, metadata)).training_images == images
    assert read_onnx_network(written(tmp_path, model, older_onnx_metadata())).training_images is None


def test_label_and_column_follow_the_structure(tmp_path):
    for structure, label, column in (
        ("CNP", "NP", "ischaemic_index"),
        ("vessels", "vessels", "area_fraction"),
    ):
        metadata = older_onnx_metadata(structure=structure)  # the default label of every data set is NP
        network = read_onnx_network(written(tmp_path, model_of(), metadata))
        assert (network.label, network.share_column) == (label, column)
    own = older_onnx_metadata(structure="haemorrhages", label="HEM")
    assert read_onnx_network(written(tmp_path, model_of(), own)).label == "HEM"


def with_auto_window(**changes):
    metadata = older_onnx_metadata(**changes)
    metadata["sections"]["testing settings"] |= {"window": "auto"}
    return metadata


@pytest.mark.parametrize(("stated", "side"), [({}, 512), ({BYTES_PER_PIXEL_KEY: 512}, 1024)])
def test_tiles_follow_the_stated_memory_and_are_small_if_it_is_not_stated(tmp_path, stated, side):
    network = read_onnx_network(written(tmp_path, model_of(), with_auto_window(**stated)))
    assert network.testing_settings.tile_size == side


@pytest.mark.parametrize("value", [0, -1, "512", 1.5, True, None])
def test_an_impossible_memory_is_refused(tmp_path, value):
    file = written(tmp_path, model_of(), with_auto_window(**{BYTES_PER_PIXEL_KEY: value}))
    with pytest.raises(UserError, match=f"{BYTES_PER_PIXEL_KEY} = .*expected a whole number"):
        read_onnx_network(file)


def test_a_description_gives_all_fields_of_the_network():
    images = TrainingImages(500, 520, colour=False)
    fields, content = described(seen_images_sha256=frozenset("cab"), training_images=images)
    assert content["seen_images_sha256"] == ["a", "b", "c"]
    assert network_fields(content, Path("a.onnx"), []) == fields


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("testing settings.threshold=0.75", {"threshold": 0.75, "threshold_source": "configuration"}),
        ("testing settings.min_area_px=9", {"min_area_px": 9}),
        ("preparation.info_banner=top:5", {"info_banner": Banner("top", 5)}),
        ("preparation.labels=NP, CNP", {}),
        ("testing settings.pixel_spacing_mm=0.02", {}),
        ("testing settings.test_batch_size=3", {}),
        ("testing settings.precision=mixed_bfloat16", {}),
        (f"testing settings.stride_height={CONFIGURATION.texts['testing settings']['stride_height']}", {}),
    ],
)
def test_some_settings_may_change_after_the_export(override, changed):
    fields, content = described()
    found = network_fields(content, Path("a.onnx"), [override])
    testing_settings = read_configuration(
        PROJECT / "configurations" / "demo.txt", [override]
    ).testing_settings
    assert found == fields | {"testing_settings": testing_settings} | changed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("testing settings.stride_height=3", "a.onnx: [testing settings] stride_height cannot change"),
        ("preprocessing.gamma=3", "a.onnx: [preprocessing] gamma cannot change after the export"),
        ("preparation.info_banner=middle", "a.onnx: [preparation] info_banner: expected auto, none, top:N"),
        (
            "testing settings.threshold=validation",
            "--set over a.onnx: [testing settings] threshold = validation",
        ),
        ("testing settings.min_area_px=validation", "a.onnx: [testing settings] min_area_px = validation"),
        ("testing settings.threshold=7", "--set over a.onnx"),
        ("testing settings.thresh=7", "over a.onnx"),
        ("preparation.labels=XY", "a.onnx: [preparation] labels = XY: the network outlines NP, which cannot"),
        ("model.architecture=Res_Unet", "a.onnx: [model] architecture = Res_Unet: the exported network is"),
        ("data attributes.structure=vessels", "a.onnx: [data attributes] structure = vessels: the network"),
        ("testing settings.test_field_of_view_degrees=30", "= 30: found no [preprocessing] field_of"),
    ],
)
def test_other_changes_are_an_error_with_file_and_setting(override, message):
    _, content = described()
    content["sections"]["testing settings"] |= {"threshold": "0.5", "min_area_px": "0"}
    with pytest.raises(UserError) as error:
        network_fields(content, Path("a.onnx"), [override])
    assert message in str(error.value)


def test_a_wrong_setting_in_the_file_is_not_said_to_be_an_override():
    _, content = described()
    content["sections"]["preprocessing"]["gamma"] = "x"
    with pytest.raises(UserError, match=r"^a\.onnx: its metadata") as error:
        network_fields(content, Path("a.onnx"), ["testing settings.threshold=0.75"])
    assert "--set" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0},
        {"threshold": 1},
        {"min_area_px": 0},
        {"min_area_px": LARGEST_AREA_PX},
        {"name": "x"},
        {"label": "x" * 100},
        {"architecture": "x" * 1000},
        {"weights_sha256": "x" * 1001},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_ends_of_the_ranges_are_read(change):
    (name, value), *_ = change.items()
    found = network_fields(older_onnx_metadata(**change), Path("a.onnx"), [])[name]
    assert found == value and isinstance(found, float if name == "threshold" else type(value))
