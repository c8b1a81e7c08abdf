"""Prediction of an archive by the machines of a cluster, each image by whichever is free."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.networks.network_choice import NetworkChoice
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.folder import Compute, predict_to_files
from lib.prediction.found_images import FoundImage, Foveae
from lib.runtime.ray_cluster import ClusterOptions, cluster_connection, results_as_completed


@contextmanager
def cluster_prediction(
    cluster: ClusterOptions | None, chosen: NetworkChoice, output: Path, foveae: Foveae
) -> Iterator[Compute | None]:
    """What `predict_images` takes as `elsewhere`; None where there is no cluster.

    Images, output and experiments lie in folders that every machine sees under the same path.
    """
    if cluster is None:
        yield None
        return

    def predicted(images: Sequence[FoundImage]) -> Iterator[tuple[FoundImage, dict | str]]:
        calls = (
            (image, (chosen, _from_anywhere(image), output.absolute(), foveae.get(image.file)))
            for image in images
        )
        return results_as_completed(_predict, calls, cluster, own_process=False)

    with cluster_connection(cluster):
        yield predicted


def _from_anywhere(image: FoundImage) -> FoundImage:
    return dataclasses.replace(image, file=image.file.absolute())


def _predict(
    chosen: NetworkChoice, image: FoundImage, output: Path, fovea: tuple[float, float] | None
) -> dict[str, Any] | str:
    return predict_to_files(_network(chosen), image, output, fovea)


@functools.cache
def _network(chosen: NetworkChoice) -> TrainedNetwork:
    """Read once in a process, which predicts many images."""
    return chosen.read()
