import dataclasses
import hashlib
import json

import cv2
import numpy as np
import pytest

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.datasets.leakage import (
    Fingerprint,
    keep_initial_split,
    near_copies,
    perceptual_hash,
    refuse_initial_weights,
    refuse_trained_images,
    seen_images,
    validation_images_used_for_training,
)
from lib.datasets.prepared_hdf5 import PreparedImage, write_part
from lib.datasets.split_file import read_split
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION


def member(patient, number, data_set="a"):
    return {
        "name": f"{patient}-{number}",
        "patient": patient,
        "sha256": f"{data_set}{patient}{number}",
        "truth_fraction": None,
    }


def split(folder, **parts):
    folder.mkdir(parents=True)
    content = {part: parts.get(part, []) for part in ("train", "validation", "test")}
    (folder / "split.json").write_text(json.dumps({"how": "", "parts": content}))


def started_from(folder, experiment, weights_of):
    """Configuration of an experiment that starts from the weights of another; tests on the prepared data."""
    weights = "none" if weights_of is None else folder / weights_of / "w_best.weights.h5"
    overrides = [f"training settings.initial_weights={weights}", f"data paths.path_local={folder / 'data'}"]
    configuration = read_configuration(DEFAULT_CONFIGURATION, overrides)
    if (folder / experiment).is_dir():
        (folder / experiment / "w_configuration.txt").write_text(configuration.as_text())
    return configuration


@pytest.fixture
def folder(tmp_path):
    split(tmp_path / "data", train=[member("1", 1)], test=[member("2", 1)])
    return tmp_path


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ({"train": [member("2", 1)]}, "test image 2-1, patient 2"),
        ({"validation": [member("2", 1)]}, "test image 2-1, patient 2"),
        # Another image of the test patient; the splits share image 1-1, so that the ids are the same persons.
        ({"train": [member("1", 1), member("2", 2)]}, "test image 2-1, patient 2"),
        ({"train": [member("1", 1), member("2", 2) | {"patient": "\uff12"}]}, "test image 2-1"),  # full width
        # The same image under another name.
        ({"train": [member("2", 1) | {"name": "x", "patient": "x"}]}, "test image 2-1"),
    ],
)
def test_weights_trained_on_a_test_patient_are_refused(folder, trained, message):
    split(folder / "before", **trained)
    with pytest.raises(UserError, match=message):
        refuse_initial_weights(started_from(folder, "now", "before"))


def test_validation_images_may_not_have_trained_the_initial_weights(tmp_path):
    split(tmp_path / "data", train=[member("1", 1)], validation=[member("3", 1)], test=[member("2", 1)])
    split(tmp_path / "before", train=[member("3", 1)], test=[member("2", 1)])
    configuration = started_from(tmp_path, "now", "before")
    refuse_initial_weights(configuration)
    with pytest.raises(UserError, match="validation image 3-1, patient 3"):
        refuse_initial_weights(configuration, validation=True)
    split(tmp_path / "earlier", train=[member("1", 1)], validation=[member("3", 1)])
    refuse_initial_weights(started_from(tmp_path, "now", "earlier"), validation=True)  # they validated only


def test_the_same_patient_id_in_another_data_set_is_another_person(folder):
    split(folder / "before", train=[member("2", 1, "synthetic")])
    refuse_initial_weights(started_from(folder, "now", "before"))


def test_a_shared_negative_does_not_make_patients_of_two_data_sets_the_same_persons(tmp_path):
    negative = member("normal 1", 1, "public") | {"negative": True}
    split(tmp_path / "data", train=[member("1", 1), negative], test=[member("2", 1)])
    split(tmp_path / "before", train=[member("2", 1, "other"), negative])
    refuse_initial_weights(started_from(tmp_path, "now", "before"))


def test_test_images_of_the_initial_weights_may_be_test_images_again(folder):
    split(folder / "before", train=[member("1", 1)], test=[member("2", 1)])
    refuse_initial_weights(started_from(folder, "now", "before"))


