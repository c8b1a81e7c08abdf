"""Fuzz target: LabelMe files become masks of 0 and 1, or an error names the file."""

import base64
import json
import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import atheris
import numpy as np

from tests.fuzz.target import fuzz, instrumented

with instrumented():
    from PIL import Image

    from lib.images.labelme import labelme_document, rasterise, read_labelme
    from lib.runtime.errors import UserError


def read(file: Path) -> None:
    try:
        annotation = read_labelme(file)
        height, width = annotation.height or 24, annotation.width or 32
        if not (0 < height <= 256 and 0 < width <= 256):
            return
        mask = rasterise(annotation, {"NP"}, {"BRVO"}, height, width)
    except UserError as error:
        assert str(error).startswith(str(file)), error
    else:
        assert mask.shape == (height, width) and mask.dtype == np.uint8 and mask.max() <= 1


def seeds() -> list[bytes]:
    mask = np.zeros((24, 32), bool)
    mask[2:20, 3:9] = mask[5:9, 3:30] = True
    mask[4:6, 5:7] = False
    documents = [labelme_document(mask, "NP", "c:\\b.png")]
    png = BytesIO()
    Image.fromarray(mask[:9, :8].view(np.uint8) * 255).save(png, "PNG")
    embedded = base64.b64encode(png.getvalue()).decode()
    shape = {"label": "NP", "shape_type": "mask", "points": [[3, 4], [10, 12]], "mask": embedded}
    documents.append({"shapes": [shape], "imagePath": "b.png"})
    for kind in ("circle", "rectangle", "line"):
        shape = {"label": "NP", "shape_type": kind, "points": [[3, 4.5], [10, 12]]}
        documents.append({"shapes": [shape, {**shape, "label": "BRVO"}], "imagePath": "b.png"})
    return [json.dumps(document).encode() for document in documents]


VALUES = (None, True, 0, -1, 1.5, 31, 1e308, 2**70, float("nan"), "", "NP", "mask", "circle", [], {})


def mutated(data: bytes, longest: int, seed: int) -> bytes:
    """In half of the cases replace values of the JSON: random changes of bytes rarely do this."""
    chance = random.Random(seed)
    try:
        document = json.loads(data) if chance.random() < 0.5 else None
    except (ValueError, RecursionError):
        document = None
    places = list(_places(document))
    if not places:
        return atheris.Mutate(data, longest)
    for _ in range(chance.randint(1, 3)):
        parent, key = chance.choice(places)
        other, other_key = chance.choice(places)
        copied = json.loads(json.dumps(other[other_key]))
        parent[key] = chance.choice([chance.choice(VALUES), copied, chance.uniform(-40, 40)])
        places = list(_places(document))
    changed = json.dumps(document).encode()
    return changed if len(changed) <= longest else data


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Container and key of each value in the document."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])


if __name__ == "__main__":
    fuzz(read, seeds(), custom_mutator=mutated)
