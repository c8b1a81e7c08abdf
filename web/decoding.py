"""Decoding of uploads in a process of its own: it is ended when an upload takes too long, and its memory is
limited, so that no upload can stop the page.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lib.configuration.banner import parse_info_banner
from lib.images.checked_files import has_dicom_signature
from lib.images.formats.dicom import pixel_spacing_mm, refuse_segmentation
from lib.images.info_banner import banner_to_cut
from lib.images.png import write_png
from lib.images.reading import PILLOW_FORMATS, read_image
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

MEMORY_BYTES = 6 * 2**30
"""Address space of the process; an image of 20 million pixels in 16-bit colour needs about 2 GiB."""

EMPTY, NO_IMAGE, DEFLATED = "empty", "no image", "deflated"
TOO_MANY_PIXELS, TOO_COSTLY, NO_ROOM = "too many pixels", "too costly", "no room"
"""Reasons for which a file is refused, besides the messages of `read_image`."""


class Decoder:
    """The process that decodes one file at a time; it starts when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, so that the first upload need not wait for its imports."""
        with self._lock:
            self._started()

    def decode(
        self, file: Path, picture: Path, most_pixels: int, seconds: float, info_banner: str = "auto"
    ) -> dict:
        """Decode a file and write its pixels as PNG.

        Args:
            file: the upload.
            picture: the PNG file to write.
            most_pixels: a larger image is refused.
            seconds: time after which the process is ended.
            info_banner: the setting of the network. With "auto", a DICOM file whose header says that text is
                burned in is refused if no banner is found.

        Returns:
            "height", "width", "spacing" (mm, two numbers or None) and "is_dicom"; or "refused", one of the
            reasons above; or "unreadable", the reason of `read_image`.
        """
        with self._lock:
            process = self._started()
            asked = json.dumps(
                {
                    "file": str(file),
                    "picture": str(picture),
                    "most_pixels": most_pixels,
                    "info_banner": info_banner,
                }
            )
            limit = threading.Timer(seconds, process.kill)
            limit.start()
            try:
                answer = self._ask(process, asked)
            finally:
                limit.cancel()
            if not answer:  # killed by the timer, or by the system because memory was short
                self._end()
                return {"refused": TOO_COSTLY}
            return json.loads(answer)

    def end(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, process: subprocess.Popen[str], asked: str) -> str:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{asked}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        return process.stdout.readline()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            command = [sys.executable, "-m", "web.decoding"]
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libtiff writes warnings
                text=True,
                start_new_session=True,  # Ctrl-C in the terminal must not reach it
            )
        return self._process

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()  # closes the pipes
            self._process = None


def _decoded(file: Path, picture: Path, most_pixels: int, info_banner: str) -> dict:
    if not file.stat().st_size:
        return {"refused": EMPTY}
    with file.open("rb") as stream:
        is_dicom = has_dicom_signature(stream)
    try:
        if is_dicom and _is_deflated(file):
            return {"refused": DEFLATED}
        height, width = _dicom_size(file) if is_dicom else _image_size(file)
        if height * width > most_pixels:
            return {"refused": TOO_MANY_PIXELS}
    except Image.DecompressionBombError:
        return {"refused": TOO_MANY_PIXELS}
    except Exception:  # a damaged header can raise nearly any exception
        return {"refused": NO_IMAGE}
    try:
        banner = parse_info_banner(info_banner)
        pixels = read_image(file, banner)
        spacing = pixel_spacing_mm(file)
        refuse_segmentation(file)  # the PNG file keeps no header
        if banner == "auto":
            banner_to_cut(pixels, file, banner)  # refuses such text, for the same reason
    except UserError as error:
        reason = str(error).removeprefix(f"{file}: ")
        return {"refused": NO_IMAGE} if reason.startswith("is not an image") else {"unreadable": reason}
    height, width = pixels.shape[:2]
    if height * width > most_pixels:
        return {"refused": TOO_MANY_PIXELS}
    try:
        write_png(picture, pixels)
    except UserError:  # the disk is full
        return {"refused": NO_ROOM}
    return {"height": height, "width": width, "spacing": spacing, "is_dicom": is_dicom}


def _image_size(file: Path) -> tuple[int, int]:
    """Height and width by the header; (0, 0) for kinds that Pillow does not know, which `read_image` may."""
    try:
        with Image.open(file, formats=PILLOW_FORMATS) as image:
            return image.height, image.width
    except Image.DecompressionBombError:
        raise
    except Exception:  # a damaged header can raise nearly any exception
        return 0, 0


def _is_deflated(file: Path) -> bool:
    """Whether a DICOM file is compressed as a whole, so that its header cannot be read alone."""
    return read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def _dicom_size(file: Path) -> tuple[int, int]:
    """Height and width by the header; 0 if there are none, which `read_image` names."""
    dataset = dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return dataset.get("Rows") or 0, dataset.get("Columns") or 0


def _serve() -> None:
    """Answer each line of the standard input with one line, until the server's process ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        asked = json.loads(line)
        file, picture = Path(asked["file"]), Path(asked["picture"])
        answer = _decoded(file, picture, asked["most_pixels"], asked["info_banner"])
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