def test_the_initial_weights_of_the_initial_weights_are_checked_too(folder):
    split(folder / "first", train=[member("2", 1)])
    split(folder / "second", train=[member("7", 1, "synthetic")])
    started_from(folder, "second", "first")
    with pytest.raises(UserError, match=r"first.*was trained on test or validation images.*"):
        refuse_initial_weights(started_from(folder, "now", "second"))


def test_the_images_of_the_initial_weights_are_kept_when_their_folder_holds_another_training(folder):
    split(folder / "first", train=[member("2", 1)])
    split(folder / "second", train=[member("7", 1, "synthetic")])
    configuration, trained = started_from(folder, "second", "first"), Experiment(folder / "second", "w")
    keep_initial_split(trained, configuration)
    (folder / "first").rename(folder / "earlier")
    for another in ([member("8", 1)], None):
        if another:
            split(folder / "first", train=another)
        else:
            (folder / "first" / "split.json").unlink()
        for now, experiment in ((configuration, trained), (started_from(folder, "now", "second"), None)):
            with pytest.raises(UserError, match=r"was trained on test or validation images.*test image 2-1"):
                refuse_initial_weights(now, experiment)
        assert "a21" in seen_images(trained, configuration)


def test_the_validation_images_of_weights_that_trained_on_patches_are_training_images(folder):
    split(folder / "before", train=[member("5", 1)], validation=[member("3", 1)])
    (folder / "before" / "w_configuration.txt").write_text(
        read_configuration(
            DEFAULT_CONFIGURATION, ["training settings.validation=patches", "testing settings.threshold=0.5"]
        ).as_text()
    )
    split(folder / "with_validation", validation=[member("3", 1)], test=[member("2", 1)])
    configuration = started_from(folder, "now", "before")
    paths = dataclasses.replace(configuration.data_paths, path_local=folder / "with_validation")
    configuration = dataclasses.replace(configuration, data_paths=paths)
    (folder / "now").mkdir()
    now = Experiment(folder / "now", "w")
    keep_initial_split(now, configuration)
    assert [m.name for m in read_split(now.initial_split, "")["train"]] == ["5-1", "3-1"]
    for trained in (None, now):
        refuse_initial_weights(configuration, trained)
        with pytest.raises(UserError, match="validation image 3-1, patient 3"):
            refuse_initial_weights(configuration, trained, validation=True)


def test_a_cycle_of_initial_weights_ends(folder):
    split(folder / "first", train=[member("7", 1, "synthetic")])
    started_from(folder, "first", "first")
    refuse_initial_weights(started_from(folder, "now", "first"))


def test_another_data_set_for_the_test_is_checked(folder):
    split(folder / "before", train=[member("5", 1, "other")])
    split(folder / "other", test=[member("5", 1, "other")])
    configuration = started_from(folder, "now", "before")
    refuse_initial_weights(configuration)
    paths = dataclasses.replace(configuration.data_paths, path_test=folder / "other")
    with pytest.raises(UserError, match="test image 5-1"):
        refuse_initial_weights(dataclasses.replace(configuration, data_paths=paths))


def test_a_training_without_initial_weights_needs_no_split(tmp_path):
    refuse_initial_weights(started_from(tmp_path, "now", None))


def test_weights_without_a_stored_split_are_refused(folder):
    (folder / "before").mkdir()
    with pytest.raises(UserError, match=r"before/split\.json: no such file"):
        refuse_initial_weights(started_from(folder, "now", "before"))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"parts": {"train": [{"name": "1"}]}}', '{"parts": {"train": 3}}']
)
def test_a_damaged_split_is_an_error_that_names_the_file(tmp_path, content):
    file = tmp_path / "split.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"split\.json: not a split of this program"):
        read_split(file, "a prepared folder")


