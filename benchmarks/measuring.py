"""Time and memory measurements of all benchmarks, and their reports.

A benchmark writes docs/results/<name>.json and <name>.md; performance.md lists the claims of all JSON files.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from lib.runtime.atomic_files import write_text
from lib.runtime.paths import PROJECT


@dataclass(frozen=True)
class Claim:
    """A measured figure and its limit."""

    what: str
    found: float
    limit: float
    unit: str = ""
    at_least: bool = False
    """Whether the limit is a minimum; otherwise it is a maximum."""

    @property
    def kept(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    @property
    def row(self) -> str:
        """The cells of a row of a Markdown table."""
        wanted = f"at {'least' if self.at_least else 'most'} {self.limit:g} {self.unit}".rstrip()
        found = f"{self.found:.4g} {self.unit}".rstrip()
        return f"{self.what} | {wanted} | {found} | {'yes' if self.kept else '**no**'}"


def benchmark_parser(description: str, repeats: int = 5) -> argparse.ArgumentParser:
    """Make a parser with --repeats and --results."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help="number of runs of each measurement")
    results = PROJECT / "docs" / "results"
    parser.add_argument("--results", type=Path, default=results, help="folder for the report")
    return parser


def machine(*packages: str) -> dict:
    """Processor, cores, date, and versions of Python and of the packages that were measured."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def _cpu() -> str:
    """Name of the processor on Linux; family and model if a virtual machine hides the name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    if "model name" not in found:
        return platform.processor() or platform.machine()
    return f"{found['model name']} (family {found['cpu family']}, model {found['model']})"


def peak_memory() -> float:
    """Peak memory of this process in MiB.

    `ru_maxrss` is not used: a process inherits it from its parent.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def run_process(command: Sequence[str | Path]) -> tuple[float, float]:
    """Run a Python command in the folder of the project; return seconds and peak memory in MiB.

    The calling process must use less memory: see `peak_memory`.
    """
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=PROJECT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def in_turn(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Run all candidates one after the other, `repeats` times; return the seconds of each run."""
    seconds = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(found) for name, found in values.items()}


def write_report(
    file: Path, title: str, about: dict, lines: list[str], result: dict, claims: Sequence[Claim] = ()
) -> None:
    """Write <file>.json and <file>.md, and update performance.md in the same folder.

    Args:
        file: path without an ending, with the name of the benchmark.
        title: title of the page.
        about: the result of `machine`.
        lines: Markdown for below the title and the machine.
        result: all figures, for the JSON file.
        claims: the rows of performance.md.
    """
    content = {"title": title, "machine": about, "claims": [asdict(c) for c in claims], **result}
    write_text(file.with_suffix(".json"), json.dumps(content, indent=2) + "\n")
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    command = shlex.join(["python", "-m", f"benchmarks.{file.name}", *sys.argv[1:]])
    head = [f"# {title}", "", f"`{command}`", ""]
    head += [f"{about['cores']} cores, {about['cpu']}, {about['date']}; {versions}.", ""]
    if claims:
        lines = [*lines, "", "| | aim | measured | reached |", "|---|---|---|---|"]
        lines += [f"| {claim.row} |" for claim in claims]
    write_text(file.with_suffix(".md"), "\n".join([*head, *lines]) + "\n")
    _write_performance_page(file.parent)
    print("\n".join([*head, *lines]))


def _write_performance_page(folder: Path) -> None:
    lines = [
        "# Performance",
        "",
        "The claims of the benchmarks, from the last run of each on the machine that its page names.",
        "",
        "| | aim | measured | reached | measured by |",
        "|---|---|---|---|---|",
    ]
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):  # vessels.json is a list of figures
            continue
        for claim in content.get("claims", []):
            page = f"[{file.stem}]({file.stem}.md), {content['machine']['date']}"
            lines.append(f"| {Claim(**claim).row} | {page} |")
    write_text(folder / "performance.md", "\n".join(lines) + "\n")
