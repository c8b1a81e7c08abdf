import h5py
import numpy as np
import pytest

from lib.hdf5 import PreparedImage, read_part, write_part
from lib.user_errors import UserError


def image(name: str, *shape: int) -> PreparedImage:
    generator = np.random.default_rng(len(name))
    return PreparedImage(
        name,
        "patient 眼",
        generator.integers(256, size=shape, dtype=np.uint8),
        generator.integers(2, size=shape[:2], dtype=np.uint8),
        generator.integers(2, size=shape[:2], dtype=np.uint8),
    )


@pytest.fixture
def files(tmp_path):
    return tuple(tmp_path / f"{name}.hdf5" for name in ("imgs", "groundTruth", "borderMasks"))


def test_images_of_different_sizes_come_back_as_they_were(files):
    written = [image("a b", 20, 31), image("眼底 %", 25, 16)]
    write_part(files, written, (2, 25, 31, 1))
    for before, after in zip(written, read_part(files), strict=True):
        assert (after.name, after.patient) == (before.name, before.patient)
        for field in ("original", "truth", "field_of_view"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))


def test_colour_is_kept_and_grey_among_colour_stays_grey_in_value(files):
    coloured, grey = image("colour", 9, 9, 3), image("grey", 9, 9)
    write_part(files, [coloured, grey], (2, 9, 9, 3))
    first, second = read_part(files)
    np.testing.assert_array_equal(first.original, coloured.original)
    assert (second.original == grey.original[..., None]).all()


def test_the_layout_is_retina_unets_compressed_one_chunk_an_image(files):
    write_part(files, [image("a", 40, 30)], (1, 40, 30, 1))
    with h5py.File(files[0]) as store:
        assert store["image"].shape == (1, 40, 30, 1)
        assert store["image"].chunks == (1, 40, 30, 1)
        assert store["image"].compression == "gzip"


def test_a_limit_reads_the_first_images(files):
    write_part(files, [image(n, 8, 8) for n in "abc"], (3, 8, 8, 1))
    assert [i.name for i in read_part(files, 2)] == ["a", "b"]


def test_missing_torn_and_foreign_files_are_named(files):
    with pytest.raises(UserError, match=r"imgs\.hdf5: no such file; run prepare"):
        list(read_part(files))
    write_part(files, [image("a", 8, 8)], (1, 8, 8, 1))
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"groundTruth\.hdf5: not a readable HDF5"):
        list(read_part(files))
    with h5py.File(files[1], "w") as store:
        store["other"] = 1
    with pytest.raises(UserError, match=r"groundTruth\.hdf5: no data set image"):
        list(read_part(files))
    write_part((files[0], files[2], files[1]), [image("b", 8, 8)], (1, 8, 8, 1))
    write_part((files[2], files[1], files[0]), [image("c", 8, 8)], (1, 8, 8, 1))
    files[1].write_bytes(whole)
    with pytest.raises(UserError, match="not the same images"):
        list(read_part(files))