def test_seen_images_are_those_of_the_training_and_of_its_initial_weights(folder):
    split(folder / "first", train=[member("8", 1, "first")], test=[member("9", 1, "first")])
    validation = [member("4", 1) | {"pixels": "pixels of 4"}]
    split(folder / "second", train=[member("1", 1)], validation=validation, test=[member("2", 1)])
    seen = seen_images(Experiment(folder / "second", "w"), started_from(folder, "second", "first"))
    assert seen == {"first81", "a11", "a41", "pixels of 4"}


def test_seen_images_are_not_known_without_a_split(folder):
    assert seen_images(Experiment(folder / "other", "w"), started_from(folder, "other", None)) == frozenset()
    split(folder / "second", train=[member("1", 1)])
    (folder / "before").mkdir()  # initial weights that were trained elsewhere
    seen = seen_images(Experiment(folder / "second", "w"), started_from(folder, "second", "before"))
    assert seen == frozenset()


def pixels_of(seed):
    """Smooth noise of 48x40 pixels, as different from other seeds as two photographs."""
    noise = np.random.default_rng(seed).normal(size=(48, 40))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def packed(configuration, part, *images):
    """Write the HDF5 files of a part; an image is (name, patient, pixels)."""
    mask = np.ones((48, 40), np.uint8)
    files = configuration.data_paths.hdf5(part)
    files[0].parent.mkdir(exist_ok=True)
    write_part(files, (PreparedImage(*image, mask, mask) for image in images), (len(images), 48, 40, 3))


def trained_member(name, patient, pixels):
    sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
    return member(patient, 1) | {"name": name, "sha256": f"file {name}", "pixels": sha256}


def trained_here(folder, *overrides, **parts):
    """An experiment that was trained on a split, and the configuration of its test."""
    split(folder / "experiments" / "w", **parts)
    settings = [f"data paths.path_local={folder / 'data'}", *overrides]
    configuration = read_configuration(DEFAULT_CONFIGURATION, settings)
    experiment = Experiment(folder / "experiments" / "w", "w")
    experiment.configuration.write_text(configuration.as_text())
    return experiment, configuration


A, B, C, D = (pixels_of(seed) for seed in range(4))


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize(
    "image",
    [
        ("other name", "3", C),  # only its patient was trained on
        ("other name", "other", B),  # only its content
        ("3-1", "other", C),  # only its name
    ],
)
def test_images_that_were_trained_on_are_refused_under_other_names_too(tmp_path, part, image):
    experiment, configuration = trained_here(tmp_path, **{part: [trained_member("3-1", "3", B)]})
    packed(configuration, "test", ("9-1", "9", A), image)
    found = f"test image {image[0]}, patient {image[1]}: in the {part} part"
    with pytest.raises(UserError, match=found) as raised:
        refuse_trained_images(experiment, configuration, validation=True)
    assert "9-1" not in str(raised.value)


def test_patients_of_earlier_splits_are_compared_whatever_their_writing(tmp_path):
    earlier = [trained_member("P\u20133-1", "P\u20133", B)]  # an en dash and upper case, as they were written
    experiment, configuration = trained_here(tmp_path, train=earlier)
    packed(configuration, "test", ("p-3-2", "p-3", C))
    with pytest.raises(UserError, match="test image p-3-2, patient p-3: in the train part"):
        refuse_trained_images(experiment, configuration, validation=False)


def test_other_images_of_other_patients_may_be_tested(tmp_path):
    members = [trained_member("3-1", "3", B)]
    experiment, configuration = trained_here(tmp_path, train=members, validation=members)
    packed(configuration, "test", ("9-1", "9", A), ("8-1", "8", C))
    refuse_trained_images(experiment, configuration, validation=False)


