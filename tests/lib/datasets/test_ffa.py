import base64
import dataclasses
import io
import json
import os
import shutil
import sys
import time
import unicodedata
from pathlib import Path

import cv2
import h5py
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw

import prepare_datasets_FFA
from lib.datasets.ffa import find_angiograms, prepare
from lib.datasets.prepared_hdf5 import read_part
from lib.datasets.split_file import PARTS, read_split
from lib.networks.network_choice import SHIPPED_NETWORK
from lib.runtime.errors import UserError
from tests.conftest import tiny_configuration, tiny_settings
from tests.lib.images.test_reading import write_dicom


def add(folder: Path, name: str, *, seed: int = 0, shapes=None, size=(60, 60), **fields) -> None:
    """An angiogram with a LabelMe file."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *name.encode()]).integers(60, 200, size, dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    if shapes is None:
        shapes = [("NP", [[10, 10], [30, 12], [20, 30 + seed]])]
    content = {
        "imagePath": f"..\\眼底\\{name}.png",
        "imageHeight": size[0],
        "imageWidth": size[1],
        "imageData": None,
        "shapes": [{"label": la, "points": p, "shape_type": "polygon"} for la, p in shapes],
    } | fields
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    for patient in range(5):
        add(tmp_path / "angiograms", f"{patient}-1 _020")
    return tmp_path


def written_images(folder: Path) -> dict:
    configuration = tiny_configuration(folder)
    return {image.name: image for part in PARTS for image in read_part(configuration.data_paths.hdf5(part))}


def faults(folder: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        prepare(tiny_configuration(folder, *overrides))
    assert not (folder / "datasets").exists() or not list((folder / "datasets").iterdir())
    return str(error.value)


def embedded(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return base64.b64encode(stream.getvalue()).decode()


def test_outlines_that_were_drawn_on_another_image_are_refused(folder):
    pixels = np.array(Image.open(folder / "angiograms" / "0-1 _020.png"))
    add(folder / "angiograms", "0-1 _020", imageData=embedded(pixels))
    prepare(tiny_configuration(folder))
    other = np.array(Image.open(folder / "angiograms" / "1-1 _020.png"))
    add(folder / "angiograms", "0-1 _020", imageData=embedded(other))
    add(folder / "angiograms", "2-1 _020", imagePath="3-1 _020.png")
    with pytest.raises(UserError) as error:
        prepare(tiny_configuration(folder))
    assert "0-1 _020.json: was drawn on another image than 0-1 _020.png" in str(error.value)
    assert "2-1 _020.json: is of the image 3-1 _020.png (imagePath), not of 2-1 _020.png" in str(error.value)


def test_a_16_bit_image_may_have_its_16_bit_picture_in_the_labelme_file(folder):
    levels = np.random.default_rng(0).integers(500, 4000, (60, 60)).astype(np.uint16)
    Image.fromarray(levels).save(folder / "angiograms" / "0-1 _020.png")
    data = base64.b64encode((folder / "angiograms" / "0-1 _020.png").read_bytes()).decode()
    content = json.loads((folder / "angiograms" / "0-1 _020.json").read_text("utf-8"))
    (folder / "angiograms" / "0-1 _020.json").write_text(json.dumps(content | {"imageData": data}))
    prepare(tiny_configuration(folder))


def test_truth_and_image_match_although_macos_decomposed_a_name(folder):
    add(folder / "angiograms", "7-1 Müller")
    for file in (folder / "angiograms").glob("7-1*.json"):
        file.rename(file.with_name(unicodedata.normalize("NFD", file.name)))
    prepare(tiny_configuration(folder))
    assert "7-1 Müller" in written_images(folder)


def test_synthetic_angiograms_are_written_with_their_exact_truth(prepared):
    images = written_images(prepared)
    assert len(images) == 8
    for name, image in images.items():
        content = json.loads((prepared / "angiograms" / f"{name}.json").read_text("utf-8"))
        mask = Image.new("L", (128, 128))
        for shape in content["shapes"]:
            if shape["label"] == "NP":
                points = [tuple(p) for p in shape["points"]]
                ImageDraw.Draw(mask).polygon(points, outline=1, fill=1)
        np.testing.assert_array_equal(image.truth, np.asarray(mask))
    names = {file.name for file in (prepared / "datasets").iterdir()}
    assert {"split.json", "prepared.png", "preprocessing.png"} < names and len(names) == 12


def test_written_masks_of_real_angiograms_equal_pillows_polygons(shared_data, tmp_path):
    configuration = tiny_configuration(tmp_path, f"data paths.path_images={shared_data / 'FFA'}")
    prepare(configuration)
    images = written_images(tmp_path)
    assert len(images) == 16
    for name, image in images.items():
        content = json.loads((shared_data / "FFA" / f"{name}.json").read_text("utf-8"))
        mask = Image.new("L", (content["imageWidth"], content["imageHeight"]))
        for shape in content["shapes"]:
            if shape["label"] == "NP":
                points = [tuple(p) for p in shape["points"]]
                ImageDraw.Draw(mask).polygon(points, outline=1, fill=1)
        expected = np.asarray(mask)
        union = (expected | image.truth).sum()
        assert (expected != image.truth).sum() <= 0.001 * union, name
    assert images["2-1   016"].patient == images["2-2 _018"].patient == "2"


def test_a_split_keeps_patients_together_and_is_written_with_hashes(folder):
    add(folder / "angiograms", "3-2 _021", seed=4)
    split, _ = prepare(tiny_configuration(folder))
    part_of = {m.name: part for part in PARTS for m in split[part]}
    assert part_of["3-1 _020"] == part_of["3-2 _021"]
    stored = json.loads((folder / "datasets" / "split.json").read_text("utf-8"))["parts"]
    assert all(len(m["sha256"]) == 64 for part in PARTS for m in stored[part])


def test_a_given_split_is_used(folder):
    names = [f"{patient}-1 _020" for patient in range(5)]
    given = {"train": names[3:], "validation": names[:1], "test": names[1:3]}
    content = {"parts": {part: [{"name": n} for n in given[part]] for part in PARTS}}
    (folder / "mine.json").write_text(json.dumps(content))
    configuration = tiny_configuration(folder, f"preparation.split_file={folder / 'mine.json'}")
    prepare(configuration)
    for part in PARTS:
        read = read_part(configuration.data_paths.hdf5(part))
        assert sorted(image.name for image in read) == sorted(given[part])


def test_masks_and_fields_of_view_are_read_from_their_folders(folder):
    images = folder / "angiograms"
    (images / "0-1 _020.json").unlink()
    truth = np.zeros((60, 60), np.uint8)
    truth[20:30, 5:40] = 255
    inside = np.zeros((60, 60), np.uint8)
    inside[5:55, 3:50] = 255
    for name, mask in (("masks", truth), ("field_of_view", inside)):
        (images / name).mkdir()
        Image.fromarray(mask).save(images / name / "0-1 _020.png")
    prepare(tiny_configuration(folder))
    image = written_images(folder)["0-1 _020"]
    np.testing.assert_array_equal(image.truth, truth > 0)
    np.testing.assert_array_equal(image.field_of_view, inside > 0)


def test_a_labelme_file_of_another_name_is_found_by_its_image_path(folder):
    images = folder / "angiograms"
    (images / "0-1 _020.json").rename(images / "corrected.json")
    found = {a.image.name: a.truth.name for a in find_angiograms(images)[0]}
    assert found["0-1 _020.png"] == "corrected.json"


def test_an_information_banner_is_cut_from_image_and_truth_alike(folder):
    add(folder / "angiograms", "9-1 _001", size=(70, 60), shapes=[("NP", [[5, 50], [40, 50], [40, 66]])])
    prepare(tiny_configuration(folder, "preparation.info_banner=none"))
    uncut = written_images(folder)
    shutil.rmtree(folder / "datasets")
    _, banners = prepare(tiny_configuration(folder, "preparation.info_banner=bottom:10"))
    assert len(banners) == 6
    for name, image in written_images(folder).items():
        np.testing.assert_array_equal(image.original, uncut[name].original[:-10])
        np.testing.assert_array_equal(image.truth, uncut[name].truth[:-10])
    with h5py.File(folder / "datasets" / "FFA_dataset_imgs_train.hdf5") as store:
        assert store["image"].shape[1:] == (60, 60, 1)  # the strip is in no file


def test_all_faults_of_a_folder_are_listed_and_nothing_is_written(folder):
    images = folder / "angiograms"
    add(images, "5-1", shapes=[("NP", [[1, 1], [2, 2]])])
    add(images, "6-1", shapes=[("drusen", [[1, 1], [9, 2], [5, 9]])])
    add(images, "7-1", imageHeight=59)
    add(images, "-1")
    (images / "8-1.png").write_bytes(b"not an image")
    shutil.copy(images / "5-1.json", images / "8-1.json")
    shutil.copy(images / "0-1 _020.png", images / "9-1.png")
    copied = json.loads((images / "0-1 _020.json").read_text("utf-8"))
    (images / "9-1.json").write_text(json.dumps(copied | {"imagePath": "9-1.png"}))
    message = faults(folder)
    for expected in (
        "5-1",
        "drusen",
        "7-1",
        "-1.png: no patient",
        "8-1",
        "the same image: 0-1 _020.png, 9-1.png",
    ):
        assert expected in message, message


def test_near_copies_under_the_names_of_two_patients_are_a_warning(folder, capsys):
    images = folder / "angiograms"
    noise = np.random.default_rng(0).normal(size=(60, 60))
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 40, 255, cv2.NORM_MINMAX).astype(
        np.uint8
    )
    for name in ("8-1", "9-1"):
        add(images, name)
        Image.fromarray(smooth).save(images / f"{name}.png")
        smooth[30, 30] ^= 1
    split, _ = prepare(tiny_configuration(folder))
    part_of = {m.name: part for part in PARTS for m in split[part]}
    printed = capsys.readouterr().out
    assert printed.count("warning") == 1
    assert f"8-1.png ({part_of['8-1']}), patient 8, and 9-1.png ({part_of['9-1']}), patient 9," in printed


def test_preparing_again_warns_if_trained_experiments_depend_on_the_split(folder, capsys):
    configuration = tiny_configuration(folder)
    prepare(configuration)
    experiments = folder / "experiments"
    for name, weights in (("tiny", "best"), ("other", "last"), ("untrained", None), ("elsewhere", "best")):
        (experiments / name).mkdir(parents=True)
        shutil.copy(folder / "datasets" / "split.json", experiments / name)
        more = ["data paths.path_local=./elsewhere"] if name == "elsewhere" else []
        text = tiny_configuration(folder, *more).as_text()
        (experiments / name / f"{name}_configuration.txt").write_text(text)
        if weights:
            (experiments / name / f"{name}_{weights}.weights.h5").touch()
    prepare(configuration)
    assert "warning" not in capsys.readouterr().out, "the images and parts are the same"
    add(folder / "angiograms", "7-1")
    prepare(configuration)
    printed = capsys.readouterr().out
    assert printed.count("warning") == 1
    assert "on which experiments in" in printed and "were trained: other, tiny; they can no" in printed
    add(folder / "angiograms", "8-1")
    prepare(configuration)
    assert "warning" not in capsys.readouterr().out, "they were trained on an older split"


def test_preparing_leaves_the_folder_of_path_test_as_it_is(folder):
    other = folder / "other"
    first = tiny_configuration(folder, f"data paths.path_local={other}")
    prepare(first)
    before = {file.name: file.read_bytes() for file in other.iterdir()}
    second = tiny_configuration(folder, f"data paths.path_test={other}", "preparation.split_seed=7")
    prepare(second)
    assert {file.name: file.read_bytes() for file in other.iterdir()} == before
    assert (second.data_paths.path_local / second.data_paths.test_imgs_original).is_file()


def test_images_without_truth_and_truth_without_an_image_are_listed(folder):
    images = folder / "angiograms"
    (images / "0-1 _020.json").unlink()
    (images / "1-1 _020.png").unlink()
    message = faults(folder)
    assert "0-1 _020.png: no truth; expected 0-1 _020.json or masks/0-1 _020.png" in message
    assert "1-1 _020.json: truth without an image" in message


def test_an_xml_file_of_annotations_is_named_if_truth_is_missing(folder):
    images = folder / "angiograms"
    (images / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>")
    prepare(tiny_configuration(folder))  # other truth is complete
    shutil.rmtree(folder / "datasets")
    (images / "0-1 _020.json").unlink()
    assert "annotations.xml: XML of CVAT" in faults(folder)


def test_missing_and_empty_folders_are_named(tmp_path):
    assert "no such folder" in faults(tmp_path)
    (tmp_path / "angiograms").mkdir()
    assert "contains no image" in faults(tmp_path)


def test_a_mask_of_another_size_is_named(folder):
    images = folder / "angiograms"
    (images / "0-1 _020.json").unlink()
    (images / "masks").mkdir()
    Image.fromarray(np.eye(50, dtype=np.uint8) * 255).save(images / "masks" / "0-1 _020.png")
    assert "50x50 pixels, its image 60x60" in faults(folder)


def test_sizes_and_colour_may_differ(folder):
    images = folder / "angiograms"
    add(images, "6-1", size=(80, 50))
    colour = np.random.default_rng(0).integers(255, size=(60, 60, 3), dtype=np.uint8)
    Image.fromarray(colour).save(images / "0-1 _020.png")
    prepare(tiny_configuration(folder))
    read = written_images(folder)
    assert read["6-1"].original.shape[:2] == (80, 50)
    np.testing.assert_array_equal(read["0-1 _020"].original, colour)
    assert dataclasses.astuple(read["6-1"])[1] == "6"


def test_blanks_and_capitals_in_a_patient_id_do_not_matter(folder):
    for name in ("P3-1", "p3 -2"):
        add(folder / "angiograms", name)
    split, _ = prepare(tiny_configuration(folder))
    part_of = {m.name: part for part in PARTS for m in split[part]}
    assert part_of["P3-1"] == part_of["p3 -2"]


def test_a_patient_whose_name_is_written_differently_is_in_one_part_and_is_named(folder, capsys):
    names = ("7-2020", "7\N{EN DASH}2021", "7\N{FULLWIDTH LOW LINE}2022")
    for name in names:
        add(folder / "angiograms", name)
    split, _ = prepare(tiny_configuration(folder))
    part_of = {m.name: part for part in PARTS for m in split[part]}
    assert len({part_of[name] for name in names}) == 1
    assert {m.patient for part in PARTS for m in split[part] if m.name in names} == {"7"}
    assert f"one patient, 7, although written differently: {', '.join(names)}" in capsys.readouterr().out


def test_faults_in_the_folders_of_masks_are_listed(folder):
    images = folder / "angiograms"
    for name in ("masks", "field_of_view"):
        (images / name).mkdir()
        (images / name / "Thumbs.db").write_bytes(b"")
    mask = Image.fromarray(np.eye(60, dtype=np.uint8) * 255)
    mask.save(images / "masks" / "0-1 _020.png")
    mask.save(images / "field_of_view" / "ghost.png")
    message = faults(folder)
    assert "0-1 _020: two truths" in message
    assert "field_of_view/ghost.png: no image of that name" in message
    assert "Thumbs" not in message
    (images / "masks" / "0-1 _020.png").unlink()
    (images / "field_of_view" / "ghost.png").unlink()
    Image.new("L", (60, 60)).save(images / "field_of_view" / "1-1 _020.png")
    assert "1-1 _020.png: is empty; expected white inside the field of view" in faults(folder)


def test_an_image_smaller_than_the_banner_is_named(folder):
    message = faults(folder, "preparation.info_banner=bottom:60")
    for patient in range(5):
        assert f"{patient}-1 _020.png: info_banner = bottom:60 leaves nothing of an image of 60x60" in message


def test_images_in_subfolders_are_named(folder, capsys):
    add(folder / "angiograms" / "patient 9", "9-1")
    prepare(tiny_configuration(folder))
    assert f"{folder / 'angiograms' / 'patient 9'}: 1 image not read" in capsys.readouterr().out


def test_an_image_without_a_banner_among_others_with_one_is_named(folder):
    images = folder / "angiograms"
    for patient in range(5):  # all but the first have a strip of text at the bottom
        content = json.loads((images / f"{patient}-1 _020.json").read_text("utf-8"))
        content["imageHeight"] = 240
        content["imageWidth"] = 200
        frame = np.random.default_rng(patient).integers(60, 200, (240, 200), dtype=np.uint8)
        if patient:
            frame[200:] = 0
            cv2.putText(frame, "Meier Anna 1950", (8, 225), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
        Image.fromarray(frame).save(images / f"{patient}-1 _020.png")
        (images / f"{patient}-1 _020.json").write_text(json.dumps(content), "utf-8")
    assert "0-1 _020.png: no information banner found, but in other images of 200x240" in faults(folder)


def test_unusual_image_names_are_kept(folder):
    names = ["it's 1-1", "two\nlines-1", "100%-%s", "眼-底", "x-" + "y" * 240]
    for name in names:
        add(folder / "angiograms", name)
    prepare(tiny_configuration(folder))
    assert set(names) < written_images(folder).keys()


def test_a_name_that_is_not_utf8_is_a_fault(folder):
    for file in (folder / "angiograms").glob("0-1*"):
        file.rename(file.with_name(os.fsdecode(b"\xff-1") + file.suffix))
    assert "'\\udcff-1.png': its name is not UTF-8 text; rename it" in faults(folder)


def test_black_images_are_faults(folder):
    for name in ("6-1", "7-1"):
        add(folder / "angiograms", name)
        Image.new("L", (60, 60)).save(folder / "angiograms" / f"{name}.png")
    message = faults(folder)
    for name in ("6-1", "7-1"):
        assert f"{name}.png: its field of view is empty (a black image?)" in message


def test_ten_thousand_files_are_matched_fast(tmp_path):
    for number in range(5_000):
        (tmp_path / f"{number}-1.png").touch()
        (tmp_path / f"{number}-1.json").touch()
    started = time.process_time()
    found, faults = find_angiograms(tmp_path)
    assert len(found) == 5_000 and not faults
    assert time.process_time() - started < 3


def test_burned_in_text_of_a_dicom_file_needs_a_banner_or_a_setting(folder):
    (folder / "angiograms" / "0-1 _020.png").unlink()
    pixels = np.random.default_rng(3).integers(60, 200, (60, 60), dtype=np.uint8)
    write_dicom(folder / "angiograms" / "0-1 _020.dcm", pixels, BurnedInAnnotation="YES")
    message = faults(folder)
    assert "0-1 _020.dcm: its header says that text is burned into the image" in message
    prepare(tiny_configuration(folder, "preparation.info_banner=none"))
    assert len(written_images(folder)) == 5


def test_no_patient_data_of_dicom_are_written_or_printed(folder, capfd, caplog):
    caplog.set_level("DEBUG")
    private = {"PatientID": "4711-0815", "PatientBirthDate": "19600201"}
    for file in (folder / "angiograms").glob("*.png"):
        pixels = np.asarray(Image.open(file))
        file.unlink()
        target = file.with_suffix(".dcm")
        write_dicom(target, pixels, **private, InstitutionName="Mustermann-Klinik")
        dataset = pydicom.dcmread(target)
        block = dataset.private_block(0x0011, "Mustermann", create=True)
        block.add_new(0x01, "LO", "Mustermann Erika")
        block.add_new(0x02, "UN", b"Mustermann")
        dataset.save_as(target)
    prepare(tiny_configuration(folder))
    printed = "".join(capfd.readouterr()) + caplog.text
    written = b"".join(file.read_bytes() for file in (folder / "datasets").iterdir())
    for secret in ("Mustermann", "Erika", "19600201", "4711-0815"):
        assert secret not in printed and secret.encode() not in written


def test_image_paths_outside_the_folder_are_not_opened(folder):
    secret = folder / "secret" / "0-1.png"
    secret.parent.mkdir()
    shutil.copy(folder / "angiograms" / "0-1 _020.png", secret)
    for number, name in enumerate((str(secret), "../secret/0-1.png", r"..\secret\0-1.png")):
        file = folder / "angiograms" / f"{number}-1 _020.json"
        content = json.loads(file.read_text("utf-8")) | {"imagePath": name}
        file.write_text(json.dumps(content), "utf-8")
        file.rename(file.with_name(f"astray{number}.json"))
    opened, listening = [], [True]
    sys.addaudithook(
        lambda event, given: (
            opened.append(str(given[0]))
            if listening and event in {"open", "os.listdir", "os.scandir"}
            else None
        )
    )
    message = faults(folder)
    listening.clear()
    assert all(f"astray{number}.json: truth without an image" in message for number in range(3))
    assert any("astray0.json" in name for name in opened)
    assert not [name for name in opened if "secret" in name]


@pytest.fixture
def with_normals(folder):
    """Five labelled images, and two folders of negatives whose files have the same names."""
    for name in ("normal", "other"):
        for number in (1, 2):
            add(folder / name, f"N{number}-1", seed=len(name))
            (folder / name / f"N{number}-1.json").unlink()
    return folder, f"data paths.path_negatives={folder / 'normal'}, {folder / 'other'}"


def test_all_angiograms_can_be_test_images_of_a_network_that_is_trained_already(folder, monkeypatch, capsys):
    settings = [*tiny_settings(folder), "preparation.split_ratio=0:0:1"]
    monkeypatch.setattr("sys.argv", ["prepare", *(word for s in settings for word in ("--set", s))])
    prepare_datasets_FFA.main()
    split = read_split(folder / "datasets" / "split.json", "a folder of prepared images")
    assert {part: len(members) for part, members in split.items()} == {"train": 0, "validation": 0, "test": 5}
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("next: python run_testing.py --set ")
    assert last.endswith(f" --model {SHIPPED_NETWORK}")


NEGATIVES = ["normal N1-1", "normal N2-1", "other N1-1", "other N2-1"]


def test_negatives_are_in_the_training_part_of_every_split(with_normals):
    folder, negatives = with_normals
    names = [f"{patient}-1 _020" for patient in range(5)]
    given = {"train": names[3:], "validation": names[:1], "test": names[1:3]}
    content = {"parts": {part: [{"name": n} for n in given[part]] for part in PARTS}}
    (folder / "mine.json").write_text(json.dumps(content))
    for override in (
        "preparation.split_ratio=1:1:1",
        "preparation.fold=2/3",
        "preparation.fold=5/5",
        f"preparation.split_file={folder / 'mine.json'}",
    ):
        labelled, _ = prepare(tiny_configuration(folder, override))
        split, _ = prepare(tiny_configuration(folder, override, negatives))
        negative = {part: [m.name for m in split[part] if m.negative] for part in PARTS}
        assert negative == {"train": NEGATIVES, "validation": [], "test": []}
        for part in PARTS:
            assert [m for m in split[part] if not m.negative] == labelled[part]
        assert {m.patient for m in split["train"] if m.negative} == {
            "normal n1-1",
            "normal n2-1",
            "other n1-1",
            "other n2-1",
        }
        images = written_images(folder)
        assert images.keys() == {*names, *NEGATIVES}
        assert not any(images[name].truth.any() for name in NEGATIVES)


def test_only_negatives_are_marked_in_split_json(with_normals):
    folder, negatives = with_normals
    prepare(tiny_configuration(folder, negatives))
    stored = json.loads((folder / "datasets" / "split.json").read_text("utf-8"))
    marked = {m["name"]: m.get("negative") for part in PARTS for m in stored["parts"][part]}
    assert {name for name, mark in marked.items() if mark is True} == set(NEGATIVES)
    assert {mark for name, mark in marked.items() if name not in NEGATIVES} == {None}
    assert stored["how"].endswith("; 4 negatives in train")


def test_the_split_of_an_earlier_preparation_with_negatives_can_be_given(with_normals):
    folder, negatives = with_normals
    before, _ = prepare(tiny_configuration(folder, negatives))
    shutil.copy(folder / "datasets" / "split.json", folder / "given.json")
    given = f"preparation.split_file={folder / 'given.json'}"
    assert prepare(tiny_configuration(folder, negatives, given))[0] == before
    without, _ = prepare(tiny_configuration(folder, given))
    assert not any(m.negative for part in PARTS for m in without[part])


def test_outlines_beside_a_negative_are_a_fault(with_normals):
    folder, negatives = with_normals
    add(folder / "normal", "N3-1")
    add(folder / "normal", "N4-1", shapes=[("BRVO", [[1, 1], [30, 1], [30, 30]])])
    message = faults(folder, negatives)
    assert "N3-1.json: outlines NP, CNP, but" in message and "is a folder of negatives" in message
    assert "N4-1" not in message


def test_an_image_that_is_negative_and_labelled_or_negative_twice_is_a_fault(with_normals):
    folder, negatives = with_normals
    shutil.copy(folder / "angiograms" / "0-1 _020.png", folder / "normal" / "N5.png")
    shutil.copy(folder / "normal" / "N1-1.png", folder / "other" / "N6.png")
    message = faults(folder, negatives)
    assert "the same image: 0-1 _020.png, normal/N5.png" in message
    assert "the same image: normal/N1-1.png, other/N6.png" in message


def test_a_negative_with_the_patient_of_a_labelled_image_is_a_fault(with_normals):
    folder, negatives = with_normals
    add(folder / "normal", "N9", shapes=[])
    add(folder / "angiograms", "Normal n9-2")
    assert "negative normal N9, patient normal n9: another image has this" in faults(folder, negatives)


def test_all_faults_of_folders_of_negatives_are_listed(folder):
    (folder / "empty").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "1.png").write_bytes(b"not an image")
    Image.new("L", (60, 60)).save(folder / "damaged" / "2.png")
    message = faults(
        folder, f"data paths.path_negatives={folder / 'missing'},{folder / 'empty'},{folder / 'damaged'}"
    )
    assert f"{folder / 'missing'}: no such folder; name one with [data paths] path_negatives" in message
    assert f"{folder / 'empty'}: contains no image" in message
    assert "1.png: is not an image" in message
    assert "2.png: its field of view is empty" in message


def test_masks_beside_a_folder_of_negatives_are_those_of_the_labelled_images(with_normals):
    folder, negatives = with_normals
    (folder / "angiograms" / "0-1 _020.png").rename(folder / "angiograms" / "N1-1.png")
    (folder / "angiograms" / "0-1 _020.json").rename(folder / "angiograms" / "N1-1.json")
    inside = np.zeros((60, 60), np.uint8)
    inside[5:55, 3:50] = 255
    (folder / "field_of_view").mkdir()
    Image.fromarray(inside).save(folder / "field_of_view" / "N1-1.png")
    prepare(tiny_configuration(folder, negatives))
    images = written_images(folder)
    np.testing.assert_array_equal(images["N1-1"].field_of_view, inside > 0)
    assert (images["normal N1-1"].field_of_view != (inside > 0)).any()
    (folder / "angiograms" / "N1-1.json").unlink()
    (folder / "masks").mkdir()
    Image.fromarray(inside).save(folder / "masks" / "N1-1.png")
    prepare(tiny_configuration(folder, negatives, f"data paths.path_local={folder / 'again'}"))


AUXILIARY = ("preparation.ignore_labels=", "preparation.auxiliary_labels=BRVO, DR")


def test_auxiliary_labels_are_drawn_as_a_second_truth(with_normals, capsys):
    folder, negatives = with_normals
    polygons = {
        "NP": [[10, 10], [30, 12], [20, 30]],
        "BRVO": [[5, 5], [50, 5], [40, 45]],
        "DR": [[1, 50], [9, 58], [1, 58]],
    }
    add(folder / "angiograms", "7-1", shapes=list(polygons.items()))
    add(folder / "normal", "N4-1", shapes=[("BRVO", polygons["BRVO"])])
    prepare(tiny_configuration(folder, negatives, *AUXILIARY, "preparation.info_banner=bottom:10"))
    drawn = {label: Image.new("L", (60, 60)) for label in polygons}
    for label, points in polygons.items():
        ImageDraw.Draw(drawn[label]).polygon([tuple(p) for p in points], outline=1, fill=1)
    expected = {label: np.asarray(mask)[:-10] for label, mask in drawn.items()}
    images = written_images(folder)
    np.testing.assert_array_equal(images["7-1"].truth, expected["NP"])
    np.testing.assert_array_equal(images["7-1"].auxiliary, expected["BRVO"] | expected["DR"])
    for name in ("0-1 _020", "normal N1-1", "normal N4-1"):
        assert images[name].auxiliary.shape == (50, 60) and not images[name].auxiliary.any()
    warned = [line for line in capsys.readouterr().out.splitlines() if "takes it as absent" in line]
    assert len(warned) == 5 and "0-1 _020.json: outlines NP" in warned[0]


def test_without_auxiliary_labels_the_truth_file_has_no_further_data_set(folder):
    prepare(tiny_configuration(folder))
    with h5py.File(folder / "datasets" / "FFA_dataset_groundTruth_train.hdf5") as store:
        assert set(store) == {"image", "size", "name", "patient"}


def test_a_mask_image_as_truth_is_refused_with_auxiliary_labels(folder):
    (folder / "angiograms" / "0-1 _020.json").unlink()
    (folder / "angiograms" / "masks").mkdir()
    Image.fromarray(np.eye(60, dtype=np.uint8) * 255).save(folder / "angiograms" / "masks" / "0-1 _020.png")
    assert "0-1 _020.png: is a mask image without labels: expected a LabelMe" in faults(folder, *AUXILIARY)


def test_files_that_a_killed_preparation_left_are_removed(folder):
    (folder / "datasets").mkdir()
    (folder / "datasets" / ".999999999-FFA_dataset_imgs_train.hdf5").touch()
    prepare(tiny_configuration(folder))
    assert not list((folder / "datasets").glob(".*"))


@pytest.mark.parametrize("ending", [".png", ""])
def test_dicom_files_named_by_their_uid_have_the_whole_name(tmp_path, ending):
    (tmp_path / "masks").mkdir()
    for name in ("1.2.840.7.1", "1.2.840.7.2"):
        write_dicom(tmp_path / name, np.zeros((8, 8), np.uint8))
        write_dicom(tmp_path / "masks" / f"{name}{ending}", np.zeros((8, 8), np.uint8))
    found, faults = find_angiograms(tmp_path)
    assert not faults
    assert {a.name: a.truth.name for a in found} == {
        "1.2.840.7.1": f"1.2.840.7.1{ending}",
        "1.2.840.7.2": f"1.2.840.7.2{ending}",
    }
