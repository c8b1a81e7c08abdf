from pathlib import Path

import pytest

from lib.prediction.found_images import FoundImage
from lib.prediction.fovea import read_foveae
from lib.runtime.errors import UserError

IMAGES = [FoundImage(Path("in") / f"{name}.png", name) for name in "abc"]


def test_foveae_of_many_images_come_from_a_table(tmp_path):
    file = tmp_path / "fovea.csv"
    file.write_text("image,row,column\nb.png,12,34\n")
    assert read_foveae(str(file), IMAGES) == {IMAGES[1].file: (12.0, 34.0)}
    file.write_text("image,row,column\nother.png,12,34\n")
    with pytest.raises(UserError, match=r"other images: other\.png: no such image"):
        read_foveae(str(file), IMAGES)


@pytest.mark.parametrize("text", ["12", "a,b", "1,2,3", "no.csv"])
def test_a_fovea_that_cannot_be_read_is_an_error(text):
    with pytest.raises(UserError, match="expected"):
        read_foveae(text, IMAGES[:1])


def test_one_fovea_for_several_images_is_refused():
    with pytest.raises(UserError, match="one position, 3 images"):
        read_foveae("1,2", IMAGES)
