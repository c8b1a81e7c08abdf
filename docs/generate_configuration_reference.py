"""Write docs/reference/configuration.md from the sections, defaults and comments of configuration.txt.

python docs/generate_configuration_reference.py
"""

from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "configuration.txt"
PAGE = PROJECT / "docs" / "reference" / "configuration.md"

INTRODUCTION = """\
<!-- Written by docs/generate_configuration_reference.py: change the comments in configuration.txt. -->
# Configuration

`configuration.txt` holds the experiment of the Enhance LadderNet paper and explains each key. The folder
`configurations/` holds other experiments; [how to write your own](../how-to/change-settings.md). The tables
below list each section and key of `configuration.txt` with its default and its meaning. Sections and keys
have the names of retina-unet where it has them.
"""


def explained_keys(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Section, key, default and meaning of each key of a configuration file.

    The meaning is the comment above the key; its lines are joined.
    """
    section, comment = "", []
    for line in text.splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            key, default = (part.strip() for part in line.split("=", 1))
            yield section, key, default, " ".join(comment)
        comment = []


def reference(text: str) -> str:
    """The page, as Markdown, for a configuration file with this text."""
    lines, current = [INTRODUCTION], None
    for section, key, default, meaning in explained_keys(text):
        if section != current:
            lines += [] if current is None else [""]
            lines += [f"## [{section}]", "", "| key | default | meaning |", "|---|---|---|"]
            current = section
        shown = f"`{default}`" if default else "empty"
        lines.append(f"| `{key}` | {shown} | {meaning.replace('|', '&#124;')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
