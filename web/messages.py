"""Messages of the page's scripts, translated into the user's language."""

from django.utils.translation import gettext as _

from lib.networks.trained_network import is_non_perfusion
from web.analysis_queue import INTERRUPTED


def script_messages(structure: str = "CNP") -> dict[str, str]:
    """Messages by the names used in web/static, which also replaces the {words} in braces.

    `structure` is what the network outlines.
    """
    return _share_messages(structure) | {
        "sending": _("Sending"),
        "waiting": _("Waiting, number {position} in the queue"),
        "running": _("Being analysed"),
        "nextAttempt": _("Next attempt in {seconds} s."),
        "interrupted": _(INTERRUPTED),
        "tooLarge": _("The file is too large."),
        "unreachable": _("The server cannot be reached."),
        "unreadable": _("The file cannot be read; choose it again (folders cannot be sent)."),
        "serverError": _("The server answered with an error ({status})."),
        "deleting": _("Being deleted"),
        "deleted": _("{name} was deleted."),
        "allDeleted": _("All images were deleted."),
        "expired": _("{name} has expired: the server has deleted it."),
        "keptUntil": _("The server deletes this image at {time}"),
        "banner": _("The information banner was excluded ({banner})."),
        "doubts": _("Less reliable: {doubts}."),
        "range": _("Range {low} to {high}, from the disagreement of the network's views"),
        "spacingOfFile": _("{height} × {width} (from the file)"),
        "invalidSpacing": _("Pixel spacing: expected 0.0001 to 1 mm; what was typed is not used."),
        "invalidMinArea": _("Smallest area: expected a whole number; the network's own, {number}, is used."),
        "invalidFovea": _("Fovea: expected a row and a column inside the image; what was typed is not used."),
        "unknown": _("unknown"),
        "notSaved": _("The correction is not saved: {reason}"),
        "yes": _("yes"),
        "markFovea": _("Click on the fovea in the picture"),
        "superior": _("Superior"),
        "inferior": _("Inferior"),
        "left": _("Left"),
        "right": _("Right"),
        "centre": _("Centre (1 mm)"),
        "inner_ring": _("Inner ring (1 to 3 mm)"),
        "outer_ring": _("Outer ring (3 to 6 mm)"),
    }


def _share_messages(structure: str) -> dict[str, str]:
    if is_non_perfusion(structure):
        return {
            "done": _("Ischaemic index {index}"),
            "analysed": _("{name} is analysed: ischaemic index {index}, {areas} areas."),
        }
    return {
        "done": _("Area fraction {index}"),
        "analysed": _("{name} is analysed: area fraction {index}, {areas} areas."),
    }
