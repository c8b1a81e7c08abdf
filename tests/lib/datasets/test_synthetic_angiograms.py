import dataclasses
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from lib.datasets.synthetic_angiograms import synthetic_angiogram, write_synthetic_angiograms
from lib.runtime.errors import UserError

SIZE = 256


@pytest.fixture(scope="module")
def angiograms():
    return [synthetic_angiogram(seed=3, index=index, size=SIZE) for index in range(6)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "FFA"
    write_synthetic_angiograms(folder, number=4, seed=3, size=SIZE)
    return folder


def test_same_seed_and_index_give_the_same_bytes(angiograms):
    again = synthetic_angiogram(seed=3, index=1, size=SIZE)
    for field in dataclasses.fields(again):
        np.testing.assert_equal(getattr(again, field.name), getattr(angiograms[1], field.name))


@pytest.mark.parametrize(("seed", "index"), [(3, 0), (4, 1)])
def test_another_seed_or_index_gives_another_image(angiograms, seed, index):
    assert (synthetic_angiogram(seed, index, SIZE).image != angiograms[1].image).any()


def test_shapes_types_and_values(angiograms):
    for angiogram in angiograms:
        for name in ("image", "non_perfusion", "field_of_view"):
            array = getattr(angiogram, name)
            assert array.shape == (SIZE, SIZE)
            assert array.dtype == np.uint8
        assert set(np.unique(angiogram.non_perfusion)) == {0, 1}
        assert set(np.unique(angiogram.field_of_view)) == {0, 1}


def test_the_field_of_view_is_a_disk_and_holds_all_light_and_truth(angiograms):
    for angiogram in angiograms:
        outside = angiogram.field_of_view == 0
        assert not angiogram.image[outside].any()
        assert not angiogram.non_perfusion[outside].any()
        assert angiogram.field_of_view.mean() == pytest.approx(np.pi / 4, abs=0.02)


def test_non_perfusion_covers_a_plausible_part(angiograms):
    for angiogram in angiograms:
        fraction = angiogram.non_perfusion.sum() / angiogram.field_of_view.sum()
        assert 0.005 < fraction < 0.35


def test_non_perfusion_lies_in_the_affected_region(angiograms):
    for angiogram in angiograms:
        affected = _filled([angiogram.occlusion])
        assert affected[angiogram.non_perfusion == 1].all()


def test_the_foveal_avascular_zone_is_dark_but_not_marked(angiograms):
    for angiogram in angiograms:
        row, column = np.mgrid[:SIZE, :SIZE]
        distance = np.hypot(column + 0.5 - angiogram.fovea[0], row + 0.5 - angiogram.fovea[1]) / SIZE
        assert not angiogram.non_perfusion[distance < 0.05].any()
        ring = angiogram.image[(distance > 0.06) & (distance < 0.10)]
        assert np.median(angiogram.image[distance < 0.02]) < np.median(ring)


def test_darkness_alone_does_not_find_it(angiograms):
    truth, darkness = [], []
    for angiogram in angiograms:
        inside = angiogram.field_of_view == 1
        truth.append(angiogram.non_perfusion[inside])
        darkness.append(-gaussian_filter(angiogram.image.astype(float), 2)[inside])
    assert 0.65 < roc_auc_score(np.concatenate(truth), np.concatenate(darkness)) < 0.85


def test_capillaries_are_missing_where_it_is_marked(angiograms):
    for angiogram in angiograms:
        image = angiogram.image.astype(float)
        detail = np.abs(image - gaussian_filter(image, 1.5))
        affected = _filled([angiogram.occlusion]) == 1
        lost, kept = (affected & (angiogram.non_perfusion == value) for value in (1, 0))
        assert np.median(detail[lost]) < 0.7 * np.median(detail[kept])


def test_written_json_rasterises_to_the_mask(angiograms, written):
    for index, path in enumerate(sorted(written.glob("*.json"))):
        shapes = json.loads(path.read_text(encoding="utf-8"))["shapes"]
        outlines = [np.array(s["points"]) for s in shapes if s["label"] == "NP"]
        np.testing.assert_array_equal(_filled(outlines), angiograms[index].non_perfusion)
        assert [s["label"] for s in shapes].count("BRVO") == 1


def test_written_files_are_named_like_the_real_set_and_agree(angiograms, written):
    assert sorted(path.name for path in written.glob("*.png")) == [
        "1-1 _010.png",
        "2-1 _011.png",
        "3-1 _012.png",
        "3-2 _013.png",
    ]
    for index, path in enumerate(sorted(written.glob("*.png"))):
        np.testing.assert_array_equal(np.array(Image.open(path)), angiograms[index].image)
        truth = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert truth["imagePath"] == path.name
        assert (truth["imageHeight"], truth["imageWidth"]) == (SIZE, SIZE)
        assert truth["imageData"] is None


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"precious")
    with pytest.raises(UserError, match="not empty"):
        write_synthetic_angiograms(tmp_path, number=1, seed=0, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def stop(indices):
        yield next(iter(indices))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic_angiograms(tmp_path / "FFA", 2, seed=0, size=128, progress=stop)
    assert not list(tmp_path.iterdir())


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least 1"):
        write_synthetic_angiograms(tmp_path / "FFA", number=0, seed=0)
    with pytest.raises(ValueError, match="size is 64"):
        synthetic_angiogram(seed=0, index=0, size=64)


def _filled(outlines):
    """Pillow's union of polygons, edges included."""
    canvas = Image.new("L", (SIZE, SIZE))
    for outline in outlines:
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in outline], outline=1, fill=1)
    return np.array(canvas)
