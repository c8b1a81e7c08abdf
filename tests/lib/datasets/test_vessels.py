import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_datasets_vessels
from lib.configuration.reading import read_configuration
from lib.datasets.prepared_hdf5 import read_part
from lib.datasets.split_file import PARTS
from lib.datasets.vessel_sets import VESSEL_SETS
from lib.datasets.vessels import SPLITS, find_photographs, named_split, prepare, read_photograph
from lib.evaluation.pixel_scores import score_pixels
from lib.images.field_of_view import detect_field_of_view
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.conftest import tiny_settings


def configuration(folder: Path, set_name: str, *overrides: str):
    file = PROJECT / "configurations" / VESSEL_SETS[set_name].configuration
    paths = [s for s in tiny_settings(folder) if s.startswith(("data paths", "experiment name"))]
    return read_configuration(file, [*paths, *overrides])


def photograph(seed: int) -> np.ndarray:
    rows, columns = np.mgrid[:60, :64]
    inside = np.hypot(rows - 30, columns - 32) < 26
    texture = np.random.default_rng(seed).integers(90, 200, (60, 64, 3), dtype=np.uint8)
    return texture * inside[..., None].astype(np.uint8)


def mask(seed: int) -> np.ndarray:
    return (np.random.default_rng([seed, 1]).random((60, 64)) < 0.2).astype(np.uint8) * 255


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gz":
        plain = file.with_suffix("")
        Image.fromarray(pixels).save(plain)
        file.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    else:
        Image.fromarray(pixels).save(file)


def drive(folder: Path) -> Path:
    for number in range(1, 41):
        half = "test" if number <= 20 else "training"
        at = folder / "angiograms" / half
        save(at / "images" / f"{number:02d}_{half}.tif", photograph(number))
        save(at / "1st_manual" / f"{number:02d}_manual1.gif", mask(number))
        save(at / "mask" / f"{number:02d}_{half}_mask.gif", np.full((60, 64), 255, np.uint8))
        if half == "test":
            save(at / "2nd_manual" / f"{number:02d}_manual2.gif", mask(number + 100))
    return folder


def stare_names() -> list[str]:
    content = json.loads(named_split("STARE", "leave_one_patient_out").read_text())
    return [name for fold in content["folds"] for name in fold]


def stare(folder: Path) -> Path:
    for number, name in enumerate(stare_names()):
        at = folder / "angiograms"
        save(at / "stare-images" / f"{name}.ppm.gz", photograph(number))
        save(at / "labels-ah" / f"{name}.ah.ppm.gz", mask(number))
        save(at / "labels-vk" / f"{name}.vk.ppm.gz", mask(number + 50))
    return folder


def test_drive_is_written_with_both_observers_and_given_fields_of_view(tmp_path):
    settings = configuration(drive(tmp_path), "DRIVE")
    split = prepare(settings, "DRIVE")
    assert [len(split[part]) for part in PARTS] == [16, 4, 20]
    images = list(read_part(settings.data_paths.hdf5("test")))
    assert [i.name for i in images][:2] == ["01_test", "02_test"]
    assert images[0].patient == "DRIVE 01"
    np.testing.assert_array_equal(images[4].truth, mask(5) > 0)
    np.testing.assert_array_equal(images[4].second_observer, mask(105) > 0)
    assert images[4].field_of_view.all()
    trained = next(read_part(settings.data_paths.hdf5("train")))
    np.testing.assert_array_equal(trained.original, photograph(21))
    assert trained.second_observer is None


def test_present_drive_without_test_truth_is_written_but_cannot_be_scored(tmp_path):
    folder = drive(tmp_path)
    for file in (folder / "angiograms" / "test" / "1st_manual").iterdir():
        file.unlink()
    settings = configuration(folder, "DRIVE")
    split = prepare(settings, "DRIVE")
    assert {m.truth_fraction for m in split["test"]} == {None}
    images, truth, _ = settings.data_paths.hdf5("test")
    assert images.is_file() and not truth.exists()
    assert (tmp_path / "datasets" / "prepared.png").is_file()


def test_missing_truths_are_listed_and_nothing_is_written(tmp_path):
    folder = drive(tmp_path)
    (folder / "angiograms" / "test" / "1st_manual" / "07_manual1.gif").unlink()
    (folder / "angiograms" / "training" / "1st_manual" / "30_manual1.gif").unlink()
    with pytest.raises(UserError) as error:
        prepare(configuration(folder, "DRIVE"), "DRIVE")
    for name in ("07_test", "30_training"):
        assert name in str(error.value)
    assert not (tmp_path / "datasets").exists()


