import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib.configuration.reading import Configuration, read_configuration
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.paths import PROJECT

SHARED_DATA = PROJECT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, where there are any; a test that asks for them is skipped elsewhere."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture
def small_files_only():
    """A context in which no file can grow beyond so many bytes, as on a disk that fills up."""

    @contextmanager
    def limited(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


def tiny_settings(folder: Path) -> list[str]:
    """An experiment of seconds, all of it below `folder`."""
    return [
        f"data paths.path_images={folder / 'angiograms'}",
        f"data paths.path_local={folder / 'datasets'}",
        f"experiment name.path_experiments={folder / 'experiments'}",
        "experiment name.name=tiny",
        "data attributes.patch_height=32",
        "data attributes.patch_width=32",
        "model.architecture=unet",
        "model.filters=4 8",
        "training settings.N_subimgs=48",
        "training settings.N_subimgs_validation=60",
        "training settings.N_epochs=3",
        "training settings.batch_size=16",
        "training settings.learning_rate=0.003",
        "training settings.learning_rate_schedule=constant",
        "testing settings.test_patch_height=64",
        "testing settings.test_patch_width=64",
        "testing settings.stride_height=40",
        "testing settings.stride_width=40",
    ]


def tiny_configuration(folder: Path, *overrides: str) -> Configuration:
    """The same, read."""
    file = PROJECT / "configurations" / "demo.txt"
    return read_configuration(file, [*tiny_settings(folder), *overrides])


def weightless_network(predict, configuration: Configuration, **changes) -> TrainedNetwork:
    """A "trained" network that is a function of the pixels."""
    fields = {
        "name": "darkness",
        "architecture": "none",
        "structure": "CNP",
        "label": "NP",
        "info_banner": "auto",
        "preprocessing": configuration.preprocessing,
        "testing_settings": configuration.testing_settings,
        "threshold": 0.5,
        "threshold_source": "configuration",
        "min_area_px": 20,
        "weights_sha256": "0" * 64,
    }
    return TrainedNetwork(**fields | changes, predict=predict)


def older_onnx_metadata(**changes):
    """The metadata of an ONNX file as earlier versions wrote them: nothing about the graph."""
    texts = read_configuration(PROJECT / "configurations" / "demo.txt").texts
    return {
        "name": "darkness",
        "architecture": "one layer",
        "structure": "CNP",
        "label": "NP",
        "threshold": 0.5,
        "threshold_source": "configuration",
        "min_area_px": 0,
        "weights_sha256": "0" * 64,
        "info_banner": "none",
        "sections": {name: texts[name] for name in ("preprocessing", "testing settings")},
        **changes,
    }


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A folder with eight small synthetic angiograms, prepared."""
    from lib.datasets.ffa import prepare
    from lib.datasets.synthetic_angiograms import write_synthetic_angiograms

    folder = tmp_path_factory.mktemp("prepared")
    write_synthetic_angiograms(folder / "angiograms", 8, seed=1, size=128)
    prepare(tiny_configuration(folder))
    return folder


@pytest.fixture(scope="session")
def with_negatives(tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder with six small synthetic angiograms and three negatives, prepared with auxiliary truth.

    Also the settings that differ from those of `prepared`.
    """
    from lib.datasets.ffa import prepare
    from lib.datasets.synthetic_angiograms import write_synthetic_angiograms

    folder = tmp_path_factory.mktemp("with_negatives")
    write_synthetic_angiograms(folder / "angiograms", 6, seed=1, size=128)
    write_synthetic_angiograms(folder / "normal", 3, seed=2, size=128)
    for file in (folder / "normal").glob("*.json"):
        file.unlink()
    settings = [
        f"data paths.path_negatives={folder / 'normal'}",
        "preparation.ignore_labels=",
        "preparation.auxiliary_labels=BRVO",
    ]
    prepare(tiny_configuration(folder, *settings))
    return folder, settings


@pytest.fixture(scope="session")
def tested(prepared):
    """Configuration, experiment and evaluation of a tiny network, trained and tested on `prepared`."""
    from lib.evaluation.test_run import test
    from lib.training.train import train

    configuration = tiny_configuration(prepared, "experiment name.name=tested")
    return configuration, train(configuration), test(configuration)


@pytest.fixture(scope="session")
def members(prepared):
    """Two networks of different architectures, trained on the same images."""
    from lib.training.train import train

    overrides = ("training settings.N_epochs=1", "training settings.N_subimgs=32")
    return [
        train(tiny_configuration(prepared, f"experiment name.name={name}", *more, *overrides))
        for name, *more in (("first",), ("second", "training settings.seed=7", "model.architecture=resunet"))
    ]
