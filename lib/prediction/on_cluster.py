"""Prediction of many images on a Ray cluster: each image by the next free machine."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lib.networks.network_choice import NetworkChoice
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.folder import Outcome, PredictMany, predict_one
from lib.prediction.found_images import FoundImage
from lib.prediction.fovea import Foveae
from lib.prediction.result_files import DicomObjects
from lib.runtime.ray_cluster import ClusterOptions, cluster_connection, results_as_completed


@contextmanager
def cluster_prediction(
    cluster: ClusterOptions | None,
    chosen: NetworkChoice,
    foveae: Foveae,
    dicom_objects: DicomObjects | None = None,
) -> Iterator[PredictMany | None]:
    """Connect to the cluster; gives the `predict_many` of `predict_images`, or None without a cluster.

    Every machine must see images and experiments under the same paths. Only this process writes results: a
    task whose process has ended cannot change a file.
    """
    if cluster is None:
        yield None
        return

    def predict_many(images: Sequence[FoundImage]) -> Iterator[tuple[FoundImage, Outcome]]:
        calls = (
            (image, (chosen, _with_absolute_path(image), foveae.get(image.file), dicom_objects))
            for image in images
        )
        return results_as_completed(_predict, calls, cluster, own_process=False)

    with cluster_connection(cluster):
        yield predict_many


def _with_absolute_path(image: FoundImage) -> FoundImage:
    return dataclasses.replace(image, file=image.file.absolute())


def _predict(
    chosen: NetworkChoice,
    image: FoundImage,
    fovea: tuple[float, float] | None,
    dicom_objects: DicomObjects | None,
) -> Outcome:
    return predict_one(_network(chosen), image, fovea, dicom_objects)


@functools.cache
def _network(chosen: NetworkChoice) -> TrainedNetwork:
    """Read once per process, because a process predicts many images."""
    return chosen.read()
