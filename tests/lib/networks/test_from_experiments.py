import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lib.configuration.experiment_folder import Experiment, ensemble_name
from lib.configuration.reading import read_configuration
from lib.evaluation.pixel_scores import choose_threshold
from lib.evaluation.pooled_pixels import PooledPixels
from lib.evaluation.predicted_images import predict_part
from lib.evaluation.test_run import test as run_test
from lib.networks.from_experiments import mean_model, read_keras_ensemble, read_keras_network
from lib.networks.keras_model import trained_model
from lib.prediction.image_file import predict_file
from lib.runtime.errors import UserError
from lib.training.train import train
from tests.conftest import tiny_configuration

NUMBER = "testing settings.threshold=0.5"


def of_both(prepared, *overrides):
    return tiny_configuration(prepared, "experiment name.name=first+second", *overrides)


def member_models(members):
    configurations = [read_configuration(member.configuration) for member in members]
    return [trained_model(c, m.weights("best")) for c, m in zip(configurations, members, strict=True)]


def test_the_name_of_an_ensemble_joins_names_and_shortens_many():
    assert ensemble_name(["a", "b", "c"]) == "a+b+c"
    names = [f"architecture-enhance_laddernet_fold{n:02d}" for n in range(5)]
    short = ensemble_name(names)
    assert short.startswith(f"{names[0]}+4_others_") and len(short) < 80
    assert short != ensemble_name([*names[:4], "other"])
    for wrong in (["a"], ["a", "b", "a"]):
        with pytest.raises(UserError, match="two or more different names"):
            ensemble_name(wrong)


def test_probabilities_are_averaged(members):
    image = np.random.default_rng(0).random((2, 32, 48, 1), dtype=np.float32)
    both = member_models(members)
    mean = np.mean([np.asarray(model(image)) for model in both], axis=0)
    np.testing.assert_allclose(mean_model(both).predict_on_batch(image), mean, atol=1e-6)


def test_an_ensemble_is_tested_in_its_own_folder(prepared, members):
    evaluation = run_test(of_both(prepared), members)
    configuration = of_both(prepared)
    both = member_models(members)

    def predicted(part):
        single = [
            list(predict_part(model.predict_on_batch, configuration, configuration.testing_settings, part))
            for model in both
        ]
        inside = [case.field_of_view > 0 for case in single[0]]
        scores = [
            np.concatenate([c.probability[i] for c, i in zip(cases, inside, strict=True)]) for cases in single
        ]
        truth = np.concatenate([c.truth[i] for c, i in zip(single[0], inside, strict=True)])
        return np.mean(scores, axis=0), truth

    scores, truth = predicted("test")
    assert evaluation.in_field_of_view.auc_roc == pytest.approx(roc_auc_score(truth, scores), abs=1e-5)
    # All members share the split: all its validation images choose the threshold.
    assert evaluation.threshold == pytest.approx(
        choose_threshold(PooledPixels([predicted("validation")])), abs=1e-5
    )
    context = json.loads((configuration.results_folder / "performances.json").read_text())["context"]
    assert context["network"].startswith("unet + resunet, ")
    assert "first_best" in context["weights"] and "second_best" in context["weights"]


def test_the_error_for_other_preprocessing_names_the_key(prepared, members):
    other = train(
        tiny_configuration(
            prepared,
            "experiment name.name=other_preprocessing",
            "preprocessing.gamma=1.1",
            "training settings.N_epochs=1",
        )
    )
    message = r"\[preprocessing\] gamma = 0\.8, trained with 1\.1"
    with pytest.raises(UserError, match=message):
        run_test(of_both(prepared), [members[0], other])
    with pytest.raises(UserError, match=message):
        read_keras_ensemble([members[0], other], [NUMBER])


def copy_with_split(experiment, folder, change):
    """A copy of the experiment with another split, as if it had been trained on it."""
    copied = Experiment(shutil.copytree(experiment.folder, folder), experiment.name)
    content = json.loads(copied.split.read_text())
    change(content["parts"])
    copied.split.write_text(json.dumps(content))
    return copied