def test_folds_of_present_drive_contain_only_images_with_truth(tmp_path, capsys):
    folder = drive(tmp_path)
    for file in (folder / "angiograms" / "test" / "1st_manual").iterdir():
        file.unlink()
    overrides = "preparation.split_file=", "preparation.fold=1/5"
    split = prepare(configuration(folder, "DRIVE", *overrides), "DRIVE")
    names = [m.name for part in PARTS for m in split[part]]
    assert sorted(names) == [f"{n}_training" for n in range(21, 41)]
    assert "20 images without truth left out" in capsys.readouterr().out
    content = json.loads(named_split("DRIVE", "20_20").read_text())
    content["parts"]["train"].append(content["parts"]["test"].pop())
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="image 20_test of the train part has no truth"):
        prepare(configuration(folder, "DRIVE", f"preparation.split_file={file}"), "DRIVE")


def test_an_image_that_occurs_twice_is_a_fault(tmp_path):
    folder = drive(tmp_path)
    images = folder / "angiograms" / "training" / "images"
    Image.open(images / "21_training.tif").save(images / "21_training.jpg")
    overrides = "preparation.split_file=", "preparation.split_ratio=6:2:2"
    with pytest.raises(
        UserError,
        match=r"21_training\.jpg and training/images/21_training\.tif have the same name; remove all but one",
    ):
        prepare(configuration(folder, "DRIVE", *overrides), "DRIVE")


def test_two_masks_of_one_image_are_a_fault(tmp_path):
    folder = drive(tmp_path)
    masks = folder / "angiograms" / "training" / "1st_manual"
    shutil.copy(masks / "21_manual1.gif", masks / "21_manual1.bak.gif")
    overrides = "preparation.split_file=", "preparation.split_ratio=6:2:2"
    with pytest.raises(
        UserError, match=r"21_manual1\.bak\.gif and 21_manual1\.gif: two masks of 21_training"
    ):
        prepare(configuration(folder, "DRIVE", *overrides), "DRIVE")


def test_images_without_field_of_view_are_listed_if_others_have_one(tmp_path):
    folder = drive(tmp_path)
    masks = folder / "angiograms" / "test" / "mask"
    (masks / "02_test_mask.gif").rename(masks / "2_test_mask.gif")
    with pytest.raises(UserError, match=r"02_test\.tif: no field of view, though others have one"):
        prepare(configuration(folder, "DRIVE"), "DRIVE")
    save(masks / "02_test_mask.gif", np.zeros((60, 64), np.uint8))
    with pytest.raises(UserError, match=r"02_test_mask\.gif: is empty; expected white inside"):
        prepare(configuration(folder, "DRIVE"), "DRIVE")


def test_images_without_second_observer_are_listed_if_others_have_one(tmp_path):
    folder = stare(tmp_path)
    (folder / "angiograms" / "labels-vk" / "im0004.vk.ppm.gz").unlink()
    with pytest.raises(UserError, match=r"im0004\.ppm\.gz: no second observer"):
        prepare(configuration(folder, "STARE"), "STARE")


def test_a_strip_to_cut_off_is_refused_since_photographs_have_none(tmp_path):
    with pytest.raises(
        UserError, match=r"info_banner = bottom:9: expected nothing, since prepare_datasets_v"
    ):
        prepare(configuration(drive(tmp_path), "DRIVE", "preparation.info_banner=bottom:9"), "DRIVE")


def test_compressed_stare_is_read_and_its_field_of_view_is_detected(tmp_path):
    settings = configuration(stare(tmp_path), "STARE")
    prepare(settings, "STARE")
    image = next(read_part(settings.data_paths.hdf5("test")))
    number = stare_names().index(image.name)
    np.testing.assert_array_equal(image.original, photograph(number))
    np.testing.assert_array_equal(image.truth, mask(number) > 0)
    np.testing.assert_array_equal(image.field_of_view, detect_field_of_view(photograph(number)))


def test_leave_one_patient_out_tests_all_images_of_its_patient(tmp_path):
    file = SPLITS / "STARE_leave_one_patient_out.json"
    folder = stare(tmp_path)
    # Images 162 and 163 show the same eye, as 235 and 236 do.
    for fold, names, numbers in (
        (1, ["im0001"], [18, 1, 1]),
        (10, ["im0139"], [17, 2, 1]),
        (11, ["im0162", "im0163"], [16, 2, 2]),
        (18, ["im0324"], [18, 1, 1]),
    ):
        overrides = f"preparation.split_file={file}", f"preparation.fold={fold}/18"
        split = prepare(configuration(folder, "STARE", *overrides), "STARE")
        assert [m.name for m in split["test"]] == names
        assert len({m.patient for m in split["test"]}) == 1
        assert [len(split[part]) for part in PARTS] == numbers


