import dataclasses
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.configuration.reading import read_configuration, read_section
from lib.configuration.sections import SECTIONS
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION, PROJECT

FILES = sorted((PROJECT / "configurations").glob("*.txt"))
PLANS = [file for file in FILES if "[experiments]" in file.read_text(encoding="utf-8")]
"""Files of run_experiments.py."""
CONFIGURATIONS = [DEFAULT_CONFIGURATION, *(file for file in FILES if file not in PLANS)]


def changed(tmp_path: Path, old: str, new: str) -> Path:
    content = DEFAULT_CONFIGURATION.read_text(encoding="utf-8")
    assert content.count(old) == 1
    file = tmp_path / "mine.txt"
    file.write_text(content.replace(old, new), encoding="utf-8")
    return file


def fault(file: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        read_configuration(file, overrides)
    return str(error.value)


def comments(file: Path) -> dict[str, str]:
    """The comment above each key."""
    found, above = {}, []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            above.append(line[2:])
        elif "=" in line:
            found[line.split("=")[0].strip()] = " ".join(above)
            above = []
        else:
            above = []
    return found


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda f: f.name)
def test_all_configurations_of_the_project_are_valid(file):
    configuration = read_configuration(file)
    if configuration.data_attributes.structure == "vessels":
        assert configuration.testing_settings.min_area_px == 0  # thin vessels are small areas


def test_configuration_txt_has_a_comment_for_each_key():
    names = {f.name for kind in SECTIONS.values() for f in dataclasses.fields(kind)}
    explained = comments(DEFAULT_CONFIGURATION)
    assert explained.keys() == names and all(explained.values())


def test_a_file_overrides_keys_of_its_base(tmp_path):
    (tmp_path / "first.txt").write_text(
        f"[base]\nconfiguration = {DEFAULT_CONFIGURATION}\n[training settings]\nN_epochs = 7\nseed = 8\n"
    )
    second = tmp_path / "second.txt"
    second.write_text("[base]\nconfiguration = first.txt\n[training settings]\nseed = 9\n")
    read = read_configuration(second)
    assert (read.training_settings.N_epochs, read.training_settings.seed) == (7, 9)
    default = read_configuration(DEFAULT_CONFIGURATION)
    assert read.model == default.model
    (tmp_path / "again.txt").write_text(read.as_text())
    assert read_configuration(tmp_path / "again.txt").texts == read.texts


def test_files_that_are_bases_of_each_other_are_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.txt").write_text(f"[base]\nconfiguration = {other}.txt\n")
    assert "name each other in turn" in fault(tmp_path / "a.txt")
    (tmp_path / "c.txt").write_text("[base]\nconfig = a.txt\n")
    assert "[base] holds config: expected the one key 'configuration'" in fault(tmp_path / "c.txt")


def test_an_error_in_an_override_names_the_option_set():
    message = fault(DEFAULT_CONFIGURATION, "training settings.N_epochs=two")
    assert message.startswith("--set over ") and "N_epochs = 'two'" in message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("3/20", ((3,), 20)),
        ("2 + 4/5", ((2, 4), 5)),
        *((wrong, 0) for wrong in ("0/5", "6/5", "1/2", "x", "2+2/5", "4+2/5", "1+6/5", "1+2+3/5")),
    ],
)
def test_a_fold_is_one_of_at_least_three(value, expected):
    setting = f"preparation.fold={value}"
    if expected == 0:
        assert "k/n" in fault(DEFAULT_CONFIGURATION, setting)
    else:
        none = "training settings.validation=none"
        assert read_configuration(DEFAULT_CONFIGURATION, [setting, none]).preparation.fold == expected


def test_configuration_txt_has_the_settings_of_the_paper():
    configuration = read_configuration(DEFAULT_CONFIGURATION)
    model, training = configuration.model, configuration.training_settings
    testing = configuration.testing_settings
    assert (model.architecture, model.filters) == ("enhance_laddernet", (64, 128, 256, 512))
    assert model.reduction_ratio == 8
    assert (training.batch_size, training.learning_rate) == (4, 0.00001)
    assert (training.N_epochs, training.patience, training.best_by) == (200, 8, "auc")
    assert training.loss_in_FOV is False
    assert (testing.test_patch_height, testing.test_patch_width) == (96, 96)
    preprocessing = configuration.preprocessing
    assert (preprocessing.gamma, preprocessing.gamma_exponent) == (0.8, "inverse")
    assert configuration.preparation.split_ratio == (6, 2, 2)