def test_an_image_that_trained_a_member_cannot_be_a_test_image(prepared, members, tmp_path):
    leaky = copy_with_split(
        members[1], tmp_path / "second", lambda parts: parts["train"].extend(parts["test"])
    )
    with pytest.raises(UserError, match="second was trained on images"):
        run_test(of_both(prepared), [members[0], leaky])


def test_validation_images_that_trained_a_member_choose_no_threshold(prepared, members, tmp_path):
    def train_on_all(parts):
        parts["train"] += parts["validation"]

    leaky = copy_with_split(members[1], tmp_path / "second", train_on_all)
    with pytest.raises(UserError, match=r"so that none can choose the threshold; give numbers"):
        run_test(of_both(prepared), [members[0], leaky])
    assert run_test(of_both(prepared, NUMBER), [members[0], leaky]).threshold == 0.5
    # With the rule of retina-unet, images of the validation part can train.
    by_patches = Experiment(shutil.copytree(members[1].folder, tmp_path / "patches"), "second")
    text = by_patches.configuration.read_text()
    for old, new in {
        "validation = images": "validation = patches",
        "threshold = validation": "threshold = 0.5",
    }.items():
        assert old in text
        text = text.replace(old, new)
    by_patches.configuration.write_text(text)
    with pytest.raises(UserError, match=r"none can choose the threshold"):
        run_test(of_both(prepared), [members[0], by_patches])


def test_validation_images_that_trained_no_member_choose_the_threshold(prepared, members, tmp_path):
    datasets = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    for kind in ("imgs", "groundTruth", "borderMasks"):  # the training images become validation images
        there = datasets / f"FFA_dataset_{kind}_validation.hdf5"
        shutil.copy(datasets / f"FFA_dataset_{kind}_train.hdf5", there)

    def train_on_first(number):  # but only the first of them have trained
        return lambda parts: parts.update(train=parts["train"][:number])

    both = [copy_with_split(m, tmp_path / m.name, train_on_first(n)) for n, m in enumerate(members)]
    configuration = of_both(prepared, f"data paths.path_local={datasets}")
    run_test(configuration, both)
    results = json.loads((configuration.results_folder / "performances.json").read_text())
    assert "without the 1 that trained one of the networks" in results["context"]["threshold"]


def test_the_error_for_an_untrained_member_names_it(prepared, members, tmp_path):
    with pytest.raises(UserError, match=r"no trained experiment nobody \(.*nobody_best\.weights\.h5 does"):
        run_test(of_both(prepared), [members[0], Experiment(tmp_path, "nobody")])


def test_an_ensemble_predicts_a_file_with_the_mean_and_the_given_threshold(prepared, members):
    file = sorted((prepared / "angiograms").glob("*.png"))[0]
    both = read_keras_ensemble(members, [NUMBER])
    assert (both.name, both.architecture, both.threshold) == ("first+second", "unet + resunet", 0.5)
    assert len(both.weights_sha256.split()) == 2
    single = [read_keras_network(member, [NUMBER])[0] for member in members]
    each = [predict_file(network, file).probability for network in single]
    prediction = predict_file(both, file)
    np.testing.assert_allclose(prediction.probability, np.mean(each, axis=0), atol=1e-6)
    np.testing.assert_allclose(prediction.disagreement, np.std(each, axis=0), atol=1e-6)
    assert prediction.disagreement.max() > 0.01


def test_the_threshold_of_an_ensemble_must_be_given(members):
    with pytest.raises(UserError, match=r"do not hold for their mean; give numbers: --set"):
        read_keras_ensemble(members)


def test_members_that_predict_in_different_ways_are_refused(members, tmp_path):
    other = Experiment(shutil.copytree(members[1].folder, tmp_path / "second"), "second")
    text = other.configuration.read_text()
    other.configuration.write_text(text.replace("window = overlap", "window = whole"))
    with pytest.raises(UserError, match="window = whole in second, overlap in first"):
        read_keras_ensemble([members[0], other], [NUMBER])
    other.configuration.write_text(text.replace("structure = CNP", "structure = leakage"))
    with pytest.raises(UserError, match="structure = leakage in second, CNP in first"):
        read_keras_ensemble([members[0], other], [NUMBER])
