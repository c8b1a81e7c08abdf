"""The requirement files and the Python versions are written in several places, and these agree."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest

from lib.runtime.command_line import run_script
from lib.runtime.paths import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
GROUPS = PYPROJECT["dependency-groups"]


def requirement_file(name: str) -> tuple[list[str], list[str]]:
    """The packages of a file, and the names of the files that it includes with -r."""
    lines = (re.sub("#.*", "", line).strip() for line in (PROJECT / name).read_text().splitlines())
    lines = [line for line in lines if line]
    included = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    return [line for line in lines if not line.startswith("-r ")], included


def test_requirements_are_the_dependencies():
    assert requirement_file("requirements.txt") == (PYPROJECT["project"]["dependencies"], [])


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_is_a_requirement_file(group):
    packages, included = requirement_file(f"requirements/{group}.txt")
    assert packages == [entry for entry in GROUPS[group] if isinstance(entry, str)]
    groups = [entry["include-group"] for entry in GROUPS[group] if isinstance(entry, dict)]
    assert [f"{name}.txt" for name in groups] == [name for name in included if name != "../requirements.txt"]


def test_each_requirement_file_is_a_group():
    files = {file.stem for file in (PROJECT / "requirements").glob("*.txt")}
    assert files == {*GROUPS, "lock"}


def test_inference_and_web_need_no_keras():
    named = str([requirement_file(f"requirements/{name}.txt") for name in ("inference", "web")])
    assert not re.search(r"tensorflow|keras|\.\./requirements\.txt", named)


def test_the_bounds_of_a_package_are_the_same_in_all_lists():
    packages = [*PYPROJECT["project"]["dependencies"], *(p for g in GROUPS.values() for p in g)]
    bounds: dict[str, set[str]] = {}
    for package in filter(lambda p: isinstance(p, str), packages):
        name, bound = re.fullmatch(r"([^<>=]+)(.*)", package).groups()
        bounds.setdefault(name, set()).add(bound)
    assert {name: b for name, b in bounds.items() if len(b) > 1} == {}


def test_makefile_and_pyproject_state_the_same_python_versions():
    assert PYPROJECT["project"]["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info < (3, 14)" in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("version", "is_accepted"),
    [((3, 10, 9), False), ((3, 11, 0), True), ((3, 13, 9), True), ((3, 14, 0), False)],
)
def test_scripts_start_under_these_python_versions(version, is_accepted, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(sys, "version_info", version)
    if is_accepted:
        run_script(lambda: calls.append("called"))
        assert calls == ["called"]
    else:
        with pytest.raises(SystemExit, match="2"):
            run_script(lambda: calls.append("called"))
        assert calls == []
        error = capsys.readouterr().err
        assert "expected 3.11, 3.12 or 3.13" in error
        assert ("TensorFlow has no release for a newer one yet" in error) == (version >= (3, 14))


def test_django_commands_run_from_any_folder(tmp_path):
    pytest.importorskip("django", reason="pip install -r requirements/web.txt")
    finished = subprocess.run(
        [sys.executable, str(PROJECT / "web" / "manage.py"), "migrate"],
        cwd=tmp_path,
        env=os.environ | {"CNP_WEB_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "database.sqlite3").is_file()


def test_imports_inside_functions_are_few_and_each_has_a_reason():
    folders = (PROJECT / name for name in ("lib", "models", "web"))
    found = []
    for file in [*PROJECT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        for function in (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    found.append(f"{file}:{node.lineno}")
                    assert "#" in lines[node.lineno - 1] + lines[node.lineno - 2], f"no reason: {found[-1]}"
    assert len(found) <= 25, found
