import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lib.networks.onnx_metadata import METADATA_KEY, read_checked_file
from lib.runtime.errors import UserError


def adding_one():
    """A network that adds one to its input; its weights are in the file."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    node = helper.make_node("Add", ["x", "one"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", sides[:1], sides[1:], [one]))
    helper.set_model_props(model, {METADATA_KEY: json.dumps({"name": "a"})})
    return model


def location(tensor):
    tensor.data_location = TensorProto.EXTERNAL


def reference(tensor):
    tensor.external_data.add(key="location", value="../../etc/passwd")


def with_attribute(model, tensor):
    model.graph.node.add(op_type="Constant", output=["z"]).attribute.append(
        helper.make_attribute("value", tensor)
    )


def with_sparse_weights(model, tensor):
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def with_function(model, tensor):
    node = model.functions.add(name="f", domain="").node.add(op_type="Constant", output=["z"])
    node.attribute.append(helper.make_attribute("value", tensor))


def with_weights(model, tensor):
    model.graph.initializer.append(tensor)


def test_a_file_with_all_its_weights_is_read(tmp_path):
    onnx.save(adding_one(), tmp_path / "a.onnx")
    data, metadata = read_checked_file(tmp_path / "a.onnx")
    assert data == (tmp_path / "a.onnx").read_bytes() and metadata == {"name": "a"}


@pytest.mark.parametrize("mark", [location, reference])
@pytest.mark.parametrize("place", [with_weights, with_attribute, with_sparse_weights, with_function])
def test_each_sign_of_weights_in_other_files_alone_is_refused(tmp_path, place, mark):
    model = adding_one()
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "more")
    mark(tensor)
    place(model, tensor)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"a\.onnx: has weights in other files"):
        read_checked_file(tmp_path / "a.onnx")


def test_the_standard_has_two_names(tmp_path):
    model = adding_one()
    model.graph.node[0].domain = "ai.onnx"
    onnx.save(model, tmp_path / "a.onnx")
    assert read_checked_file(tmp_path / "a.onnx")[1]


def test_a_damaged_or_missing_file_is_named(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 20)
    with pytest.raises(UserError, match=r"a\.onnx: not an ONNX file, or a damaged one"):
        read_checked_file(tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"b\.onnx: no such file"):
        read_checked_file(tmp_path / "b.onnx")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([METADATA_KEY], r"operator com\.example\.Add is not in the ONNX standard"),
        ([], "not exported by this project"),
    ],
)
def test_a_file_of_another_project_and_other_operators_are_refused(tmp_path, metadata, message):
    model = adding_one()
    model.graph.node[0].domain = "com.example"
    helper.set_model_props(model, dict.fromkeys(metadata, "{}"))
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=message):
        read_checked_file(tmp_path / "a.onnx")
