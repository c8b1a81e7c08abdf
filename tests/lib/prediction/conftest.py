import pytest

from lib.datasets.synthetic_angiograms import write_synthetic_angiograms


@pytest.fixture(scope="module")
def angiograms(tmp_path_factory):
    """A folder with three images without truth."""
    folder = tmp_path_factory.mktemp("angiograms")
    write_synthetic_angiograms(folder, 3, seed=4, size=160)
    for file in folder.glob("*.json"):
        file.unlink()
    return folder
