import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

from lib.networks.keras_model import build_model, save_weights, trained_model
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


def put(file, dataset, value) -> None:
    with h5py.File(file, "a") as store:
        del store[dataset]
        store[dataset] = value


def linked_outside(file):
    shutil.copy(file, file.with_name("secret.h5"))
    put(file, KERNEL, h5py.ExternalLink("secret.h5", KERNEL))


def linked_group(file):
    with h5py.File(file, "a") as store:
        store["layers/more"] = h5py.SoftLink("/layers")


def kept_outside(file):
    with h5py.File(file, "a") as store:
        shape = store[KERNEL].shape
        del store[KERNEL]
        raw = file.with_name("secret.raw")
        raw.write_bytes(bytes(4 * int(np.prod(shape))))
        external = [(str(raw), 0, h5py.h5f.UNLIMITED)]
        store.create_dataset(KERNEL, shape, "float32", external=external)


def virtual(file):
    shutil.copy(file, file.with_name("secret.h5"))
    with h5py.File(file, "a") as store:
        shape = store[KERNEL].shape
        del store[KERNEL]
        layout = h5py.VirtualLayout(shape, "float32")
        layout[...] = h5py.VirtualSource("secret.h5", KERNEL, shape)
        store.create_virtual_dataset(KERNEL, layout)


def huge(file):
    with h5py.File(file, "a") as store:
        del store[KERNEL]
        store.create_dataset(KERNEL, (10**6, 10**6), "float32")


def text(file):
    put(file, KERNEL, np.array([b"x" * 1000] * 36))


def more_layers(file):
    with h5py.File(file, "a") as store:
        store["layers/of_a_later_version/vars/0"] = np.zeros(7, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (linked_outside, "is a link"),
        (linked_group, "layers/more is a link"),
        (kept_outside, "keeps its content in other files"),
        (virtual, "keeps its content in other files"),
        (huge, r"100000000\d+ numbers in the file, 1645 in the network"),
        (text, "holds no numbers"),
        (more_layers, "1652 numbers in the file, 1645 in the network"),
    ],
)
def test_weights_that_reach_out_or_do_not_fit_are_refused_unread(
    configuration, weights, change, reason
):
    trained_model(configuration, weights)
    change(weights)
    with pytest.raises(
        UserError, match=rf"tiny_best\.weights\.h5: not the weights of this network .*{reason}"
    ):
        trained_model(configuration, weights)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_whole_model_with_code_in_it_is_no_weight_file(configuration, weights, ending, capfd):
    """Its Lambda would say so, were it run."""
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


def test_a_full_disk_is_a_line_and_not_the_end_of_the_process(
    configuration, tmp_path, small_files_only
):
    file = tmp_path / "a.weights.h5"
    with (
        small_files_only(20_000),
        pytest.raises(
            UserError, match=r"a\.weights\.h5: cannot be written: File too large; is the disk"
        ),
    ):
        save_weights(build_model(configuration), file)
    assert not list(tmp_path.iterdir())
