import dataclasses
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator

import h5py
import numpy as np
import pytest

from lib.datasets.prepared_hdf5 import PreparedImage, names_and_patients, read_part, write_part
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT


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


def test_images_of_different_sizes_are_read_as_they_were_written(files):
    written = [image("a b", 20, 31), image("眼底 %", 25, 16)]
    write_part(files, written, (2, 25, 31, 1))
    for before, after in zip(written, read_part(files), strict=True):
        assert (after.name, after.patient) == (before.name, before.patient)
        for field in ("original", "truth", "field_of_view"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))


def test_colour_is_kept_and_grey_images_among_rgb_have_equal_channels(files):
    coloured, grey = image("colour", 9, 9, 3), image("grey", 9, 9)
    write_part(files, [coloured, grey], (2, 9, 9, 3))
    first, second = read_part(files)
    np.testing.assert_array_equal(first.original, coloured.original)
    assert (second.original == grey.original[..., None]).all()


def test_a_damaged_image_is_named(files):
    write_part(files, [image("a", 90, 90), image("b", 90, 90)], (2, 90, 90, 1))
    with h5py.File(files[0], "r") as store:
        chunk = store["image"].id.get_chunk_info(1)
    content = bytearray(files[0].read_bytes())
    content[chunk.byte_offset + 20 : chunk.byte_offset + 60] = bytes(40)
    files[0].write_bytes(content)
    images = read_part(files)
    assert next(images).name == "a"
    with pytest.raises(UserError, match=r"imgs.hdf5.*image b is damaged"):
        next(images)


def test_the_layout_is_that_of_retina_unet_compressed_with_one_chunk_per_image(files):
    write_part(files, [image("a", 40, 30)], (1, 40, 30, 1))
    with h5py.File(files[0]) as store:
        assert store["image"].shape == (1, 40, 30, 1)
        assert store["image"].chunks == (1, 40, 30, 1)
        assert store["image"].compression == "gzip"


def test_a_limit_reads_the_first_images(files):
    write_part(files, [image(n, 8, 8) for n in "abc"], (3, 8, 8, 1))
    assert [i.name for i in read_part(files, 2)] == ["a", "b"]


def test_missing_truncated_and_other_files_are_named(files):
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
    with pytest.raises(UserError, match="different images"):
        list(read_part(files))


def stored(file, name):
    """Remove a data set from a file, so that it can be stored in another way."""
    store = h5py.File(file, "a")
    content = store[name][...]
    del store[name]
    return store, content


def external_link(file):
    store, _ = stored(file, "image")
    store["image"] = h5py.ExternalLink("secret.hdf5", "image")


def soft_link(file):
    store, content = stored(file, "image")
    store["elsewhere"] = content
    store["image"] = h5py.SoftLink("/elsewhere")


def virtual(file):
    store, content = stored(file, "image")
    layout = h5py.VirtualLayout(content.shape, "uint8")
    layout[...] = h5py.VirtualSource("secret.hdf5", "image", content.shape)
    store.create_virtual_dataset("image", layout)


def external_storage(file):
    store, content = stored(file, "image")
    external = [(str(file.with_name("secret.raw")), 0, content.size)]
    store.create_dataset("image", content.shape, "uint8", external=external)


def another(name, *shape, dtype="uint8", **storage):
    def change(file):
        store, _ = stored(file, name)
        store.create_dataset(name, shape, dtype, **storage)

    return change


def sizes(rows, columns):
    def change(file):
        with h5py.File(file, "a") as store:
            store["size"][0] = rows, columns

    return change


def unknown_filter(file):
    store, content = stored(file, "image")
    store.create_dataset("image", data=content, chunks=(1, 8, 8, 1), scaleoffset=4)


def deflated_twice(file):
    """Two deflate filters: the compression ratios multiply."""
    store, content = stored(file, "image")
    packing = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    packing.set_chunk((1, 8, 8, 1))
    packing.set_deflate(1)
    packing.set_deflate(9)
    space = h5py.h5s.create_simple(content.shape)
    h5py.h5d.create(store.id, b"image", h5py.h5t.NATIVE_UINT8, space, packing)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external_link, "image is a link, which is not followed"),
        (soft_link, "image is a link, which is not followed"),
        (virtual, "image keeps its content in other files"),
        (external_storage, "image keeps its content in other files"),
        (another("image", 1, 8, 8, 1, dtype="float64"), "image is float64"),
        (another("image", 0, 8, 8, 1, maxshape=(None, 8, 8, 1), chunks=(1, 8, 8, 1)), "image contains no image"),
        (another("image", 1, 64), "expected uint8 .N, H, W, 1 or 3."),
        (another("image", 1, 10**6, 10**6, 1), "expected at most 89478485"),
        (another("image", 10**12, 8, 8, 1, chunks=(1, 8, 8, 1)), "or incomplete"),
        (another("image", 1, 8, 8, 1), "not stored in one chunk per image"),
        (another("name", 10**12, dtype=h5py.string_dtype(), chunks=(1,)), "name is not a list of 1 texts"),
        (another("patient", 1, dtype="S1000000"), "patient is not a list of 1 texts"),
        (another("size", 10**12, 2, dtype="int64", chunks=(1, 2)), "size is int64 .1000000000000, 2."),
        (another("size", 1, 2, dtype="float32"), "size is float32"),
        (another("second_observer", 1, 9, 8, 1), "second_observer is uint8 .1, 9, 8, 1., unlike image"),
        (another("auxiliary", 1, 9, 8, 1), "auxiliary is uint8 .1, 9, 8, 1., unlike image"),
        (sizes(9, 8), "size: expected 1 to 8"),
        (sizes(-1, 8), "size: expected 1 to 8"),
        (unknown_filter, "packed in an unknown way"),
        (deflated_twice, "packed in an unknown way"),
    ],
)  # fmt: skip
def test_malicious_files_are_refused_by_name_before_memory_is_allocated(files, change, reason):
    write_part(files, [image("a", 8, 8)], (1, 8, 8, 1))
    with h5py.File(files[0], "a") as store:
        store["second_observer"] = store["auxiliary"] = store["image"][...]
    secret = files[0].with_name("secret.hdf5")
    write_part((secret, None, files[2]), [image("a", 8, 8)], (1, 8, 8, 1))
    secret.with_suffix(".raw").write_bytes(b"secret" * 20)
    change(files[0])
    for read in (read_part, names_and_patients):
        with pytest.raises(UserError, match=rf"imgs\.hdf5: .*{reason}.*; prepare the data again"):
            list(read(files))


