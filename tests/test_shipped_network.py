"""The network that comes with the repository: which scripts use it, and whether its folder is complete."""

import csv
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import h5py
import numpy as np
import onnx
import pytest
from PIL import Image

from lib.configuration.reading import read_configuration
from lib.datasets.leakage import refuse_initial_weights
from lib.datasets.split_file import read_split, union_of_splits
from lib.images.checked_files import file_sha256
from lib.networks.from_onnx import read_onnx_network
from lib.networks.keras_model import trained_model
from lib.networks.network_choice import MODEL_CARD, SHA256SUMS, SHIPPED_NETWORK
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from pretrained.assemble import write_folder
from tests.conftest import tiny_configuration

pytestmark = pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")

LINE = "network: cnp_ffa, which comes with this repository; model card: pretrained/cnp_ffa/README.md\n"


@pytest.fixture(scope="module")
def assembled(members, tmp_path_factory):
    folder = tmp_path_factory.mktemp("assembled")
    write_folder(members, ["testing settings.threshold=0.25"], folder)
    return folder


@pytest.fixture
def clone(assembled, tmp_path):
    """A copy of the repository with a tiny network, and an image. In it no experiment is trained."""
    folder = tmp_path / "clone"
    for name in ("lib", "models", "web"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*PROJECT.glob("run_*.py"), PROJECT / "configuration.txt"):
        shutil.copy(file, folder)
    shutil.copytree(assembled, folder / "pretrained" / "cnp_ffa")
    levels = np.random.default_rng(0).integers(60, 200, (96, 96), np.uint8)
    Image.fromarray(levels).save(folder / "eye.png")
    return folder


def run(folder, script, *arguments):
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def without_shipped_network(clone):
    shutil.rmtree(clone / "pretrained")
    return clone


@pytest.mark.parametrize("options", [[], ["--engine", "onnx"], ["--engine", "openvino"]], ids=" ".join)
def test_it_predicts_if_no_experiment_is_named(clone, options):
    if "openvino" in options:
        pytest.importorskip("openvino", reason="the optional engine is not installed")
    done = run(clone, "run_prediction.py", "eye.png", *options)
    assert done.returncode == 0 and done.stdout.startswith(LINE), done.stderr
    with (clone / "predictions" / "measurements.csv").open(encoding="utf-8-sig", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["model"], row["threshold"]) == ("cnp_ffa", "0.25")


@pytest.mark.parametrize("name", ["threshold", "min_area_px"])
def test_an_exported_network_has_no_validation_images(clone, name):
    done = run(clone, "run_prediction.py", "eye.png", "--set", f"testing settings.{name}=validation")
    assert done.returncode == 2 and f"{name} = validation: found no validation images" in done.stderr
    assert not (clone / "predictions").exists()


def test_the_threshold_can_be_set(clone):
    done = run(clone, "run_prediction.py", "eye.png", "--set", "testing settings.threshold=0.75")
    assert done.returncode == 0, done.stderr
    assert ",0.75,configuration," in (clone / "predictions" / "measurements.csv").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--experiment", "ffa_cpu"],
        ["--experiments", "a", "b"],
        ["--config", "configuration.txt"],
        ["--engine", "keras"],
        ["--set", "experiment name.name=ffa_cpu"],
        ["--engine", "onnx", "--experiment", "ffa_cpu"],
    ],
    ids=" ".join,
)
def test_it_does_not_predict_if_something_else_is_named(clone, options):
    done = run(clone, "run_prediction.py", "eye.png", *options)
    assert done.returncode == 2 and done.stderr.startswith("error: no trained experiment ")
    assert "cnp_ffa" not in done.stdout + done.stderr


