"""Texts of lib that the page shows (why an image is refused, what differs), in the user's language."""

import re
from functools import cache

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

TEMPLATES = (
    # why a file cannot be read
    gettext_noop("has more than {number} million pixels; expected a smaller image"),
    gettext_noop("has several frames; export the one to be used as a single image"),
    gettext_noop("has more than {number} frames; export the one to be used as a single image"),
    gettext_noop("has {number} frames; export the one to be used as a single image"),
    gettext_noop("is damaged, or a 16-bit format that cannot be read; export it as PNG"),
    gettext_noop("is a 16-bit PNG with a transparent colour; export it without transparency"),
    gettext_noop("is entirely black where its transparency is applied; export it without transparency"),
    gettext_noop("has pixels that are NaN or infinite; export it as 8 or 16 bit"),
    gettext_noop("is a run-length encoded BMP; save it as PNG"),
    gettext_noop("is a compressed DICOM file; decompress it with gunzip"),
    gettext_noop("is not a DICOM file; expected DICM at byte 128; export it as a DICOM file or PNG"),
    gettext_noop("is a TIFF without a width and a height, damaged?"),
    gettext_noop("is a TIFF that begins with a reduced copy; export the image as PNG"),
    gettext_noop("is a PFM file of a kind that cannot be read; save it as TIFF of floating point"),
    gettext_noop("cannot be read, damaged? ({reason})"),
    # DICOM
    gettext_noop("is a DICOM file without an image"),
    gettext_noop("is a DICOM Segmentation, a result; expected a photograph or an angiogram"),
    gettext_noop("is a DICOM file without {names}; export the image again, or as PNG"),
    gettext_noop("has PhotometricInterpretation = {name}; export it as RGB or MONOCHROME2"),
    gettext_noop(
        "PhotometricInterpretation (0028,0004) = YBR_FULL_422 contradicts its pixel data: they have {number} "
        "bytes, as RGB has, not {expected}; correct the tag, or export it as PNG"
    ),
    gettext_noop("its pixel data have {number} bytes, but {tags} need {expected}; damaged? Export it again"),
    gettext_noop("HighBit = {high} contradicts {tags}; export it again, or as PNG"),
    gettext_noop(
        "is compressed as {name} with {number} bits; the installed decoders cannot decode it ({reason}); "
        "if it is not damaged: {command}"
    ),
    gettext_noop("has a palette of a kind that cannot be read; export it as RGB"),
    gettext_noop("has a palette with indirect segments; export it as RGB"),
    gettext_noop("has a segmented palette of {number} entries that says {expected}; export it as RGB"),
    gettext_noop("is a deflated DICOM file; export it uncompressed"),
    gettext_noop("is compressed as {name}, which needs one more package: {command}"),
    gettext_noop("is compressed as {name}; export it uncompressed"),
    gettext_noop(
        "its header says that text is burned into the image (BurnedInAnnotation = YES), maybe the patient's "
        "name, and no banner was found; look at it, then set [preparation] info_banner = bottom:N (or top, "
        "left, right), or none; or save it as PNG without the text"
    ),
    # other kinds of files; after those above
    gettext_noop("is a {kind}; export it as JPEG or PNG"),
    gettext_noop("is a {kind}; export it as PNG"),
    gettext_noop("is a {kind}; export it as PNG (or it is damaged)"),
    gettext_noop("is a {kind}; save it as PNG"),
    gettext_noop("is an {kind}; export it as PNG"),
    gettext_noop("is a {kind}; export the image in it as PNG"),
    # the analysis
    gettext_noop("its field of view is empty (a black image?)"),
    gettext_noop(
        "info_banner = {banner} leaves nothing of an image of {size} pixels; expected a smaller number"
    ),
    gettext_noop(
        "not enough memory for {number} of {size} pixels at once: lower [testing settings] test_batch_size, "
        "choose window = tiles with a smaller tile_size, or end other programs that use the memory"
    ),
    gettext_noop(
        "its field of view is only {found} pixels of {size} (text or a light in a dark image?); expected at "
        "least {share} of the image: leave it out, or crop it to the retina"
    ),
    gettext_noop("shows two fields of view beside each other; save each as its own image"),
    gettext_noop(
        "the fovea, row {row} and column {column}, lies outside the image of {rows} rows and {columns} "
        "columns"
    ),
    gettext_noop("it is in colour, but the network was trained on grey images"),
    gettext_noop("it is grey, but the network was trained on images in colour"),
    gettext_noop(
        "its field of view is only {found} pixels across, and the network analyses {expected}: use the "
        "original image"
    ),
    gettext_noop(
        "the diameter of its field of view is {found} pixels, in the training {expected}: resize it to that "
        "scale"
    ),
    gettext_noop("top strip of {number} pixels"),
    gettext_noop("bottom strip of {number} pixels"),
    gettext_noop("left strip of {number} pixels"),
    gettext_noop("right strip of {number} pixels"),
    # where the threshold comes from
    gettext_noop("configuration"),
    gettext_noop("best F1 on the validation images"),
)
"""The texts, with words in braces for what differs; the first that fits is used."""

KINDS = (
    gettext_noop("{kind} in separate colour planes"),
    gettext_noop("{kind} with alpha"),
    gettext_noop("{kind} with further channels"),
    gettext_noop("TIFF of {number}-bit {colours}"),
    gettext_noop("JPEG 2000 of signed {number}-bit {colours}"),
    gettext_noop("JPEG 2000 of {number}-bit {colours}"),
    gettext_noop("signed {colours}"),
    gettext_noop("floating-point {colours}"),
    gettext_noop("complex {colours}"),
    gettext_noop("grey"),
    gettext_noop("grey (white is zero)"),
    gettext_noop("colours"),
    gettext_noop("palette"),
    gettext_noop("transparency mask"),
    gettext_noop("colour filter array (raw)"),
    gettext_noop("linear raw"),
    gettext_noop("photometric interpretation {number}"),
    gettext_noop("big-endian BigTIFF"),
    gettext_noop("JPEG of a kind that cannot be read (more than 8 bits?)"),
    gettext_noop("BMP of a kind that cannot be read"),
    gettext_noop("PAM file"),
    gettext_noop("HEIF photograph"),
    gettext_noop("AVIF image"),
    gettext_noop("JPEG XL image"),
    gettext_noop("JPEG XR image"),
    gettext_noop("OpenEXR image"),
    gettext_noop("Photoshop document"),
    gettext_noop("PDF document"),
)
"""What stands for {kind} and {colours}: kinds of files and their parts."""


def translated(text: str) -> str:
    """A text of lib in the user's language; a text that is not known stays as it is."""
    return _translated(text, TEMPLATES)


def _translated(text: str, templates: tuple[str, ...]) -> str:
    for template in templates:
        if found := _pattern(template).fullmatch(text):
            words = found.groupdict()
            parts = {name: _translated(words[name], KINDS) for name in words.keys() & {"kind", "colours"}}
            return _(template).format(**words | parts)
    return text


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(template)), re.DOTALL)
