"""The page in a browser: pictures are there, nothing is wider than the screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest
from command_line import CommandLine
from tiny_data import DETECTOR, make_detection_data

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FULL = "--verify", "torch", "--runs", "1"
# in a frame, for a window can't be as narrow as a phone; it tells what sticks out, but for what is
# scrolled inside a box of its own
MEASURE = """<script>
window.addEventListener('load', () => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('main *')].filter(e =>
    !e.closest('.wide, .chart') && e.getBoundingClientRect().right > wide + 1);
  parent.postMessage(JSON.stringify({
    width: wide, scroll: document.documentElement.scrollWidth,
    out: out.map(e => e.tagName + '.' + e.className),
    pictures: [...document.images].map(i => i.naturalWidth),
    bars: [...document.querySelectorAll('.bar i')].map(e => e.getBoundingClientRect().width),
  }), '*');
});
</script>"""
FRAME = """<!DOCTYPE html><title></title>
<script>window.addEventListener('message', e => document.title = e.data);</script>
<iframe width="{width}" height="900" frameborder="0" srcdoc="{page}"></iframe>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, Debian's package")
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_screen(
    command: CommandLine, made: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.chdir(made)
    if not Path("x.html").exists():
        make_detection_data(made)
        Path("x.cfg").write_text(DETECTOR)
        words = "--cfg", "x.cfg", "--weights", "random", "--data", "x.data", "--report", "x.html"
        ended = command.run("prune", *words, *FULL, "--name", "a-long-name-" * 6 + "x")
        assert ended.code == 0, ended.err
    page = Path("x.html").read_text()
    measured = escape(page.replace("</head>", MEASURE + "</head>"))
    Path("measured.html").write_text(FRAME.format(width=width, page=measured))
    found = shown(made / "measured.html", made / "profile")
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["out"] == []
    assert found["pictures"] == [120] * 8
    assert 0 < max(found["bars"]) < width


def shown(path: Path, profile: Path) -> dict:
    """What MEASURE finds, with the network off."""
    assert CHROMIUM
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
        "--window-size=1400,1000",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [CHROMIUM, *options, path.as_uri()], capture_output=True, text=True, timeout=120
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr
    return json.loads(unescape(title[1]))
