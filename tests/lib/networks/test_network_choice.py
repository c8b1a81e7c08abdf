import numpy as np
import pytest

from lib.configuration.banner import Banner
from lib.networks.network_choice import SHIPPED_NETWORK, NetworkChoice
from lib.prediction.image_file import predict_file
from lib.runtime.errors import UserError
from tests.lib.images.test_reading import write_dicom

pytestmark = pytest.mark.skipif(not SHIPPED_NETWORK.is_file(), reason="no shipped network")


def chosen(*overrides):
    return NetworkChoice("onnx", SHIPPED_NETWORK, (), overrides).read()


def test_burned_in_text_is_refused_by_a_prediction_unless_the_user_decided(tmp_path):
    file = tmp_path / "a.dcm"
    pixels = np.random.default_rng(3).integers(60, 200, (64, 64), dtype=np.uint8)
    write_dicom(file, pixels, BurnedInAnnotation="YES")
    network = chosen()
    assert network.info_banner == "auto"
    with pytest.raises(UserError, match=r"a\.dcm: its header says that text is burned into the image"):
        predict_file(network, file)
    assert predict_file(chosen("preparation.info_banner=none"), file).original.shape == (64, 64)


def test_the_banner_of_an_exported_network_can_be_set():
    assert chosen("preparation.info_banner = top:9").info_banner == Banner("top", 9)
    with pytest.raises(UserError, match=r"\[preparation\] info_banner: expected auto, none, top:N"):
        chosen("preparation.info_banner=up")