def test_content_of_another_set_is_read_from_its_images_too(tmp_path):
    members = [trained_member("3-1", "3", B)]
    override = f"data paths.path_test={tmp_path / 'other'}"
    experiment, configuration = trained_here(tmp_path, override, train=members)
    split(tmp_path / "other", test=[member("9", 1, "other")])  # does not say so
    packed(configuration, "test", ("9-1", "9", B))
    with pytest.raises(UserError, match="test image 9-1, patient 9: in the train part"):
        refuse_trained_images(experiment, configuration, validation=False)


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"sha256": "file 3-1"}, True),
        ({"pixels": hashlib.sha256(B.tobytes()).hexdigest()}, True),
        ({"patient": "DRIVE 03"}, True),  # ids of public sets are the same persons everywhere
        ({"name": "3-1", "patient": "3"}, False),  # in another set, these may be others
        ({}, False),
    ],
)
def test_images_that_another_set_lists_are_compared(tmp_path, part, change, refused):
    override = f"data paths.path_test={tmp_path / 'other'}"
    members = [trained_member("3-1", "3", B), trained_member("4-1", "DRIVE 03", C)]
    experiment, configuration = trained_here(tmp_path, override, **{part: members})
    split(tmp_path / "other", test=[member("9", 1, "other") | change])
    packed(configuration, "test", ("9-1", "9", A))
    if not refused:
        refuse_trained_images(experiment, configuration, validation=False)
        return
    with pytest.raises(UserError, match=f"in the {part} part of the training"):
        refuse_trained_images(experiment, configuration, validation=False)


def test_patients_are_compared_with_another_folder_of_the_same_set(tmp_path):
    override = f"data paths.path_test={tmp_path / 'other'}"
    members = [trained_member("7-1", "7", B), trained_member("9-1", "9", C)]
    experiment, configuration = trained_here(tmp_path, override, train=members)
    split(tmp_path / "other", train=[members[1]], test=[trained_member("7-2", "7", A)])
    packed(configuration, "test", ("7-2", "7", A))
    with pytest.raises(UserError, match="test image 7-2, patient 7: in the train part"):
        refuse_trained_images(experiment, configuration, validation=False)


@pytest.mark.parametrize("image", [("x", "3", C), ("x", "other", B), ("3-1", "other", C)])
def test_validation_images_that_were_trained_on_choose_no_threshold(tmp_path, image):
    settings = ("testing settings.threshold=validation",)
    experiment, configuration = trained_here(tmp_path, *settings, train=[trained_member("3-1", "3", B)])
    packed(configuration, "test", ("9-1", "9", A))
    packed(configuration, "validation", image)
    with pytest.raises(UserError, match=f"validation image {image[0]}, patient .*: in the train part"):
        refuse_trained_images(experiment, configuration, validation=True)
    assert validation_images_used_for_training(experiment, configuration) == [image[0]]
    refuse_trained_images(experiment, configuration, validation=False)
    numbers = [f"testing settings.{key}" for key in ("threshold=0.5", "min_area_px=0", "precision=float32")]
    _, chosen = trained_here(tmp_path / "b", *numbers)
    paths = dataclasses.replace(configuration, testing_settings=chosen.testing_settings)
    refuse_trained_images(experiment, paths, validation=True)


def fingerprint(name, patient, pixels):
    return Fingerprint(name, patient, hashlib.sha256(pixels.tobytes()).hexdigest(), perceptual_hash(pixels))


def jpeg(pixels, quality):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], -1)


def one_pixel_changed(pixels):
    changed = pixels.copy()
    changed[20, 20] ^= 255
    return changed


@pytest.mark.parametrize(
    "copy",
    [
        one_pixel_changed,
        lambda p: jpeg(p, 60),
        lambda p: cv2.resize(p, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC),
        lambda p: cv2.resize(p, None, fx=2 / 3, fy=2 / 3, interpolation=cv2.INTER_AREA),
        lambda p: cv2.cvtColor(np.minimum(p, 254) + 1, cv2.COLOR_GRAY2RGB),
    ],
)
def test_near_copies_under_two_patients_are_named(copy):
    images = [fingerprint(name, name, p) for name, p in (("a", A), ("b", B), ("c", C))]
    (line,) = near_copies([*images, fingerprint("copy", "4", copy(B))])
    assert line.startswith("b, patient b, and copy, patient 4, look alike (")
    (line,) = near_copies([fingerprint("copy", "4", copy(B))], images)
    assert line.startswith("copy, patient 4, and b, patient b, look alike (")


