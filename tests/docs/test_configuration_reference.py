import runpy
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(PROJECT / "docs" / "generate_configuration_reference.py"))
TEXT = GENERATOR["SOURCE"].read_text(encoding="utf-8")


def test_the_page_is_what_the_configuration_gives():
    written = GENERATOR["PAGE"].read_text(encoding="utf-8")
    assert written == GENERATOR["reference"](TEXT), "run python docs/generate_configuration_reference.py"


def test_every_key_is_on_the_page_with_its_default_and_comment():
    page = GENERATOR["reference"](
        "# About the file.\n\n[one]\n# First line,\n# a | b.\nkey = a = b\n\n[two]\n# More.\nempty =\n"
    )
    assert page.endswith(
        "## [one]\n\n| key | default | meaning |\n|---|---|---|\n"
        "| `key` | `a = b` | First line, a &#124; b. |\n\n"
        "## [two]\n\n| key | default | meaning |\n|---|---|---|\n| `empty` | empty | More. |\n"
    )


def test_no_key_is_left_out():
    keys = [line.split("=")[0].strip() for line in TEXT.splitlines() if "=" in line and line[0] != "#"]
    assert [key for _, key, _, meaning in GENERATOR["explained_keys"](TEXT) if meaning] == keys