def test_a_split_with_a_patient_in_two_parts_is_refused(tmp_path):
    content = json.loads(named_split("CHASE_DB1", "20_8").read_text())
    names = [m["name"] for members in content["parts"].values() for m in members]
    for number, name in enumerate(names):
        at = tmp_path / "angiograms"
        save(at / f"{name}.jpg", photograph(number))
        for observer in ("1stHO", "2ndHO"):
            save(at / f"{name}_{observer}.png", mask(number))
    content["parts"]["test"].append(content["parts"]["train"].pop())
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="patient CHASE_DB1 08 is in test and train"):
        prepare(configuration(tmp_path, "CHASE_DB1", f"preparation.split_file={file}"), "CHASE_DB1")


@pytest.mark.parametrize("file", sorted(SPLITS.glob("*.json")), ids=lambda f: f.stem)
def test_named_splits_name_every_image_once_and_their_source(file):
    content = json.loads(file.read_text())
    groups = content.get("folds") or [[m["name"] for m in content["parts"][part]] for part in PARTS]
    names = [name for group in groups for name in group]
    assert len(set(names)) == len(names)
    (data_set,) = (name for name in VESSEL_SETS if file.stem.startswith(f"{name}_"))
    assert len(names) == {"DRIVE": 40, "STARE": 20, "CHASE_DB1": 28}.get(data_set, len(names))
    assert len(content["source"]) > 20


@pytest.mark.parametrize("set_name", VESSEL_SETS)
def test_every_data_set_has_a_configuration_whose_split_is_its_own(set_name):
    file = PROJECT / "configurations" / VESSEL_SETS[set_name].configuration
    split = read_configuration(file).preparation.split_file
    assert split.parent == SPLITS and split.name.startswith(f"{set_name}_") and split.is_file()


def test_an_unknown_split_name_is_refused_with_the_known_names():
    with pytest.raises(UserError, match="STARE has the splits 10_10, 15_5, all, leave_one_patient_out"):
        named_split("STARE", "14_6")


@pytest.mark.parametrize(
    ("set_name", "part", "f1", "fov_pixels"),
    [("DRIVE", "test", 0.7891, 4_538_143), ("STARE", "", 0.7417, 6_241_919)],
)
def test_second_observer_scores_as_published(shared_data, set_name, part, f1, fov_pixels):
    photographs, faults = find_photographs(shared_data / set_name, set_name)
    assert faults == []
    images = [read_photograph(p) for p in photographs if part in p.name]
    inside = [i.field_of_view > 0 for i in images]
    human, truth = (
        np.concatenate([getattr(i, field)[m] for i, m in zip(images, inside, strict=True)])
        for field in ("second_observer", "truth")
    )
    assert truth.size == fov_pixels
    assert score_pixels(human, truth, 0.5).f1 == pytest.approx(f1, abs=5e-5)


def test_zones_of_windows_are_no_images_and_endings_may_be_capital(tmp_path):
    folder = drive(tmp_path) / "angiograms"
    for file in [f for f in folder.rglob("*") if f.is_file()]:
        file.with_name(f"{file.name}:Zone.Identifier").write_text("[ZoneTransfer]\nZoneId=3\n")
        file.with_name(f"._{file.name}").write_bytes(b"notes of macOS")
    found, faults = find_photographs(folder, "DRIVE")
    assert len(found) == 40 and not faults
    assert {f.truth.suffix for f in found} == {".gif"}
    chase = tmp_path / "chase"
    save(chase / "Image_01L.JPG", photograph(1))
    save(chase / "Image_01L_1stHO.png", mask(1))
    save(chase / "Image_01L_2ndHO.png", mask(2))
    (photo,), faults = find_photographs(chase, "CHASE_DB1")
    assert (photo.patient, photo.truth.name, faults) == ("CHASE_DB1 01", "Image_01L_1stHO.png", [])


def test_the_next_step_trains_with_the_split_that_was_chosen(tmp_path, monkeypatch, capsys):
    paths = [f"data paths.path_local={tmp_path}/own", f"data paths.path_images={stare(tmp_path)}/angiograms"]
    options = [word for path in paths for word in ("--set", path)]
    monkeypatch.setattr("sys.argv", ["prepare", "STARE", "--split", "10_10", *options])
    prepare_datasets_vessels.main()
    *_, last = capsys.readouterr().out.splitlines()
    assert f"--set preparation.split_file={named_split('STARE', '10_10')}" in last


def test_after_split_all_the_next_step_is_a_test_of_another_network(tmp_path, monkeypatch, capsys):
    paths = [f"data paths.path_local={tmp_path}/all", f"data paths.path_images={stare(tmp_path)}/angiograms"]
    options = [word for path in paths for word in ("--set", path)]
    monkeypatch.setattr("sys.argv", ["prepare", "STARE", "--split", "all", *options])
    prepare_datasets_vessels.main()
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("next: test a network that was trained on another data set: python run_testing.py")
    assert f"path_test={tmp_path}/all" in last
