import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from lib.evaluation.bland_altman_and_calibration import limits_of_agreement
from lib.evaluation.measures.areas import AreaCounts
from lib.evaluation.measures.image_measures import MEASURES, ImageMeasures, measure_image, summarise


def images(number=9, seed=0):
    """Images of several sizes; every third has no truth."""
    generator = np.random.default_rng(seed)
    for index in range(number):
        field_of_view = np.ones((20 + index, 30), bool)
        field_of_view[:2] = False
        truth = np.zeros(field_of_view.shape, bool)
        truth[4:9, 5 : 6 + index] = index % 3 > 0
        scores = np.clip(0.4 * truth + generator.uniform(0, 0.62, truth.shape), 0, 1).astype(np.float32)
        yield scores[field_of_view], truth[field_of_view], field_of_view


def summary(measured, weights=None):
    values = summarise(measured, np.ones(len(measured)) if weights is None else weights)
    return dict(zip(MEASURES, values, strict=True))


def test_brier_score_presence_and_limits_are_those_of_sklearn_and_bland_altman():
    cases = list(images())
    measured = [measure_image(*case, 0.6) for case in cases]
    found = summary(measured)
    scores, truth = (np.concatenate([case[i] for case in cases]) for i in range(2))
    assert found["brier"] == pytest.approx(brier_score_loss(truth, scores), rel=1e-6)
    predicted = np.array([(case[0] >= 0.6).mean() for case in cases])
    true = np.array([case[1].mean() for case in cases])
    assert found["presence_auc"] == pytest.approx(roc_auc_score(true > 0, predicted))
    assert found["index_mae"] == pytest.approx(np.abs(predicted - true).mean())
    limits = limits_of_agreement(predicted, true)
    names = ("index_bias", "index_lower_limit", "index_upper_limit")
    assert [found[name] for name in names] == pytest.approx([limits.bias, limits.lower, limits.upper])
    assert 0 < found["nsd_2_px"] < found["nsd_10_px"] <= 1
    assert np.isfinite(found["index_icc"])


def test_equal_predicted_areas_count_half():
    measured = [ImageMeasures(9, (None,) * 3, None, 0.1, 0.2, true) for true in (0.0, 0.1)]
    assert summary(measured)["presence_auc"] == 0.5
    assert np.isnan(summary(measured[1:])["presence_auc"])  # no image without


def test_areas_are_summed_over_the_images():
    counts = [AreaCounts((1, 0, 2), (0, 3, 0), (4, 0, 0)), AreaCounts((0, 0, 1), (1, 0, 0), (0, 2, 0))]
    found = summary([ImageMeasures(9, (1.0, 1.0, 1.0), 0.0, 0.1, 0.1, 0.1, one) for one in counts])
    assert found["area_f1"] == 2 * 4 / (2 * 4 + 4 + 6)
    assert found["area_sensitivity"] == 4 / 8
    assert found["false_areas"] == 3
    sizes = [found[f"area_f1_{size}"] for size in ("small", "medium", "large")]
    assert sizes == [2 / (2 + 1 + 4), 0, 1]
    assert [found[f"false_areas_{size}"] for size in ("small", "medium", "large")] == [2, 1, 0]
    assert found["area_sensitivity_medium"] == 0


def test_weights_are_repetitions_of_images():
    measured = [measure_image(*case, 0.6) for case in images()]
    weights = np.random.default_rng(1).integers(0, 3, (2, 4, len(measured)))
    samples = summarise(measured, weights)
    assert samples.shape == (len(MEASURES), 2, 4)
    repeated = [measured[i] for i in np.repeat(np.arange(len(measured)), weights[1, 2])]
    np.testing.assert_allclose(samples[:, 1, 2], list(summary(repeated).values()))


def test_pixels_outside_the_field_of_view_do_not_count():
    scores, truth, field_of_view = list(images())[4]
    wider = np.pad(field_of_view, ((0, 0), (0, 7)))
    assert measure_image(scores, truth, field_of_view, 0.6) == measure_image(scores, truth, wider, 0.6)


def test_vessels_have_boundaries_but_neither_areas_nor_an_index():
    measured = [measure_image(*case, 0.6, "Vessels") for case in images()]
    found = summary(measured)
    defined = {name for name, value in found.items() if np.isfinite(value)}
    assert defined == {"nsd_2_px", "nsd_5_px", "nsd_10_px", "hd95_px", "brier"}


def test_a_field_of_view_without_pixels_has_no_measure():
    nothing = measure_image(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros((5, 5), bool), 0.5)
    assert (nothing.brier, nothing.index, nothing.areas) == (None, None, None)
    assert np.isnan(list(summary([nothing]).values())).all()


@pytest.mark.parametrize("structure", ["CNP", "vessels"])
def test_measures_are_read_as_they_were_written(structure):
    measured = measure_image(*list(images())[4], 0.6, structure)
    text = json.dumps(dataclasses.asdict(measured))
    assert ImageMeasures.from_json(json.loads(text)) == measured