@pytest.mark.parametrize("options", [[], ["--engine", "onnx"]], ids=" ".join)
def test_without_it_the_error_names_it(clone, options):
    done = run(without_shipped_network(clone), "run_prediction.py", "eye.png", *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no trained experiment enhance_laddernet ")
    assert done.stderr.endswith("pretrained/cnp_ffa/cnp_ffa.onnx, the default network\n")


def test_a_damaged_file_is_an_error_of_one_line(clone):
    folder = clone / "pretrained" / "cnp_ffa"
    data = (folder / "cnp_ffa.onnx").read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    for damaged in (data[:-1], pointer, data[:-1] + bytes([data[-1] ^ 1])):
        (folder / "cnp_ffa.onnx").write_bytes(damaged)
        done = run(clone, "run_prediction.py", "eye.png")
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "cnp_ffa.onnx: damaged, or not downloaded completely" in done.stderr
    (folder / SHA256SUMS).unlink()
    assert "SHA256SUMS: no such file" in run(clone, "run_prediction.py", "eye.png").stderr


def inference_distributions():
    """The packages of requirements/inference.txt, and those that they need."""
    lines = (PROJECT / "requirements" / "inference.txt").read_text().splitlines()
    left, found = [line for line in lines if line and not line.startswith("#")], set()
    while left:
        requirement = left.pop()
        name = re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")
        if "extra ==" not in requirement and name not in found:
            found.add(name)
            try:
                left += importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:  # for another system
                continue
    return found


def test_it_needs_only_the_packages_for_inference(clone):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['run_prediction.py', 'eye.png']\n"
        "runpy.run_path('run_prediction.py', run_name='__main__')\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = run(clone, "-c", code)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert "onnxruntime" in imported and not {"keras", "tensorflow", "h5py", "matplotlib"} & imported
    of_package = importlib.metadata.packages_distributions()
    used = {d.lower().replace("_", "-") for name in imported & of_package.keys() for d in of_package[name]}
    assert used <= inference_distributions() | {"setuptools"}


def test_the_web_page_serves_it_rather_than_the_newest_export(clone):
    pytest.importorskip("django", reason="pip install -r requirements/web.txt")
    export = clone / "experiments" / "other" / "other.onnx"
    export.parent.mkdir(parents=True)
    export.write_bytes(b"another network")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CNP_WEB_", "DJANGO_"))}
    command = [sys.executable, "run_web.py", "--port", str(port)]
    with subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == LINE
        assert server.stdout.readline().startswith("network: cnp_ffa (unet + resunet), threshold 0.25, ")
        assert "http://" in server.stdout.readline()
        server.send_signal(signal.SIGTERM)
    done = run(without_shipped_network(clone), "run_web.py")
    assert "other.onnx: not an ONNX file" in done.stderr  # then the newest export
    export.unlink()
    assert "there is neither" in run(clone, "run_web.py").stderr


def test_the_assembled_folder_fits_together(members, assembled):
    check_folder(assembled)
    assert read_split(assembled / "split.json", "") == union_of_splits(
        [read_split(member.split, "") for member in members]
    )
    stored = {
        t.data_type for t in onnx.load(assembled / "cnp_ffa.onnx").graph.initializer if len(t.dims) == 4
    }
    assert stored == {onnx.TensorProto.FLOAT16}


def test_the_folder_of_the_repository_fits_together():
    if not SHIPPED_NETWORK.parent.is_dir():
        pytest.skip("no network is shipped yet")
    check_folder(SHIPPED_NETWORK.parent)
    assert (SHIPPED_NETWORK.parent / MODEL_CARD).is_file()


def check_folder(folder):
    """Sums, names and split are right, and the weights fit the configuration."""
    sums = dict(reversed(line.split()) for line in (folder / SHA256SUMS).read_text().splitlines())
    assert set(sums) == {"cnp_ffa.onnx", "cnp_ffa.weights.h5", "split.json", "configuration.txt"}
    assert sums == {name: file_sha256(folder / name) for name in sums}
    network = read_onnx_network(folder / "cnp_ffa.onnx")
    assert network.name == "cnp_ffa"
    split = read_split(folder / "split.json", "")
    seen = {v for part in ("train", "validation") for m in split[part] for v in (m.sha256, m.pixels) if v}
    assert seen and network.seen_images_sha256 == seen
    kernels = [array for array in weight_arrays(folder / "cnp_ffa.weights.h5") if array.ndim == 4]
    exported = {array.tobytes() for array in initializers(folder / "cnp_ffa.onnx")}
    found = [np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)).tobytes() in exported for kernel in kernels]
    assert np.mean(found) > 0.3  # not those that batch normalisation is folded into, or of another layout
    configuration = read_configuration(folder / "configuration.txt")
    trained_model(configuration, folder / "cnp_ffa.weights.h5")
    assert configuration.preprocessing == network.preprocessing


def weight_arrays(file):
    arrays = []
    with h5py.File(file) as store:
        store.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return arrays


def initializers(file):
    return [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer]


def test_the_weights_for_fine_tuning_are_those_of_the_first_member(members, assembled):
    given = weight_arrays(members[0].weights("best"))
    written = weight_arrays(assembled / "cnp_ffa.weights.h5")
    assert len(given) == len(written)
    for array, half in zip(given, written, strict=True):
        np.testing.assert_array_equal(half, array.astype(half.dtype))
        assert half.dtype == (np.float16 if array.dtype == np.float32 else array.dtype)


def fine_tuning(prepared, assembled, *more):
    weights = f"training settings.initial_weights={assembled / 'cnp_ffa.weights.h5'}"
    return tiny_configuration(prepared, weights, *more)


def test_fine_tuning_may_test_on_images_that_the_network_has_not_seen(prepared, assembled):
    refuse_initial_weights(fine_tuning(prepared, assembled))


def test_fine_tuning_may_not_test_on_images_that_the_network_has_seen(prepared, assembled, tmp_path):
    folder = shutil.copytree(assembled, tmp_path / "cnp_ffa")
    content = json.loads((folder / "split.json").read_text())
    content["parts"]["train"] += content["parts"]["test"]
    (folder / "split.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"cnp_ffa\.weights\.h5 was trained on test or validation images"):
        refuse_initial_weights(fine_tuning(prepared, folder))


def test_the_error_for_another_model_says_which_model_the_weights_need(prepared, assembled):
    weights = assembled / "cnp_ffa.weights.h5"
    for change, found in (
        ("model.filters=4 6", "unet with filters = 4 6"),
        ("model.architecture=resunet", "resunet"),
    ):
        with pytest.raises(UserError, match=f"not the weights of this network .*is {found}") as raised:
            trained_model(fine_tuning(prepared, assembled, change), weights)
        assert str(raised.value).endswith(f"as in {assembled / 'configuration.txt'}")
