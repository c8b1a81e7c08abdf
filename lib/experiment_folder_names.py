"""tmp"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lib.runtime.errors import UserError


def ensemble_name(names: Sequence[str]) -> str:
    """The name of several experiments together: joined by "+", or the first and a digest of all.

    Raises:
        UserError: fewer than two names, or one twice.
    """
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(f"--experiments {' '.join(names)}: expected two or more different names")
    joined = "+".join(names)
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return joined if len(joined) <= 80 else f"{names[0]}+{len(names) - 1}_others_{digest}"
