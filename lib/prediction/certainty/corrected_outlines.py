"""From corrected LabelMe files of a prediction to angiograms with truth, to train with."""

import json
from hashlib import sha256
from pathlib import Path

from lib.images.checked_files import file_sha256
from lib.images.reading import image_name
from lib.prediction.results_record import changed_labelme_files, image_prefixes
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError, raise_all


def copy_corrected(predictions: Path, folder: Path) -> int:
    """Copy each image whose LabelMe file was corrected, and this file under the name of the image.

    If the images were predicted in several folders, the names of the copies begin with the folder, so that
    the patient stays in the name. Files that `folder` already has with the same content stay.

    Args:
        predictions: output folder of run_prediction.py.
        folder: folder of the angiograms; it is made if it does not exist.

    Returns:
        The number of corrected images.

    Raises:
        UserError: as `changed_labelme_files`; none is corrected; or lists images that cannot be read or were
            replaced since, and files of `folder` with other content: nothing is copied then.
    """
    corrected = changed_labelme_files(predictions)
    if not corrected:
        raise UserError(f"{predictions}: no LabelMe file was changed; correct some in LabelMe and save them")
    prefixes = image_prefixes(predictions)
    sources: dict[Path, tuple[str, Path]] = {}
    faults = []
    for image, (labelme, predicted) in corrected.items():
        try:
            if file_sha256(image) != predicted:
                faults.append(f"{image}: is another image than that of the prediction and of {labelme}")
            for name, content in _contents(image, labelme, prefixes[image]).items():
                file, digest = folder / name, sha256(content).hexdigest()
                other, source = sources.get(file) or (file_sha256(file) if file.is_file() else digest, file)
                if other != digest:
                    faults.append(f"{file}: the content of {labelme} is not that of {source}")
                sources[file] = digest, labelme
        except (OSError, ValueError, TypeError, UserError) as error:
            faults.append(f"{image} or {labelme}: cannot be read ({error})")
    raise_all(faults, f"{folder}: nothing copied; rename or remove these files")
    folder.mkdir(parents=True, exist_ok=True)
    for image, (labelme, _) in corrected.items():  # read again: together they may need gigabytes
        for name, content in _contents(image, labelme, prefixes[image]).items():
            if not (folder / name).is_file():
                with written_atomically(folder / name) as (beside,):
                    beside.write_bytes(content)
    return len(corrected)


def _contents(image: Path, labelme: Path, prefix: str) -> dict[str, bytes]:
    """Name and content of both files; LabelMe then finds the image beside its file."""
    name = f"{prefix}{image.name}"
    document = {**json.loads(labelme.read_bytes()), "imagePath": name}
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return {name: image.read_bytes(), f"{prefix}{image_name(image)}.json": text}
