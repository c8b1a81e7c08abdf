"""Paths of the project."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_CONFIGURATION = PROJECT / "configuration.txt"
