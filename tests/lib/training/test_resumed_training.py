"""Further resumed trainings, in a file of their own: two processes share the files of the tests."""

import pytest

from lib.training.train import train
from tests.conftest import tiny_configuration
from tests.lib.training.test_train import assert_same_weights, history, measured


@pytest.mark.parametrize("architecture", ["ldpc_net", "w_net"])
def test_a_resumed_training_with_a_loss_on_the_rough_map_gives_the_same_result(prepared, architecture):
    settings = [
        f"model.architecture={architecture}",
        "model.filters=4 4 8",
        "training settings.rough_map_loss_weight=1",
    ]
    if architecture == "w_net":
        schedule = ("learning_rate_schedule=cosine_cycles", "cycle_epochs=2", "precision=mixed_bfloat16")
        settings += [f"training settings.{setting}" for setting in schedule]
    whole = train(tiny_configuration(prepared, *settings, f"experiment name.name=rough_{architecture}"))
    settings.append(f"experiment name.name=rough_{architecture}_cut")
    train(tiny_configuration(prepared, *settings, "training settings.N_epochs=1"))
    cut = train(tiny_configuration(prepared, *settings))
    assert history(cut.folder) == history(whole.folder)
    assert_same_weights(cut, whole)


def test_a_resumed_training_with_weight_average_and_all_augmentation_gives_the_same_result(prepared):
    settings = ["model.dropout=0.3", "model.batch_normalisation=True"]
    settings += [
        f"training settings.{setting}"
        for setting in ("optimizer=adamw", "weight_decay=0.1", "weight_average=0.9")
    ]
    settings += [f"augmentation.{name}=True" for name in ("flip_horizontal", "flip_vertical", "rotate_90")]
    amounts = {"gamma_jitter": 0.2, "contrast_jitter": 0.2, "rotation": 180, "scale": 0.2, "shear": 0.1}
    amounts |= {
        "shift": 0.1,
        "elastic": 0.02,
        "illumination": 0.2,
        "blur": 1,
        "noise": 0.05,
        "moved_share": 0.5,
    }
    settings += [f"augmentation.{name}={amount}" for name, amount in amounts.items()]
    whole = train(tiny_configuration(prepared, *settings, "experiment name.name=averaged"))
    settings.append("experiment name.name=averaged_cut")
    train(tiny_configuration(prepared, *settings, "training settings.N_epochs=1"))
    cut = train(tiny_configuration(prepared, *settings))
    assert history(cut.folder) == history(whole.folder)
    assert_same_weights(cut, whole)
    auc, loss = measured(prepared, whole, "last", "model.batch_normalisation=True")
    row = history(whole.folder)[-1]
    assert float(row["val_auc"]) == pytest.approx(auc, abs=1e-6)
    assert float(row["val_loss"]) == pytest.approx(loss, rel=1e-4)