def test_different_images_frames_of_one_patient_and_identical_images_are_no_near_copies():
    different = [fingerprint(str(seed), str(seed), pixels_of(seed)) for seed in range(30)]
    assert near_copies(different) == []
    b = fingerprint("b", "2", B)
    assert near_copies([b, fingerprint("frame", "2", one_pixel_changed(B))]) == []
    (line,) = near_copies([b], [fingerprint("b", "2", one_pixel_changed(B))])  # stored again, in another set
    assert line.startswith("b, patient 2, and b, patient 2, look alike")
    assert near_copies([b, fingerprint("same", "3", B)]) == [], "refused as the same image"
    assert near_copies([], [b]) == near_copies([b], []) == []


def test_a_perceptual_hash_is_the_signs_of_the_differences_of_block_means():
    image = np.random.default_rng(0).integers(0, 256, (272, 272), np.uint8)  # 272 = 16 * 17
    rows = np.rint(image.reshape(16, 17, 17, 16).mean(axis=(1, 3)))
    columns = np.rint(image.reshape(17, 16, 16, 17).mean(axis=(1, 3)))
    bits = [rows[:, 1:] > rows[:, :-1], (columns[1:] > columns[:-1]).T]
    np.testing.assert_array_equal(perceptual_hash(image), np.packbits(bits))


@pytest.mark.parametrize(("bits", "found"), [(32, True), (33, False)])
def test_near_copies_differ_in_at_most_32_of_512_bits(bits, found):
    first, second = np.zeros((2, 64), np.uint8)
    second[: bits // 8] = 255
    second[-1] = 2 ** (bits % 8) - 1
    lines = near_copies([Fingerprint("a", "1", "x", first), Fingerprint("b", "2", "y", second)])
    expected = "a, patient 1, and b, patient 2, look alike (32 of 512 bits of their hashes differ)"
    assert lines == [expected] * found


def test_near_copies_of_images_of_another_set_are_printed(tmp_path, capsys):
    override = f"data paths.path_test={tmp_path / 'other'}"
    experiment, configuration = trained_here(tmp_path, override)
    split(tmp_path / "other", test=[])
    packed(configuration, "test", ("x-1", "x", one_pixel_changed(B)), ("y-1", "y", D))
    for part, pixels in (("train", A), ("validation", B)):
        packed(configuration, part, (f"{part}-1", part, pixels))
    refuse_trained_images(experiment, configuration, validation=False)
    printed = capsys.readouterr().out
    assert printed.count("warning") == 1
    assert "test image x-1, patient x, and validation-1, patient validation, look alike" in printed


def test_validation_images_that_trained_the_initial_weights_choose_no_threshold(tmp_path):
    weights = f"training settings.initial_weights={tmp_path / 'before' / 'w_best.weights.h5'}"
    experiment, configuration = trained_here(tmp_path, weights)
    images = [("x", "other", B), ("3-2", "3", C), ("4-1", "4", D)]
    split(tmp_path / "data", validation=[trained_member(*image) for image in images])
    packed(configuration, "validation", *images)
    split(tmp_path / "before", train=[trained_member("3-1", "3", B)])
    assert validation_images_used_for_training(experiment, configuration) == ["x", "3-2"]


@pytest.mark.parametrize(("validation", "used"), [("patches", ["x"]), ("images", [])])
def test_validation_by_patches_trains_on_validation_images_too(tmp_path, validation, used):
    setting = f"training settings.validation={validation}"
    experiment, configuration = trained_here(tmp_path, setting, validation=[trained_member("3-1", "3", B)])
    packed(configuration, "validation", ("x", "x", B), ("y", "y", A))
    assert validation_images_used_for_training(experiment, configuration) == used