def test_a_decompression_bomb_is_refused(files):
    side, number = 8192, 20
    packed = zlib.compress(bytes(side * side), 9)
    with h5py.File(files[0], "w") as store:
        shape = (number, side, side, 1)
        images = store.create_dataset("image", shape, "u1", chunks=(1, *shape[1:]), compression=9)
        for index in range(number):
            images.id.write_direct_chunk((index, 0, 0, 0), packed)
        store["size"] = [[side, side]] * number
        for label in ("name", "patient"):
            store.create_dataset(label, (number,), h5py.string_dtype())
    for file in files[1:]:
        shutil.copy(files[0], file)
    assert files[0].stat().st_size < 2**21
    with pytest.raises(UserError, match=r"imgs\.hdf5: \d+ bytes that would decompress to 1342177280"):
        list(read_part(files))
    assert next(iter(names_and_patients(files))) == ("", "")


FULL_DISKS = """
import resource, sys
from pathlib import Path
from lib.runtime.paths import PROJECT
from lib.runtime.atomic_files import written_atomically
from lib.datasets.prepared_hdf5 import write_part
from lib.runtime.errors import UserError
from tests.lib.datasets.test_prepared_hdf5 import noise

files = tuple(Path(sys.argv[1]) / name for name in "abc")
messages = set()
for limit in range(1, 60_000, 1777):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with written_atomically(*files) as beside:
            write_part(tuple(beside), noise(9, 100), (9, 100, 100, 1))
    except UserError as error:
        messages.add(str(error).partition(":")[2][:43])
assert messages == {" cannot be written: File too large; is the "}, messages
assert not list(Path(sys.argv[1]).iterdir())
"""


def noise(number: int, side: int) -> Iterator[PreparedImage]:
    for seed in range(number):
        pixels = np.random.default_rng(seed).integers(256, size=(side, side), dtype=np.uint8)
        yield PreparedImage("a", "p", pixels, pixels % 2, pixels % 2)


def test_a_full_disk_at_any_point_is_a_user_error_and_no_crash(tmp_path):
    # In a separate process, because HDF5 may crash at the exit.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISKS, tmp_path], cwd=PROJECT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_writing_keeps_one_image_in_memory(files):
    tracemalloc.start()
    try:
        write_part(files, noise(30, 200), (30, 200, 200, 1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert files[0].stat().st_size > 30 * 200**2 > 2 * peak


def test_ctrl_c_during_a_write_raises_keyboard_interrupt(files):
    def interrupt(frame, event, argument):  # as a signal handler would do
        if frame.f_code.co_name != "write" or not frame.f_code.co_filename.endswith("hdf5.py"):
            return None
        if event == "line" and "rest" in frame.f_locals:
            sys.settrace(None)
            raise KeyboardInterrupt
        return interrupt

    before = sys.gettrace()
    try:
        with pytest.raises(KeyboardInterrupt), written_atomically(*files) as beside:
            sys.settrace(interrupt)
            write_part(tuple(beside), noise(9, 100), (9, 100, 100, 1))
    finally:
        sys.settrace(before)
    assert not list(files[0].parent.iterdir())


def test_a_second_observer_who_drew_only_some_images_has_none_of_the_others(files):
    drawn, empty = (
        dataclasses.replace(i, second_observer=i.truth * keep)
        for i, keep in ((image("a", 20, 31), 1), (image("bc", 20, 31), 0))
    )
    write_part(files, [image("def", 25, 16), drawn, empty], (3, 25, 31, 1))
    first, second, third = read_part(files)
    assert first.second_observer is None
    np.testing.assert_array_equal(second.second_observer, drawn.second_observer)
    np.testing.assert_array_equal(third.second_observer, np.zeros((20, 31)))


def test_auxiliary_truth_is_read_as_it_was_written(files):
    written = [
        dataclasses.replace(i, auxiliary=1 - i.truth) for i in (image("a", 20, 31), image("bc", 25, 16))
    ]
    write_part(files, written, (2, 25, 31, 1))
    for before, after in zip(written, read_part(files), strict=True):
        np.testing.assert_array_equal(after.auxiliary, before.auxiliary)
        assert after.second_observer is None
