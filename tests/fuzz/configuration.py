"""Fuzz target: a configuration is read, and is equal after it is stored, or an error names the file."""

from pathlib import Path

from tests.fuzz.target import fuzz, instrumented

with instrumented():
    from lib.configuration.reading import read_configuration
    from lib.runtime.errors import UserError
    from lib.runtime.paths import PROJECT


def read(file: Path) -> None:
    try:
        configuration = read_configuration(file)
    except UserError as error:
        assert str(file) in str(error), error
        return
    file.write_text(configuration.as_text(), encoding="utf-8", newline="")
    assert read_configuration(file).texts == configuration.texts


def seeds() -> list[bytes]:
    whole = [
        f.read_bytes() for f in (PROJECT / "configuration.txt", *PROJECT.glob("configurations/*_cpu.txt"))
    ]
    lines = whole[0].splitlines()
    without_comments = b"\n".join(line for line in lines if line and not line.startswith(b"#"))
    base = f"[base]\nconfiguration = {PROJECT / 'configuration.txt'}\n[model]\nfilters = 4 8\n"
    return [*whole, without_comments, base.encode()]


if __name__ == "__main__":
    fuzz(read, seeds())
