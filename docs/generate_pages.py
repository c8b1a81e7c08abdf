"""Pages that mkdocs makes during a build: the Python API, and the project's own pages of the top folder."""

from pathlib import Path

import mkdocs_gen_files

PROJECT = Path(__file__).resolve().parents[1]

COPIED = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "explanation/security.md",
}
"""Files of the top folder, and their pages; both places are one folder below docs/."""


def write_api_pages() -> None:
    """One page for each module of lib and models, and the list of them for the navigation."""
    navigation = mkdocs_gen_files.Nav()
    for package in ("lib", "models"):
        for file in sorted((PROJECT / package).rglob("*.py")):
            parts = file.relative_to(PROJECT).with_suffix("").parts
            if parts[-1] == "__main__":
                continue
            if parts[-1] == "__init__":
                parts = parts[:-1]
                page = Path(*parts, "index.md")
            else:
                page = Path(*parts).with_suffix(".md")
            navigation[parts] = page.as_posix()
            with mkdocs_gen_files.open(f"reference/api/{page.as_posix()}", "w") as stream:
                stream.write(f"::: {'.'.join(parts)}\n")
    with mkdocs_gen_files.open("reference/api/SUMMARY.md", "w") as stream:
        stream.writelines(navigation.build_literate_nav())


def copy_project_pages() -> None:
    """Their links into docs/ start at the top folder there, one folder below docs/ here."""
    for source, page in COPIED.items():
        text = (PROJECT / source).read_text(encoding="utf-8").replace("](docs/", "](../")
        with mkdocs_gen_files.open(page, "w") as stream:
            stream.write(text)


write_api_pages()
copy_project_pages()
