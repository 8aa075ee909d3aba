"""Runs our commands in this process, as their users start them."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass

import pytest
from paths import ROOT

TOOLS = ROOT / "tools"
# for good: a path that is restored after each test loses what packages add to it while they load
sys.path.append(str(TOOLS))


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


class CommandLine:
    """`run("prune", "--cfg", …)` is `python tools/prune.py --cfg …` without a new process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def run(self, tool: str, *arguments: object) -> Ended:
        path = str(TOOLS / f"{tool}.py")
        self.monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        said = self.capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, said.out, said.err)
