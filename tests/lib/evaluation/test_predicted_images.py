import dataclasses

import h5py
import numpy as np
import pytest

from lib.evaluation.predicted_images import read_predictions, write_predictions
from lib.evaluation.scoring import PredictedImage
from lib.runtime.errors import UserError


def case(name: str, shape: tuple[int, int], **more) -> PredictedImage:
    generator = np.random.default_rng(len(name))
    return PredictedImage(
        name,
        f"patient of {name}",
        generator.random(shape, dtype=np.float32),
        generator.integers(2, size=shape, dtype=np.uint8),
        generator.integers(2, size=shape, dtype=np.uint8),
        generator.integers(256, size=(*shape, 3), dtype=np.uint8),
        **more,
    )


def test_predictions_are_read_as_written_and_in_order(tmp_path):
    second = np.ones((9, 7), np.uint8)
    cases = [case("b 眼", (9, 7), second_observer=second), case("a", (5, 12))]
    write_predictions(tmp_path / "p.hdf5", cases)
    for before, after in zip(cases, read_predictions(tmp_path / "p.hdf5"), strict=True):
        for field in dataclasses.fields(PredictedImage):
            np.testing.assert_array_equal(getattr(after, field.name), getattr(before, field.name))


def test_a_probability_that_is_not_finite_is_an_error_and_leaves_no_file(tmp_path):
    diverged = case("d", (3, 3))
    diverged.probability[1, 2] = np.nan
    with pytest.raises(UserError, match="d: the network predicts NaN"):
        write_predictions(tmp_path / "p.hdf5", [case("a", (5, 12)), diverged])
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file; run run_testing"):
        list(read_predictions(tmp_path / "p.hdf5"))
    (tmp_path / "p.hdf5").write_bytes(b"damaged")
    with pytest.raises(UserError, match="not readable"):
        list(read_predictions(tmp_path / "p.hdf5"))


def test_a_file_with_links_to_other_files_is_refused(tmp_path):
    file = tmp_path / "p.hdf5"
    with h5py.File(file, "w") as store:
        store["000000"] = h5py.ExternalLink("secret.hdf5", "/")
    with pytest.raises(UserError, match=r"p\.hdf5: not readable \(000000 is a link"):
        list(read_predictions(file))