def test_keys_of_retina_unet_keep_their_names():
    names = {f.name for kind in SECTIONS.values() for f in dataclasses.fields(kind)}
    assert names >= {
        "path_local",
        "train_imgs_original",
        "train_groundTruth",
        "train_border_masks",
        "test_imgs_original",
        "test_groundTruth",
        "test_border_masks",
        "name",
        "patch_height",
        "patch_width",
        "N_subimgs",
        "inside_FOV",
        "N_epochs",
        "batch_size",
        "nohup",
        "best_last",
        "full_images_to_test",
        "N_group_visual",
        "stride_height",
        "stride_width",
    }


@pytest.mark.parametrize(
    ("old", "window"), [("True", "overlap"), ("False", "side_by_side"), ("false", "side_by_side")]
)
def test_average_mode_of_retina_unet_is_translated(tmp_path, old, window):
    file = tmp_path / "a.txt"
    text = DEFAULT_CONFIGURATION.read_text(encoding="utf-8")
    file.write_text(text.replace("window = auto", f"average_mode = {old}"), encoding="utf-8")
    assert read_configuration(file).testing_settings.window == window
    override = f"testing settings.average_mode={old}"
    read = read_configuration(DEFAULT_CONFIGURATION, [override])
    assert read.testing_settings.window == window


@pytest.mark.parametrize(
    ("value", "tta"),
    [("True", "mirrors"), ("False", "none"), ("Mirrors", "mirrors"), ("symmetries", "symmetries")],
)
def test_true_and_false_of_older_files_are_mirrors_and_none(value, tta):
    read = read_configuration(DEFAULT_CONFIGURATION, [f"testing settings.tta={value}"])
    assert read.testing_settings.tta == tta


def test_channels_are_different_words_in_order():
    read = read_configuration(DEFAULT_CONFIGURATION, ["preprocessing.channels=texture, Grey"])
    assert read.preprocessing.channels == ("texture", "grey")
    for wrong in ("", "grey grey"):
        with pytest.raises(UserError, match=r"channels = .*expected one or more different words of preproc"):
            read_configuration(DEFAULT_CONFIGURATION, [f"preprocessing.channels={wrong}"])
    with pytest.raises(UserError, match="did you mean 'texture'"):
        read_configuration(DEFAULT_CONFIGURATION, ["preprocessing.channels=grey textur"])


