"""Ten thousand changed configuration files: each is read, or refused with an error that names the file."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.configuration.reading import read_configuration
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION

pytestmark = pytest.mark.faults

LINES = [
    line
    for line in DEFAULT_CONFIGURATION.read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
VALUES = st.one_of(
    st.text(max_size=60),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "nan", "-1", "1e999", "%(name)s", "../../x", "~", "[model]", "١٢", "a/b:c"]),
    st.from_regex(r"\A[()\[\]{}*+?|^$.\\a0-9,-]{1,30}\Z"),  # for patient_pattern, and as invalid text
)


@st.composite
def changed_lines(draw) -> list[str]:
    """configuration.txt with some lines removed, repeated, moved, replaced by text, or with another value."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        key = lines[place].partition("=")[0]
        change = draw(st.sampled_from(["value"] * 6 + ["drop", "double", "move", "text"]))
        if change == "value":
            lines[place] = f"{key}= {draw(VALUES)}"
        elif change == "drop":
            del lines[place]
        elif change == "double":
            lines.insert(place, lines[place])
        elif change == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(place))
        else:
            lines[place] = draw(st.text(max_size=60))
    return lines


@settings(
    max_examples=10_000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(changed_lines())
def test_ten_thousand_changed_files_are_read_or_refused_with_their_name(tmp_path_factory, lines):
    file = tmp_path_factory.getbasetemp() / "changed.txt"
    file.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass", newline="")
    started = time.process_time()
    try:
        read = read_configuration(file)
    except UserError as error:
        assert "changed.txt" in str(error)
    else:  # the stored text gives the same settings
        file.write_text(read.as_text(), encoding="utf-8", newline="")
        assert read_configuration(file).texts == read.texts
    assert time.process_time() - started < 1
