"""Folders that the tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
DIGITS = ROOT / "cfg" / "digits.cfg", ROOT / "weights" / "digits.weights"
