import codecs
import re
import unicodedata
from pathlib import Path

import pytest

from lib.prediction.found_images import FoundImage
from lib.prediction.fovea import read_foveae
from lib.runtime.errors import UserError

IMAGES = [FoundImage.of(Path("in") / f"{name}.png", Path("out")) for name in "abc"]
EYES = [FoundImage.of(Path(f"/data/{name}.png"), Path("/out")) for name in ("A/1", "B/1", "B/2")]


def read(tmp_path, text, images, encoding="utf-8"):
    file = tmp_path / "fovea.csv"
    file.write_bytes(text.encode(encoding))
    return read_foveae(str(file), images)


def test_foveae_of_many_images_come_from_a_table(tmp_path):
    assert read(tmp_path, "image,row,column\nb.png,12,34\n", IMAGES) == {IMAGES[1].file: (12.0, 34.0)}
    assert read(tmp_path, "image,row,column\nb.png,12,34\n,,\n\n", IMAGES) == {IMAGES[1].file: (12.0, 34.0)}
    with pytest.raises(UserError, match=r"fovea\.csv: line 2: other\.png: no such image"):
        read(tmp_path, "image,row,column\nother.png,12,34\n", IMAGES)


@pytest.mark.parametrize(
    "names",
    [
        ("A/1.png", "B/1.png"),
        ("/data/A/1.png", "./B/1.png"),
        ("..\\A\\1.png", "data\\B\\1.png"),
        ("../data/A/1.png", "../data/B/1.png"),  # as in measurements.csv
    ],
)
def test_a_path_tells_images_of_one_name_apart(tmp_path, names):
    text = f"image,row,column\n{names[0]},1,2\n{names[1]},3,4\n2.png,5,6\n"
    found = read(tmp_path, text, EYES)
    assert found == {EYES[0].file: (1, 2), EYES[1].file: (3, 4), EYES[2].file: (5, 6)}


def test_the_whole_path_of_an_image_of_a_folder_given_with_dots_is_known(tmp_path):
    images = [FoundImage.of(Path("/data/B/../A/1.png"), Path("/out"))]
    assert read(tmp_path, "image,row,column\n/data/A/1.png,1,2\n", images) == {images[0].file: (1, 2)}


def test_the_whole_path_is_stronger_than_its_end(tmp_path):
    images = [FoundImage.of(Path(name), Path("/out")) for name in ("/A/1.png", "/B/A/1.png")]
    assert read(tmp_path, "image,row,column\n/A/1.png,1,2\n", images) == {Path("/A/1.png"): (1, 2)}


def test_ambiguous_and_double_rows_are_named(tmp_path):
    text = "image,row,column\n1.png,1,2\n2.png,3,4\nB/2.png,5,6\nA/1.png,x,2\nB/1.png,nan,2\nA/1.png,1\n"
    with pytest.raises(UserError) as error:
        read(tmp_path, text, EYES)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tmp_path / 'fovea.csv'} (5):"
    assert "line 2: 1.png: 2 images have this name (/data/A/1.png, /data/B/1.png)" in lines[1]
    assert "line 4: /data/B/2.png: already in line 3" in lines[2]
    assert all(
        f"line {n}: " in line and "two numbers" in line for n, line in zip((5, 6, 7), lines[3:], strict=True)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030"])
def test_the_tables_of_chinese_windows_are_read(tmp_path, encoding):
    image = FoundImage.of(Path("/data/眼底.png"), Path("/out"))
    assert read(tmp_path, "image,row,column\r\n眼底.png,1,2\r\n", [image], encoding) == {image.file: (1, 2)}


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    file = re.escape(str(tmp_path / "fovea.csv"))
    with pytest.raises(
        UserError, match=f"{file}: no column column: expected image,row,column, found 'image,row'"
    ):
        read(tmp_path, "image,row\n", EYES)
    with pytest.raises(UserError, match=f"{file}: no column"):
        read(tmp_path, "", EYES)
    (tmp_path / "fovea.csv").write_bytes(codecs.BOM_UTF16_LE + "image".encode("utf-16-le") + b"\xff\xff")
    with pytest.raises(UserError, match=file):
        read_foveae(str(tmp_path / "fovea.csv"), EYES)


def test_empty_fields_at_the_end_of_a_line_are_nothing(tmp_path):
    text = "image,row,column\nb.png,12,34,,\n,,,,\n"
    assert read(tmp_path, text, IMAGES) == {IMAGES[1].file: (12.0, 34.0)}


def test_decimal_commas_are_no_further_column(tmp_path):
    with pytest.raises(UserError, match=r"fovea\.csv: line 2: more than 3 fields; write 1\.5, not 1,5"):
        read(tmp_path, "image,row,column\nb.png,384,5,400,2\n", IMAGES)


def test_an_unclosed_quote_is_an_error_of_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^[^\n]*fovea\.csv: line \d+: not a CSV file \([^\n]*$"):
        read(tmp_path, 'image,row,column\n"b.png,12,34\n' + "c.png,1,2\n" * 20_000, IMAGES)


def test_names_of_macos_are_found(tmp_path):
    image = FoundImage.of(Path(unicodedata.normalize("NFD", "/data/Müller/é.png")), Path("/out"))
    name = unicodedata.normalize("NFC", "Müller/é.png")
    assert read(tmp_path, f"image,row,column\n{name},1,2\n", [image]) == {image.file: (1, 2)}


@pytest.mark.parametrize("text", ["12", "a,b", "1,2,3", "nan,1", "no.csv"])
def test_a_fovea_that_cannot_be_read_is_an_error(text):
    with pytest.raises(UserError, match="expected"):
        read_foveae(text, IMAGES[:1])


def test_one_fovea_for_several_images_is_refused():
    with pytest.raises(UserError, match="one position, 3 images"):
        read_foveae("1,2", IMAGES)
