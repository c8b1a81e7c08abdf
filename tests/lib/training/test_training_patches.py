import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from lib.configuration.reading import read_configuration
from lib.datasets.prepared_hdf5 import read_part
from lib.images.preprocessing import preprocess
from lib.runtime.atomic_files import read_json
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION
from lib.training.patch_sampler import TrainingImage
from lib.training.train import _print_validation_images, train
from lib.training.training_patches import (
    PatchBatches,
    bounds_of_the_last_tenth,
    changed_preparation,
    fixed_patches,
    patch_sampler,
    refuse_unprepared,
    training_images,
)
from tests.conftest import tiny_configuration

CONFIGURATION = read_configuration(DEFAULT_CONFIGURATION)


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
    assert f"LEAKY: their patients also train: {pooled[-1]} (patient" in capsys.readouterr().out


def test_two_images_of_one_patient_in_both_parts_are_leaky(capsys):
    empty = np.zeros((1, 1, 1), np.uint8)
    first, second = (
        TrainingImage(f"7-{n}", empty, empty, empty, patient=p) for n, p in ((1, "7"), (2, "７"))
    )
    settings = replace(CONFIGURATION.training_settings, validation="patches")
    _print_validation_images({"train": [first], "validation": [second]}, settings)
    assert "of 7-2; LEAKY: their patients also train: 7-1 (patient 7)" in capsys.readouterr().out
    _print_validation_images({"train": [first], "validation": [replace(second, patient="8")]}, settings)
    assert "none of their patients trains" in capsys.readouterr().out


def test_data_that_were_prepared_as_another_fold_are_refused_and_other_settings_are_named(prepared, capsys):
    settings = ["experiment name.name=another_fold", "training settings.N_epochs=1"]
    with pytest.raises(UserError, match=r"\[preparation\] fold = 2/5, prepared with \(empty\): prepare "):
        train(tiny_configuration(prepared, *settings, "preparation.fold=2/5"))
    train(tiny_configuration(prepared, *settings, "preparation.labels=NP", "preparation.ignore_labels=BRVO "))
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: [prep")]
    assert warnings == [
        "warning: [preparation] labels = NP, prepared with NP, CNP: prepare again, or restore it"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "train:validation:test"),
        ("many", "train:validation:test"),
        (3, "a text"),
        (None, "a text"),
        (["1"], "a text"),
    ],
)
def test_a_split_that_was_changed_by_hand_is_an_error_of_one_line(prepared, tmp_path, text, expected):
    configuration = tiny_configuration(prepared, f"data paths.path_local={tmp_path}")
    split = read_json(tiny_configuration(prepared).data_paths.split, "")
    split["preparation"]["split_ratio"] = text
    configuration.data_paths.split.write_text(json.dumps(split))
    with pytest.raises(
        UserError,
        match=rf"^[^\n]*split\.json: preparation, split_ratio = [^\n]*: expected {expected}[^\n]*again$",
    ):
        changed_preparation(configuration)
    split["preparation"] = None
    configuration.data_paths.split.write_text(json.dumps(split))
    with pytest.raises(UserError, match="preparation = None: expected keys and texts; prepare"):
        changed_preparation(configuration)


@pytest.mark.parametrize(
    ("file", "message"),
    [(0, "has no validation part, which the training needs"), (1, "packed without truth")],
)
def test_a_part_that_is_missing_or_has_no_truth_is_refused(prepared, tmp_path, file, message):
    folder = tiny_configuration(prepared).data_paths.path_local
    shutil.copytree(folder, tmp_path / "data")
    configuration = tiny_configuration(prepared, f"data paths.path_local={tmp_path / 'data'}")
    configuration.data_paths.hdf5("validation")[file].unlink()
    with pytest.raises(UserError, match=message):
        refuse_unprepared(configuration)


def test_the_error_for_patches_without_non_perfusion(prepared):
    with pytest.raises(UserError, match="no AUC is defined: raise"):
        train(
            tiny_configuration(
                prepared, "experiment name.name=none", "training settings.N_subimgs_validation=1"
            )
        )


