"""Messages of the page's scripts, translated into the user's language."""

from django.utils.translation import gettext as _


def script_messages() -> dict[str, str]:
    """Messages by the names used in web/static, which also replaces the {words} in braces."""
    return {
        "sending": _("Sending"),
        "waiting": _("Waiting, number {position} in the queue"),
        "running": _("Being analysed"),
        "done": _("Ischaemic index {index}"),
        "busy": _("The server is busy; next attempt in {seconds} s"),
        "tooLarge": _("The file is too large."),
        "unreachable": _("The server cannot be reached."),
        "analysed": _("{name} is analysed: ischaemic index {index}, {areas} areas."),
        "deleted": _("{name} was deleted."),
        "allDeleted": _("All images were deleted."),
        "keptUntil": _("The server deletes this image at {time}"),
        "banner": _("The information banner was excluded ({banner})."),
        "spacingOfFile": _("{height} × {width} (from the file)"),
        "unknown": _("unknown"),
        "markFovea": _("Click on the fovea in the picture"),
        "superior": _("Superior"),
        "inferior": _("Inferior"),
        "left": _("Left"),
        "right": _("Right"),
        "centre": _("Centre (1 mm)"),
        "inner_ring": _("Inner ring (1 to 3 mm)"),
        "outer_ring": _("Outer ring (3 to 6 mm)"),
    }
