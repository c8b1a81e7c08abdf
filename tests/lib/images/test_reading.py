import hashlib
import os
import struct
import time
import warnings
import zlib

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from benchmarks.image_formats import all_kinds, dicom_files, outcome
from lib.images.checked_files import file_sha256
from lib.images.formats.dicom import pixel_spacing_mm
from lib.images.png import write_png
from lib.images.reading import decode_mask, is_image_file, passed_over, read_image, read_mask
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

DATA = PROJECT.parent / "shared" / "data"

GREY = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
SIXTEEN = (GREY.astype(np.uint16) * 16).clip(0, 4080)  # 12 bits in a 16-bit container
COLOUR_SIXTEEN = np.stack([SIXTEEN, 4080 - SIXTEEN, SIXTEEN // 2], axis=-1)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".pgm", ".gif", ".TIFF", ".PNG"])
def test_grey_is_kept(tmp_path, suffix):
    path = tmp_path / f"a b{suffix}"
    Image.fromarray(GREY).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm"])
def test_colour_is_kept(tmp_path, suffix):
    path = tmp_path / f"colour{suffix}"
    Image.fromarray(COLOUR).save(path)
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_equal_channels_become_grey(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(path)
    np.testing.assert_array_equal(read_image(path), GREY)


def test_jpeg(tmp_path):
    path = tmp_path / "flat.jpeg"
    Image.new("RGB", (16, 8), (200, 100, 50)).save(path, quality=100)
    image = read_image(path)
    assert image.shape == (8, 16, 3)
    assert np.abs(image - np.array([200.0, 100, 50])).max() <= 2


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation(tmp_path, orientation):
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(path, exif=exif)
    # EXIF 2.32, 4.6.4: where the 0th row and the 0th column of the stored image lie.
    as_seen = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    np.testing.assert_array_equal(read_image(path), as_seen[orientation](COLOUR))


def test_palette(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image = image.convert("P")
    image.putdata([0, 1, 2, 1])
    image.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    image.save(path)
    expected = [[[0, 0, 0], [10, 20, 30]], [[200, 100, 50], [10, 20, 30]]]
    np.testing.assert_array_equal(read_image(path), expected)
    image.save(path, transparency=2)
    expected[1][0] = [0, 0, 0]
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_blended_with_black(tmp_path, mode):
    path = tmp_path / "transparent.png"
    image = Image.new(mode, (2, 1), (200,) * (len(mode) - 1) + (255,))
    image.putpixel((1, 0), (200,) * (len(mode) - 1) + (0,))
    image.save(path)
    np.testing.assert_array_equal(read_image(path), [[200, 0]])


def test_cmyk_and_one_bit(tmp_path):
    cmyk = tmp_path / "cmyk.tif"
    Image.new("CMYK", (3, 2), (0, 255, 255, 0)).save(cmyk)
    np.testing.assert_array_equal(read_image(cmyk), np.full((2, 3, 3), (255, 0, 0)))
    one_bit = tmp_path / "one.pbm"
    Image.fromarray(GREY > 99).save(one_bit)
    np.testing.assert_array_equal(read_image(one_bit), np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_is_scaled_by_its_own_range(tmp_path, suffix):
    path = tmp_path / f"sixteen{suffix}"
    cv2.imwrite(str(path), SIXTEEN)
    np.testing.assert_array_equal(read_image(path), GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour_keeps_its_lower_bits(tmp_path, suffix):
    path = tmp_path / f"sixteen{suffix}"
    cv2.imwrite(str(path), COLOUR_SIXTEEN[..., ::-1])
    expected = np.rint(COLOUR_SIXTEEN * (255 / 4080))
    np.testing.assert_array_equal(read_image(path), expected)


def test_sixteen_bit_colour_planes_are_refused(tmp_path):
    # A 2x1 TIFF of three planes, byte by byte: no installed library can write one.
    short, long, value = 3, 4, struct.pack
    entries = [(256, long, 1, 2), (257, long, 1, 1), (258, short, 3, 20), (259, long, 1, 1)]
    entries += [(262, long, 1, 2), (273, long, 3, 26), (277, long, 1, 3), (278, long, 1, 1)]
    entries += [(279, long, 3, 38), (284, long, 1, 2)]
    body = bytes(range(12)) + value("<3H", 16, 16, 16) + value("<6I", 8, 12, 16, 4, 4, 4)
    directory = value("<H", len(entries)) + b"".join(value("<HHII", *e) for e in entries)
    path = tmp_path / "planes.tif"
    path.write_bytes(value("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4))
    with pytest.raises(UserError, match="separate colour planes; export it as PNG"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_float_and_32_bit(tmp_path, dtype):
    path = tmp_path / "deep.tif"
    Image.fromarray(GREY.astype(dtype) * 1000 - 7).save(path)
    np.testing.assert_array_equal(read_image(path), GREY)


def test_constant_sixteen_bit_and_nan(tmp_path):
    constant = tmp_path / "constant.png"
    Image.fromarray(np.full((3, 3), 777, np.uint16)).save(constant)
    np.testing.assert_array_equal(read_image(constant), np.zeros((3, 3)))
    nan = tmp_path / "nan.tif"
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(nan)
    with pytest.raises(UserError, match=r"nan\.tif: has pixels that are NaN"):
        read_image(nan)


def test_one_pixel(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(np.full((1, 1), 9, np.uint8)).save(path)
    np.testing.assert_array_equal(read_image(path), [[9]])


def write_dicom(path, array, syntax=ExplicitVRLittleEndian, **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientName = "Mustermann^Erika"
    if array is not None:
        bits = array.dtype.itemsize * 8
        dataset.Rows, dataset.Columns = array.shape[:2]
        dataset.SamplesPerPixel = 3 if array.ndim == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if array.ndim == 3 else "MONOCHROME2"
        if array.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
        dataset.PixelData = array.tobytes()
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    if syntax.is_compressed and array is not None and not syntax.is_deflated:
        dataset.PixelData = pydicom.encaps.encapsulate([array.tobytes()])
        dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("name", ["a.dcm", "without_suffix", "a.png"])
@pytest.mark.parametrize("array", [GREY, COLOUR, SIXTEEN], ids=["grey", "colour", "16 bit"])
def test_dicom(tmp_path, name, array):
    write_dicom(tmp_path / name, array)
    expected = GREY if array is SIXTEEN else array
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize("array", [GREY, SIXTEEN], ids=["8 bit", "16 bit"])
def test_dicom_monochrome1_is_inverted(tmp_path, array):
    write_dicom(tmp_path / "a.dcm", array, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), 255 - GREY)


def test_dicom_window_and_rescaling(tmp_path):
    # Rescaled to 0..4080; a window of 1000..2999 (PS3.3 C.11.2.1.2: centre 2000, width 2000).
    elements = {"RescaleSlope": 2, "RescaleIntercept": 0, "WindowCenter": 2000, "WindowWidth": 2000}
    write_dicom(tmp_path / "a.dcm", SIXTEEN // 2, **elements)
    rescaled = (SIXTEEN // 2 * 2).astype(float)
    expected = np.rint(((rescaled - 1999.5) / 1999 + 0.5).clip(0, 1) * 255)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), expected)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(
    "elements",
    [{}, {"RescaleSlope": 1, "RescaleIntercept": 0}, {"WindowCenter": 128, "WindowWidth": 256}],
    ids=["plain", "rescaled by 1", "whole window"],
)
def test_dicom_of_eight_bits_has_the_stored_levels(tmp_path, elements, photometric):
    levels = np.arange(20, 120, dtype=np.uint8).reshape(10, 10)  # not stretched to 0..255
    write_dicom(tmp_path / "a.dcm", levels, PhotometricInterpretation=photometric, **elements)
    expected = 255 - levels if photometric == "MONOCHROME1" else levels
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), expected)


def test_dicom_window_of_eight_bits(tmp_path):
    levels = np.arange(20, 120, dtype=np.uint8).reshape(10, 10)
    write_dicom(tmp_path / "a.dcm", levels, WindowCenter=60, WindowWidth=81)  # 20 to 100
    expected = np.rint(((levels - 59.5) / 80 + 0.5).clip(0, 1) * 255)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), expected)


def lookup_table(keyword, first, depth, entries):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [len(entries), first, depth])
    table.add_new("LUTData", "US", list(entries))
    return {keyword: [table]}


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("array", "elements", "expected"),
    [
        (RAMP, lookup_table("VOILUTSequence", 0, 8, [i // 16 for i in range(4096)]), RAMP // 16),
        (RAMP, lookup_table("VOILUTSequence", 1000, 8, range(256)), np.clip(RAMP.astype(int) - 1000, 0, 255)),
        (
            BYTES,
            lookup_table("ModalityLUTSequence", 0, 16, [16 * i for i in range(256)])
            | {"WindowCenter": 2048, "WindowWidth": 4096},
            BYTES,
        ),
        (BYTES % 64, lookup_table("VOILUTSequence", 0, 8, range(64)) | {"BitsStored": 6, "HighBit": 5}, BYTES % 64),
        (BYTES, {"RescaleSlope": -1, "RescaleIntercept": 255, "WindowCenter": 128, "WindowWidth": 256}, 255 - BYTES),
        (BYTES, {"RescaleSlope": None, "RescaleIntercept": None}, BYTES),
        (BYTES, {"VOILUTFunction": "", "WindowCenter": 128, "WindowWidth": 256}, BYTES),
    ],
    ids=["8 bit table", "last entry", "modality table", "6 bit", "negative slope", "no slope", "no function"],
)  # fmt: skip
def test_dicom_tables_and_windows(tmp_path, array, elements, expected):
    write_dicom(tmp_path / "a.dcm", array, **elements)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), expected)


def test_dicom_ybr_becomes_rgb(tmp_path):
    ybr = cv2.cvtColor(COLOUR, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    write_dicom(tmp_path / "a.dcm", np.ascontiguousarray(ybr), PhotometricInterpretation="YBR_FULL")
    assert np.abs(read_image(tmp_path / "a.dcm").astype(int) - COLOUR).max() <= 2


def test_dicom_palette(tmp_path):
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in (("Red", [0, 255]), ("Green", [0, 100]), ("Blue", [0, 50])):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        values = np.array(table, np.uint16).tobytes()
        elements[f"{colour}PaletteColorLookupTableData"] = values
    write_dicom(tmp_path / "a.dcm", np.array([[0, 1]], np.uint8), **elements)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), [[[0, 0, 0], [255, 100, 50]]])


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (None, {}, "without an image"),
        (GREY, {"NumberOfFrames": 5}, "has 5 frames; export"),
        (GREY, {"syntax": JPEGLSLossless}, "JPEG-LS.*pip install pylibjpeg"),
        (GREY, {"syntax": pydicom.uid.DeflatedExplicitVRLittleEndian}, "deflated"),
        (GREY, {"syntax": pydicom.uid.MPEG2MPML}, "MPEG2.*export it uncompressed"),
        (GREY, {"Rows": 40000, "Columns": 40000}, "million pixels"),
        (GREY, {"Rows": 400}, "damaged"),
    ],
)
def test_dicom_refused_without_naming_the_patient(tmp_path, array, options, reason):
    path = tmp_path / "a.dcm"
    write_dicom(path, array, **options)
    with pytest.raises(UserError, match=reason) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "Mustermann" not in str(raised.value)
    assert "\n" not in str(raised.value)


def png_header(width, height):
    """A PNG whose header has a size but which has no pixels."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello, this is no image" * 20, "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (png_header(40_000, 40_000), "more than 89 million pixels"),
        (png_header(12_000, 9_000), "more than 89 million pixels"),
        (png_header(10, 10), "cannot be read, damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_bomb_guard_does_not_depend_on_pillows_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(40_000, 40_000))
    with pytest.raises(UserError, match="million pixels"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".pgm", ".gif"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.\w+: "):
        read_image(path)


@pytest.mark.parametrize(("suffix", "number"), [(".gif", "several"), (".tif", "3"), (".webp", "several")])
def test_several_frames_are_refused(tmp_path, suffix, number):
    path = tmp_path / f"many{suffix}"
    frames = [Image.fromarray(np.roll(GREY, i, 1)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=f"has {number} frames; export the one to be used"):
        read_image(path)


def test_fifos_folders_and_missing_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("fifo.png", "folder.png"):
        for read in (read_image, read_mask, file_sha256):
            with pytest.raises(UserError, match="not a regular file"):
                read(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "absent.png")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(UserError, match="is not a DICOM file"):
        read_image(tmp_path / "text.dcm")


MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)


@pytest.mark.parametrize(
    ("suffix", "array"),
    [
        (".png", MASK),
        (".png", MASK * 255),
        (".gif", MASK * 255),
        (".png", MASK.astype(bool)),
        (".tif", MASK.astype(np.uint16) * 65535),
        (".png", np.stack([MASK * 255] * 3, axis=-1)),
        (".png", MASK[..., None] * np.array([128, 0, 0], np.uint8)),
        (".png", MASK * 100 + 50),
        (".bmp", MASK * 7),
    ],
)
def test_mask_of_two_levels(tmp_path, suffix, array):
    path = tmp_path / f"mask{suffix}"
    Image.fromarray(array).save(path)
    mask = read_mask(path)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, MASK)


def test_the_darker_colour_is_the_background(tmp_path):
    colours = np.array([[32, 32, 32], [0, 255, 0]], np.uint8)
    Image.fromarray(colours[MASK]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MASK)


def test_palette_mask(tmp_path):
    path = tmp_path / "labelme.png"
    image = Image.fromarray(MASK).convert("P")
    image.putdata(MASK.ravel().tolist())
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(path)
    np.testing.assert_array_equal(read_mask(path), MASK)


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_mask_of_one_level(tmp_path, level, expected):
    path = tmp_path / "constant.png"
    Image.fromarray(np.full((2, 3), level, np.uint8)).save(path)
    np.testing.assert_array_equal(read_mask(path), np.full((2, 3), expected))


def test_mask_of_more_levels_is_refused(tmp_path):
    jpeg = tmp_path / "mask.jpg"
    disc = cv2.circle(np.zeros((64, 64), np.uint8), (30, 30), 20, 255, -1)
    Image.fromarray(disc).save(jpeg, quality=60)
    levels = len(np.unique(np.asarray(Image.open(jpeg))))
    with pytest.raises(UserError, match=f"has {levels} levels, a mask has two; save it as PNG"):
        read_mask(jpeg)


@pytest.mark.parametrize("black_on_transparent", [True, False])
def test_a_mask_that_its_transparency_hides_is_refused(tmp_path, black_on_transparent):
    values = np.zeros((8, 9, 4), np.uint8)
    values[2:5, 3:7, 3 if black_on_transparent else slice(3)] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: is entirely black where its transparency is applied"):
        read_mask(tmp_path / "a.png")
    with pytest.raises(UserError, match="shape 1: is entirely black where"):
        decode_mask((tmp_path / "a.png").read_bytes(), "shape 1")


def test_a_white_mask_on_a_transparent_background_is_read(tmp_path):
    values = np.full((8, 9, 4), 255, np.uint8)
    values[..., 3] = np.eye(8, 9) * 255
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), np.eye(8, 9))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mask_of_nan_is_refused(tmp_path, value):
    values = np.full((8, 9), value, np.float32)
    values[2:5, 3:7] = 1
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: has pixels that are NaN or infinite"):
        read_mask(tmp_path / "a.tif")


def test_decode_mask_names_its_source(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(MASK * 255).save(path)
    np.testing.assert_array_equal(decode_mask(path.read_bytes(), "shape 3"), MASK)
    with pytest.raises(UserError, match=r"^shape 3: is not an image"):
        decode_mask(b"junk", "shape 3")


@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_write_png(tmp_path, array):
    write_png(tmp_path / "new" / "out.png", array)
    written = np.asarray(Image.open(tmp_path / "new" / "out.png"))
    np.testing.assert_array_equal(written, array)
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["out.png"]
    with pytest.raises(ValueError, match=r"expected uint8 .*found float64"):
        write_png(tmp_path / "out.png", array / 2)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"out\.png: cannot be written"):
        write_png(tmp_path / "file" / "out.png", array)


def test_sha256(tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a.png") == hashlib.sha256(b"abc").hexdigest()


def test_drive_field_of_view_masks():
    files = sorted((DATA / "DRIVE" / "test" / "mask").glob("*.gif"))
    if not files:
        pytest.skip("no ../shared/data/DRIVE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(int(read_mask(f).sum()) for f in files) == 4_538_143


def test_only_dicom_files_have_a_pixel_spacing(tmp_path):
    write_dicom(tmp_path / "a", GREY, PixelSpacing=[0.0114, 0.0118])
    write_dicom(tmp_path / "b", GREY)
    write_dicom(tmp_path / "c", GREY, PixelSpacing=[0, 0.01])
    Image.fromarray(GREY).save(tmp_path / "d.png", dpi=(300, 300))
    found = [pixel_spacing_mm(tmp_path / name) for name in ("a", "b", "c", "d.png")]
    assert found == [(0.0114, 0.0118), None, None, None]


@pytest.mark.parametrize("spacing", [[0.264583, 0.264583], [1.17e-5, 1.17e-5]])
def test_the_pixel_spacing_of_a_screen_or_in_metres_is_ignored_with_a_warning(tmp_path, capsys, spacing):
    write_dicom(tmp_path / "a", np.zeros((768, 768), np.uint8), PixelSpacing=spacing)
    assert pixel_spacing_mm(tmp_path / "a") is None
    assert "its PixelSpacing makes the image " in capsys.readouterr().out


def test_a_run_length_encoded_bmp_is_refused_before_it_is_decoded(tmp_path):
    """Found by fuzzing: 229 bytes of 74 million pixels, which take Pillow seconds."""
    header = struct.pack("<IiiHHIIiiII", 40, 8_257_543, 9, 1, 8, 1, 0, 2835, 2835, 256, 0)
    start = 14 + len(header) + 4 * 256
    file = struct.pack("<2sIHHI", b"BM", start + 9, 0, 0, start) + header + bytes(4 * 256)
    (tmp_path / "a.bmp").write_bytes(file + b"\xff\x07" * 4)
    with pytest.raises(UserError, match=r"a\.bmp: is a run-length encoded BMP"):
        read_image(tmp_path / "a.bmp")


def test_a_pixel_spacing_that_is_not_a_number_is_none(tmp_path):
    """Found by fuzzing: such an image was refused."""
    write_dicom(tmp_path / "a", GREY, PixelSpacing=[1.5, 2.5])
    content = (tmp_path / "a").read_bytes()
    assert content.count(b"1.5\\2.5") == 1
    (tmp_path / "a").write_bytes(content.replace(b"1.5\\2.5", b".\\     "))
    assert pixel_spacing_mm(tmp_path / "a") is None


def test_sixteen_bits_are_written_unchanged(tmp_path):
    levels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    write_png(tmp_path / "a.png", levels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), levels)
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "b.png", levels.astype(np.float32))


def test_a_png_that_cannot_be_written_keeps_the_earlier_file(tmp_path):
    file = tmp_path / "long.png"
    file.write_bytes(b"earlier")
    with pytest.raises(UserError, match="no PNG can hold 1100000 x 1 pixels"):
        write_png(file, np.zeros((1, 1_100_000), np.uint8))
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("long.png", b"earlier")]
    with pytest.raises(ValueError, match=r"expected uint8 .* found uint8 \(2, 2, 4\)"):
        write_png(file, np.zeros((2, 2, 4), np.uint8))


def test_every_kind_that_libraries_write_is_read_to_its_pixels_or_refused_by_its_kind(tmp_path):
    results = [(f"{kind.writer}: {kind.name}", outcome(kind, tmp_path)) for kind in all_kinds()]
    assert len(results) > 1000
    assert [r for r in results if r[1].startswith(("wrong", "cannot be read"))] == []
    read = {name for name, result in results if result == "read"}
    for name in (
        "u2 miniswhite no alpha < zlib",
        "i1 minisblack no alpha < contig",
        "u4 minisblack no alpha > zlib",
    ):
        assert f"tifffile: {name}" in read
    assert "by hand: P6, largest value 65535" in read
    assert "tifffile: image, reduced copy, mask" in read


def test_files_of_pydicom_are_read_or_refused_by_their_kind(tmp_path):
    refusals = {}
    for path in dicom_files():
        try:
            read_image(path)
        except UserError as error:
            refusals[path.name] = str(error).removeprefix(f"{path}: ")
    damaged = [name for name, reason in refusals.items() if reason.startswith("cannot be read")]
    assert damaged == ["badVR.dcm"]  # a number of frames that is no number
    assert "12 bits; the installed decoders cannot decode it" in refusals["JPGExtended.dcm"]
    assert "pip install pylibjpeg" in refusals["JPGExtended.dcm"]
    assert "need 8192; damaged" in refusals["MR_truncated.dcm"]


def test_sixteen_bit_grey_with_alpha_is_refused_by_its_kind(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.ones((4, 5, 2), np.uint16), photometric="minisblack", extrasamples=["unassalpha"]
    )
    with pytest.raises(UserError, match="TIFF of 16-bit grey with alpha; export it as PNG"):
        read_image(path)


@pytest.mark.parametrize(("suffix", "directory"), [(".tif", 66), (".gif", 16)])
def test_tens_of_thousands_of_frames_are_refused_quickly(tmp_path, suffix, directory):
    tags = [(256, 1), (257, 1), (258, 8), (262, 1), (273, 8)]
    entries = struct.pack("<H", 5) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    pages = b"".join(entries + struct.pack("<I", 8 + directory * (i + 1)) for i in range(60_000))
    gif = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * 60_000
    path = tmp_path / f"many{suffix}"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + pages if suffix == ".tif" else gif)
    started = time.process_time()
    with pytest.raises(UserError, match="frames; export the one"):
        read_image(path)
    assert time.process_time() - started < 0.5


def test_damaged_ancillary_chunks_of_png_are_left_out_unless_they_change_pixels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path, pnginfo=None, dpi=(72, 72))
    data = bytearray(path.read_bytes())
    at = data.index(b"pHYs")
    data[at + 4] ^= 1
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), GREY)
    data[at : at + 4] = b"tRNS"
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_an_image_that_its_transparency_hides_is_refused(tmp_path, read):
    path = tmp_path / "hidden.png"
    Image.fromarray(np.stack([GREY, 0 * GREY], axis=-1), "LA").save(path)
    with pytest.raises(UserError, match="transparency"):
        read(path)


def test_dicom_high_bit_above_the_stored_bits(tmp_path):
    elements = {"BitsStored": 12, "HighBit": 15}
    write_dicom(tmp_path / "a.dcm", SIXTEEN << 4, **elements)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), GREY)
    write_dicom(tmp_path / "b.dcm", SIXTEEN, BitsStored=12, HighBit=9)
    with pytest.raises(UserError, match="HighBit = 9 contradicts BitsStored = 12"):
        read_image(tmp_path / "b.dcm")


def test_dicom_window_of_width_zero_is_no_window(tmp_path):
    write_dicom(tmp_path / "a.dcm", SIXTEEN, WindowCenter=2000, WindowWidth=0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), GREY)


def test_dicom_tag_that_contradicts_the_pixels_is_named(tmp_path):
    square = np.zeros((4, 4, 3), np.uint8)
    write_dicom(tmp_path / "a.dcm", square, PhotometricInterpretation="YBR_FULL_422")
    with pytest.raises(
        UserError, match=r"PhotometricInterpretation .* contradicts .* 48 bytes, as RGB has, not 32"
    ):
        read_image(tmp_path / "a.dcm")


def test_dicom_segmented_palette(tmp_path):
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, last in (("Red", 255), ("Green", 100), ("Blue", 50)):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        # PS3.3 C.7.9.2: one entry 0, then two entries on a line to `last`
        words = np.array([0, 1, 0, 1, 2, last], np.uint16)
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = words.tobytes()
    write_dicom(tmp_path / "a.dcm", np.array([[0, 2]], np.uint8), **elements)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), [[[0, 0, 0], [255, 100, 50]]])
    bomb = np.array([0, 1, 0] + [1, 65535, 1, 1, 65535, 2] * 9, np.uint16).tobytes()
    write_dicom(tmp_path / "b.dcm", GREY, **elements | {"SegmentedRedPaletteColorLookupTableData": bomb})
    with pytest.raises(UserError, match="segmented palette of 1179631 entries that says 3"):
        read_image(tmp_path / "b.dcm")


def test_dicom_of_fewer_than_eight_bits_uses_all_levels(tmp_path):
    write_dicom(tmp_path / "a.dcm", GREY // 64, BitsStored=2, HighBit=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm"), GREY // 64 * 85)


def test_pixel_spacing_in_functional_groups(tmp_path):
    measures, group = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing = [0.01, 0.02]
    group.PixelMeasuresSequence = [measures]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        write_dicom(tmp_path / "a.dcm", GREY, **{name: [group]})
        assert pixel_spacing_mm(tmp_path / "a.dcm") == (0.01, 0.02)


def test_images_of_a_folder_are_known_by_content_and_others_are_named(tmp_path):
    write_dicom(tmp_path / "IM000001", GREY)
    for name in ("a.png", "b.webp", "c.JP2", "._a.png", "a.tif:Zone.Identifier", "n1.txt", "DICOMDIR"):
        (tmp_path / name).write_bytes(b"x" * 200)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files if is_image_file(f)] == ["IM000001", "a.png", "b.webp", "c.JP2"]
    line = passed_over(files)
    assert line.startswith("4 files passed over, no images: ")
    for part in ("1 hidden (._a.png)", "1 .txt (n1.txt)", "a.tif:Zone.Identifier", "DICOMDIR"):
        assert part in line
    assert passed_over(files[-1:]) == "1 file passed over, no images: 1 .txt (n1.txt)"


@pytest.mark.parametrize(
    ("suffix", "options"), [(".webp", {"lossless": True}), (".jp2", {"irreversible": False})]
)
def test_webp_and_jpeg_2000(tmp_path, suffix, options):
    levels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    Image.fromarray(levels).save(tmp_path / f"a{suffix}", **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), levels)
