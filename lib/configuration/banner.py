"""The setting `info_banner`: a strip that is cut off before an image is used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lib.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Banner:
    """A strip along one side of an image.

    Attributes:
        side: "top", "bottom", "left" or "right".
        size: height or width of the strip in pixels.
    """

    side: str
    size: int

    @property
    def setting(self) -> str:
        """The text that `parse_info_banner` reads as this strip."""
        return f"{self.side}:{self.size}"

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return a copy of an image or mask, (H, W) or (H, W, C), without the strip.

        Raises:
            UserError: the strip is as large as the image.
        """
        axis = 0 if self.side in {"top", "bottom"} else 1
        if self.size >= array.shape[axis]:
            raise UserError(
                f"info_banner = {self.setting} leaves nothing of an image of "
                f"{array.shape[1]}x{array.shape[0]} pixels; expected a smaller number"
            )
        kept = slice(self.size, None) if self.side in {"top", "left"} else slice(None, -self.size)
        return array[kept].copy() if axis == 0 else array[:, kept].copy()

    def __str__(self) -> str:
        return f"{self.side} strip of {self.size} pixels"


def parse_info_banner(text: str) -> Literal["auto"] | Banner | None:
    """Read the setting `auto | none | top:N | bottom:N | left:N | right:N`.

    Raises:
        ValueError: any other text; the message says what is expected.
    """
    text = text.strip().lower()
    if text in {"auto", "none"}:
        return "auto" if text == "auto" else None
    match = re.fullmatch(r"(top|bottom|left|right)\s*:\s*([1-9][0-9]{0,4})", text)
    if not match:
        raise ValueError("auto, none, top:N, bottom:N, left:N or right:N (N pixels, 1 to 99999)")
    return Banner(match[1], int(match[2]))
