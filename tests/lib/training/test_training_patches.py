import pytest

from lib.runtime.errors import UserError
from lib.training.train import train
from lib.training.training_patches import bounds_of_the_last_tenth, training_images
from tests.conftest import tiny_configuration


@pytest.mark.parametrize(
    ("number", "expected"), [(20, (18, 18)), (10, (9, 9)), (16, (14, 15)), (8, (7, 8)), (1, (0, 1))]
)
def test_the_last_tenth_contains_part_of_an_image_unless_ten_divides_the_number(number, expected):
    assert bounds_of_the_last_tenth(number) == expected


def test_validation_on_patches_uses_the_last_tenth_of_the_images(prepared, capsys):
    configuration = tiny_configuration(
        prepared,
        "experiment name.name=patches",
        "training settings.validation=patches",
        "testing settings.threshold=0.5",
    )
    by_part = training_images(tiny_configuration(prepared))
    pooled = [i.name for part in ("train", "validation") for i in by_part[part]]
    images = training_images(configuration)
    assert len(pooled) < 10  # so that one image is in both parts
    assert [i.name for i in images["train"]] == pooled
    assert [i.name for i in images["validation"]] == pooled[-1:]
    train(configuration)
    assert f"LEAKY: {pooled[-1]} trains as well" in capsys.readouterr().out


def test_the_error_for_patches_without_non_perfusion(prepared):
    with pytest.raises(UserError, match="no AUC is defined: raise"):
        train(
            tiny_configuration(
                prepared, "experiment name.name=none", "training settings.N_subimgs_validation=1"
            )
        )