def test_a_file_that_is_older_than_a_key_keeps_its_meaning(tmp_path):
    file = tmp_path / "a.txt"
    text = DEFAULT_CONFIGURATION.read_text(encoding="utf-8").replace("min_area_px = 20", "min_area_px = 0")
    lines = ["tta = none", "logit_shift = 0", "min_area_px = 0", "pixel_spacing_mm =", "connectivity = False"]
    lines += ["channels = preprocessed", "field_of_view_diameter = 0"]
    lines += [f"{key} = 0" for key in ("rotation", "scale", "shear", "shift", "elastic", "illumination")]
    lines += [f"{key} = 0" for key in ("blur", "noise", "weight_decay", "weight_average")]
    lines += ["moved_share = 1"]
    for line in lines:
        assert f"{line}\n" in text
        text = text.replace(f"{line}\n", "")
    file.write_text(text, encoding="utf-8")
    expected = read_configuration(DEFAULT_CONFIGURATION, ["testing settings.min_area_px=0"])
    assert read_configuration(file) == dataclasses.replace(expected, texts=read_configuration(file).texts)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("N_epochs = 200", "N_epoch = 200", "[training settings] unknown key 'N_epoch'; did you mean 'N_epochs'?"),
        ("N_epochs = 200", "", "[training settings] key 'N_epochs' is missing"),
        ("N_epochs = 200", "N_epochs = many", "N_epochs = 'many': expected a whole number at least 1"),
        ("N_epochs = 200", "N_epochs = 0", "N_epochs = '0': expected a whole number at least 1"),
        ("[model]", "[modle]", "unknown section [modle]; did you mean 'model'?"),
        ("threshold = 0.5", "threshold = 1.5", "threshold = '1.5': expected 'validation' or a number"),
        ("threshold = 0.5", "threshold = nan", "threshold = 'nan'"),
        ("stride_height = 48", "stride_height = 97", "stride_height = 97: expected at most test_patch_height = 96"),
        ("weight_decay = 0", "weight_decay = 0.1", "weight_decay = 0.1: expected 0 for optimizer = adam, or optimizer = adamw"),
        (
            "test_field_of_view_degrees =",
            "test_field_of_view_degrees = 30",
            "test_field_of_view_degrees = 30: found no [preprocessing] field_of_view_diameter and no "
            "[testing settings] training_field_of_view_degrees; expected both",
        ),
        ("rotation = 0", "rotation = 181", "rotation = '181': expected a number at least 0 and at most 180"),
        ("weight_average = 0", "weight_average = 1", "weight_average = '1': expected a number at least 0 and at most 0.9999"),
        ("inside_FOV = False", "inside_FOV = maybe", "inside_FOV = 'maybe': expected True or False"),
        ("architecture = enhance_laddernet", "architecture = enhance_ladernet", "did you mean 'enhance_laddernet'?"),
        ("filters = 64 128 256 512", "filters = 64", "filters = '64': expected two or more whole numbers"),
        ("patient_pattern = ^([^-_]+)", "patient_pattern = (", "patient_pattern = '(': expected a regular expression"),
        ("info_banner = auto", "info_banner = left", "info_banner = 'left'"),
        ("name = enhance_laddernet\n", "name = ../x\n", "name = '../x': expected a plain folder name"),
        ("name = enhance_laddernet\n", "name = mine\n  seed = 3\n", "name = 'mine\\nseed = 3': expected one line; the next line begins with a blank"),
        ("path_images = ./FFA", "path_images = ./FFA\n path_test = a", "path_images = './FFA\\npath_test = a': expected one line"),
        ("train_border_masks = FFA_dataset_borderMasks_train.hdf5", "train_border_masks = FFA_dataset_imgs_train.hdf5", "names FFA_dataset_imgs_train.hdf5 twice"),
        ("labels = NP, CNP", "labels = NP, BRVO", "labels and ignore_labels both hold BRVO"),
        ("split_ratio = 6:2:2", "split_ratio = 0:1:1", "e.g. 6:2:2; without training images 0:0:1"),
        ("split_ratio = 6:2:2", "split_ratio = 0:0:0", "e.g. 6:2:2; without training images 0:0:1"),
        ("split_ratio = 6:2:2", "split_ratio = 6:2", "split_ratio = '6:2': expected train:validation:test"),
        ("path_images = ./FFA", "path_images = ~nobody-of-that-name/FFA", "path_images = '~nobody"),
        ("N_epochs = 200", "N_epochs = " + "9" * 400, "N_epochs = '999"),
        ("patient_pattern = ^([^-_]+)", "patient_pattern = (a{99999999999})", "patient_pattern = '(a{9"),
        ("[model]", "[model]\n[model]", "mine.txt"),
        ("[data paths]", "path = 1", "mine.txt"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_that_names_file_key_found_and_expected(tmp_path, old, new, expected):
    if new.startswith("labels"):
        old = "\n" + old  # not the end of ignore_labels
        new = "\n" + new
    file = changed(tmp_path, old, new)
    message = fault(file)
    line = next(line for line in message.splitlines() if expected in line)
    assert str(file) in line
    assert "\n" not in message


def test_all_faults_are_listed_at_once(tmp_path):
    file = changed(tmp_path, "N_epochs = 200", "N_epochs = 0\npatienc = 3")
    message = fault(file, "model.dropout=2")
    assert all(name in message for name in ("N_epochs = '0'", "patienc'", "dropout = '2'"))


def test_an_empty_section_names_its_keys(tmp_path):
    content = DEFAULT_CONFIGURATION.read_text(encoding="utf-8")
    start, end = content.index("[model]") + 7, content.index("[training settings]")
    file = tmp_path / "empty.txt"
    file.write_text(content[:start] + "\n" + content[end:], encoding="utf-8")
    assert "[model] key 'filters' is missing" in fault(file)


def test_a_byte_order_mark_crlf_percent_and_words_for_yes_are_read(tmp_path):
    content = DEFAULT_CONFIGURATION.read_text(encoding="utf-8")
    content = content.replace("path_images = ./FFA", "path_images = /data/100% FFA 眼底")
    content = content.replace("inside_FOV = False", "inside_FOV = yes").replace("\n", "\r\n")
    file = tmp_path / "windows.txt"
    file.write_bytes(b"\xef\xbb\xbf" + content.encode())
    configuration = read_configuration(file, ["training settings.nohup=1"])
    assert configuration.data_paths.path_images == Path("/data/100% FFA 眼底")
    assert configuration.training_settings.inside_FOV is True
    assert configuration.training_settings.nohup is True


def test_overrides_change_settings_and_their_errors_are_listed():
    configuration = read_configuration(
        DEFAULT_CONFIGURATION, ["model.filters=4,8", "testing settings.threshold=Validation"]
    )
    assert configuration.model.filters == (4, 8)
    assert configuration.testing_settings.threshold == "validation"
    assert "did you mean 'filters'" in fault(DEFAULT_CONFIGURATION, "model.filter=4 8")
    assert "section.key=value" in fault(DEFAULT_CONFIGURATION, "filters")
    assert "did you mean 'model'" in fault(DEFAULT_CONFIGURATION, "modell.filters=4 8")


def test_relative_paths_start_at_the_project_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configuration = read_configuration(DEFAULT_CONFIGURATION)
    assert configuration.data_paths.path_images == PROJECT / "FFA"


def test_the_stored_text_gives_the_same_settings(tmp_path):
    changes = ["model.dropout=0.125", "preparation.labels=NP,\n    CNP"]
    first = read_configuration(DEFAULT_CONFIGURATION, changes)
    file = tmp_path / "stored.txt"
    file.write_text(first.as_text(), encoding="utf-8")
    again = read_configuration(file)
    assert again.model == first.model and again.preparation.labels == ("NP", "CNP")


def test_a_missing_file_and_a_binary_file_are_errors(tmp_path):
    assert "no such configuration file" in fault(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "binary.txt" in fault(tmp_path / "binary.txt")


@given(st.text(max_size=300))
def test_any_text_without_all_sections_is_an_error_that_names_the_file(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzzed.txt"
    file.write_text(content, encoding="utf-8", errors="surrogatepass", newline="")
    with pytest.raises(UserError, match=r"fuzzed\.txt"):
        read_configuration(file)


def test_no_threshold_is_chosen_on_images_used_for_training():
    message = fault(
        DEFAULT_CONFIGURATION, "training settings.validation=patches", "testing settings.threshold=validation"
    )
    assert "threshold or min_area_px = 'validation': expected a number" in message


def test_two_tested_folds_leave_no_image_for_validation():
    two, images = "preparation.fold=1+3/5", "training settings.validation=images"
    message = fault(DEFAULT_CONFIGURATION, two, images)
    assert (
        "fold = 1+3/5 tests two folds" in message
        and "expected [training settings] validation = none" in message
    )
    assert read_configuration(DEFAULT_CONFIGURATION, ["preparation.fold=1/5", images])
    for key in ("threshold", "min_area_px"):
        message = fault(
            DEFAULT_CONFIGURATION,
            two,
            "training settings.validation=none",
            f"testing settings.{key}=validation",
        )
        assert "threshold or min_area_px = 'validation': expected a number" in message


def test_more_filters_than_a_network_can_have_are_a_fault():
    network, six = "model.architecture=efficientnet_unet", "model.filters=4 4 4 4 4 4"
    assert "filters = 4 4 4 4 4 4: expected at most 5 numbers for architecture = efficientnet_unet" in fault(
        DEFAULT_CONFIGURATION, network, six
    )
    assert read_configuration(DEFAULT_CONFIGURATION, [network, "model.filters=4 4 4 4 4"])
    assert read_configuration(DEFAULT_CONFIGURATION, ["model.architecture=unet", six])


@pytest.mark.parametrize("file", CONFIGURATIONS[1:], ids=lambda f: f.name)
def test_an_experiment_does_not_change_when_configuration_txt_is_edited(file, tmp_path):
    edited = tmp_path / "project" / "configuration.txt"
    shutil.copytree(PROJECT / "configurations", edited.parent / "configurations")
    text = DEFAULT_CONFIGURATION.read_text(encoding="utf-8")
    for old, new in (("clahe_clip_limit = 2.0", "clahe_clip_limit = 9"), ("seed = 2025", "seed = 1")):
        assert old in text
        text = text.replace(old, new)
    edited.write_text(text, encoding="utf-8")
    before = read_configuration(file)
    after = read_configuration(edited.parent / "configurations" / file.name)
    for section in ("preprocessing", "augmentation", "model", "training settings", "testing settings"):
        assert after.texts[section] == before.texts[section]


def test_an_error_names_the_file_that_holds_the_key(tmp_path):
    (tmp_path / "first.txt").write_text(
        f"[base]\nconfiguration = {DEFAULT_CONFIGURATION}\n[model]\ndropout = 7\n"
    )
    second = tmp_path / "second.txt"
    second.write_text("[base]\nconfiguration = first.txt\n")
    assert fault(second).startswith(str(tmp_path / "first.txt"))
    second.write_text("[base]\nconfiguration = nowhere.txt\n")
    assert "[base] configuration = nowhere.txt: no such file" in fault(second)


@pytest.mark.parametrize(
    "content",
    [
        "x" * 2**20,
        "[model]\n" + "\n".join(f"key{i} = 1" for i in range(80_000)),
        "[model]\na" + " " * 60_000 + "b",  # configparser would take a quarter of a minute
        "[base]\nconfiguration = " + "a" * 5000,
    ],
    ids=["a megabyte", "many keys", "a long line", "a long name"],
)
def test_a_file_that_is_too_long_is_refused_quickly(tmp_path, content):
    file = tmp_path / "long.txt"
    file.write_text(content)
    started = time.process_time()
    assert fault(file) == f"{file}: expected a configuration of at most 65536 bytes, 4096 a line"
    assert time.process_time() - started < 1


def test_percent_signs_are_plain_characters(tmp_path):
    text = DEFAULT_CONFIGURATION.read_text(encoding="utf-8")
    file = tmp_path / "a.txt"
    file.write_text(text.replace("structure = CNP", "structure = %(structure)s"))
    assert read_configuration(file).data_attributes.structure == "%(structure)s"


def test_any_wrong_name_of_a_base_is_an_error(tmp_path):
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    for name in ("a" * 300, "a\0b", "loop.txt", ".", "~/x"):
        (tmp_path / "a.txt").write_text(f"[base]\nconfiguration = {name}\n")
        assert "[base] configuration = " in fault(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["preparation.auxiliary_labels=BRVO", "preparation.ignore_labels=BRVO, DR"],
            "ignore_labels and auxiliary_labels both hold BRVO: expected a label in one of them; with these "
            "auxiliary_labels, set ignore_labels = DR",
        ),
        (["preparation.auxiliary_labels=BRVO"], "set ignore_labels = (empty)"),
        (["preparation.auxiliary_labels=NP"], "labels and auxiliary_labels both hold NP"),
        (["data paths.path_negatives=a/x, b/X"], "more than one folder named x"),
        (["data paths.path_negatives=./FFA"], "which is path_images: expected another folder"),
        (["data paths.path_negatives=/x\0y"], "path_negatives"),
        (["training settings.negatives_share=1"], "expected a number at least 0 and at most 0.99"),
        (["training settings.auxiliary_loss_weight=-1"], "expected a number at least 0"),
    ],
)
def test_faults_of_negatives_and_auxiliary_labels(overrides, expected):
    assert expected in fault(DEFAULT_CONFIGURATION, *overrides)


def test_folders_of_negatives_start_at_the_project_and_are_none_in_older_files():
    read = read_configuration(DEFAULT_CONFIGURATION, ["data paths.path_negatives=a/b, /c d/e"])
    assert read.data_paths.path_negatives == (PROJECT / "a" / "b", Path("/c d/e"))
    texts = {name: t for name, t in read.texts["training settings"].items() if "auxiliary" not in name}
    del texts["negatives_share"]
    older = read_section("training settings", texts, "older")
    assert older.negatives_share is None and older.auxiliary_loss_weight == 0


def test_a_preparation_does_not_replace_the_file_of_its_folds(tmp_path):
    overrides = [f"data paths.path_local={tmp_path}", f"preparation.split_file={tmp_path / 'split.json'}"]
    read_configuration(DEFAULT_CONFIGURATION, overrides)
    with pytest.raises(UserError, match=r"the preparation of a fold writes this file; expected another one"):
        read_configuration(DEFAULT_CONFIGURATION, [*overrides, "preparation.fold=1/5"])


@pytest.mark.parametrize(
    "other", ["preparation.fold=1/5", "preparation.split_file=a.json", "data paths.path_negatives=negatives"]
)
def test_a_split_without_training_images_contradicts_folds_and_negatives(other):
    message = "split_ratio has no training images: expected an empty fold"
    with pytest.raises(UserError, match=message):
        read_configuration(DEFAULT_CONFIGURATION, ["preparation.split_ratio=0:0:1", other])