def test_a_patch_can_be_a_whole_image_of_several_channels(prepared):
    configuration = tiny_configuration(
        prepared,
        "preprocessing.channels=preprocessed local_contrast",
        "preprocessing.field_of_view_diameter=56",
        "data attributes.patch_height=72",
        "data attributes.patch_width=72",
        "augmentation.flip_horizontal=False",
        "augmentation.flip_vertical=False",
    )
    images = training_images(configuration)["train"]
    stored = {i.name: i for i in read_part(configuration.data_paths.hdf5("train"))}
    for image in images:
        original = stored[image.name]
        levels = preprocess(original.original, original.field_of_view, configuration.preprocessing)
        height, width = levels.shape[:2]
        assert image.levels.shape == (72, 72, 2) and max(height, width) < 72
        np.testing.assert_array_equal(image.levels[:height, :width], levels)
        assert (image.levels[height:] == (0, 128)).all() and not image.field_of_view[height:].any()
        # The share of positive pixels stays nearly the same.
        assert image.truth[:height, :width].mean() == pytest.approx(original.truth.mean(), abs=0.02)
        diameter = max(np.ptp(i) + 1 for i in np.nonzero(image.field_of_view))
        assert abs(diameter - 56) <= 1
    sampler = patch_sampler(configuration, images, truth_centred_share=0.5)
    x, y = PatchBatches(configuration, images, sampler, 0)[0]
    assert x.shape == (16, 72, 72, 2) and y.shape == (16, 72, 72, 2) and x.dtype == np.float32
    for patch, truth in zip(x, y[..., 0], strict=True):
        same = [i for i in images if np.array_equal(i.levels / np.float32(255), patch)]
        assert any(np.array_equal(i.truth, truth) for i in same)
    assert fixed_patches(configuration, "train", images).x.shape == (60, 72, 72, 2)


def test_negatives_never_validate(with_negatives):
    folder, settings = with_negatives
    by_image = training_images(tiny_configuration(folder, *settings))
    assert [i.name[:7] for i in by_image["train"] if i.negative] == ["normal "] * 3
    assert not any(i.negative for i in by_image["validation"])
    patches = ["training settings.validation=patches", "testing settings.threshold=0.5"]
    images = training_images(tiny_configuration(folder, *settings, *patches))
    labelled = [i.name for part in by_image.values() for i in part if not i.negative]
    assert [i.name for i in images["validation"]] == labelled[-1:]
    assert sum(i.negative for i in images["train"]) == 3


def test_a_share_of_negatives_without_negatives_is_refused(prepared):
    with pytest.raises(UserError, match=r"negatives_share = 0\.5: .* has no negatives; set \[data paths\]"):
        train(
            tiny_configuration(prepared, "experiment name.name=none", "training settings.negatives_share=0.5")
        )


def test_an_auxiliary_loss_without_auxiliary_truth_is_refused(prepared):
    with pytest.raises(UserError, match=r"auxiliary_loss_weight = 0\.5: .* has no auxiliary truth; set"):
        train(
            tiny_configuration(
                prepared, "experiment name.name=none", "training settings.auxiliary_loss_weight=0.5"
            )
        )


def test_the_auxiliary_truth_is_the_third_channel_and_is_augmented_like_the_truth(with_negatives):
    folder, settings = with_negatives
    settings = [*settings, "training settings.auxiliary_loss_weight=1", "augmentation.rotate_90=True"]
    configuration = tiny_configuration(folder, *settings)
    images = training_images(configuration)["train"]
    assert any(image.auxiliary.any() for image in images)
    sampler = patch_sampler(configuration, images, truth_centred_share=0)
    as_prepared = PatchBatches(configuration, images, sampler, 0)[0][1]
    # With the auxiliary truth in the place of the truth, channel 0 must be what channel 2 was.
    exchanged = [replace(i, truth=i.auxiliary, auxiliary=i.truth) for i in images]
    y = PatchBatches(configuration, exchanged, sampler, 0)[0][1]
    assert y.shape == (16, 32, 32, 3) and y.dtype == np.float32
    np.testing.assert_array_equal(y, as_prepared[..., [2, 1, 0]])
    switched_off = tiny_configuration(folder, *settings[:-2])
    assert PatchBatches(switched_off, images, sampler, 0)[0][1].shape == (16, 32, 32, 2)
