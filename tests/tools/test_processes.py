"""Commands as processes of their own: signals, full disks, closed pipes, --help, other folders."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import TOOLS, Ended
from good_model import GOOD, LIGHT, check_refused, content, here

__all__ = ["here"]  # a fixture


def start(*arguments: object, **more: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOOLS / "prune.py"), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.Popen(command, text=True, **pipes)


def limited() -> None:
    """No file may have more than 512 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))


def wait_at_work(process: subprocess.Popen[str], seconds: float = 6.0) -> None:
    """Wait until it has computed for so long, or lets an engine compute.

    Its imports are over then, on a busy machine, too.
    """
    status = Path(f"/proc/{process.pid}/stat")
    engines = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not status.exists():
        time.sleep(seconds)
    while status.exists() and process.poll() is None:
        user, system = status.read_text().rpartition(")")[2].split()[11:13]
        if (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") > seconds:
            return
        if engines.exists() and engines.read_text().strip():
            return
        time.sleep(0.1)


GIVEN = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "new/out", *LIGHT)


def test_a_full_disk(here: Path) -> None:
    before = content(here)
    process = start(*GIVEN, preexec_fn=limited)
    out, err = process.communicate(timeout=120)
    check_refused(Ended(process.returncode, out, err), "can't write: file too large")
    assert content(here) == before


def test_an_interrupt_from_outside(here: Path) -> None:
    """It measures for minutes, so it is at work when the signal comes."""
    Path("x.cfg").write_text(GOOD.replace("=16", "=512"))
    before = content(here)
    arguments = [word if word != "0" else "100000" for word in GIVEN]
    process = start(*arguments, start_new_session=True)
    wait_at_work(process)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    check_refused(
        Ended(process.returncode, out, err), "no file is left half-written", 130, "interrupted"
    )
    assert content(here) == before


@pytest.mark.parametrize("closed", ["pipe", "descriptor", "full"])
def test_nobody_reads_the_table(here: Path, closed: str) -> None:
    if closed == "full":
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full")
        with open("/dev/full", "w") as full:
            process = start(*GIVEN, stdout=full)
            _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert err == "error: can't write the output: No space left on device\n"
        return
    if closed == "pipe":
        process = start(*GIVEN)
        assert process.stdout
        process.stdout.close()
        process.stdout = None
    else:
        process = start(*GIVEN, stdout=None, preexec_fn=lambda: os.close(1))
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert len(list(Path("new/out").iterdir())) == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_that_know_few_letters(here: Path, encoding: str) -> None:
    os.rename("x.cfg", "α.cfg")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for arguments in (("--help",), (*GIVEN[2:], "--cfg", "no-α.cfg")):
        process = start(*arguments, env=environment)
        out, err = process.communicate(timeout=120)
        assert process.returncode == (0 if arguments == ("--help",) else 2), err
        assert "Traceback" not in out + err


def tools() -> list[Path]:
    """The commands: what can be started, so not what they share."""
    return [path for path in sorted(TOOLS.glob("*.py")) if "__main__" in path.read_text()]


def options_of(path: Path) -> set[str]:
    return set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text()))


def help_of(path: Path, folder: Path, *words: str) -> tuple[str, float]:
    """What a help says, and the seconds that it takes; torch must not be imported for it."""
    script = (
        "import atexit, runpy, sys; "
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
        f"sys.path.insert(0, {str(TOOLS)!r}); sys.argv = ['x', *{words!r}]; "
        f"runpy.run_path({str(path)!r}, run_name='__main__')"
    )
    start, usage = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=folder
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime
    assert (done.returncode, done.stderr) == (0, "False\n")
    return done.stdout, min(spent, time.monotonic() - start)


@pytest.mark.parametrize("path", tools(), ids=lambda path: path.stem)
def test_help_is_fast_and_complete(path: Path, tmp_path: Path) -> None:
    text, seconds = help_of(path, tmp_path, "--help")
    assert seconds < 1
    forms = re.findall(r"^    ([a-z0-9-]+)(?: +\S|$)", text, re.MULTILINE) if "FORM" in text else []
    whole = "".join([text, *(help_of(path, tmp_path, form, "--help")[0] for form in forms)])
    if "--help-all" in text:
        assert text.count("\n") <= 40  # it fits on a screen
        everything, seconds = help_of(path, tmp_path, "--help-all")
        assert seconds < 1
        whole += everything
    assert options_of(path) <= set(re.findall(r"--[a-z][a-z-]*", whole))
    assert "None" not in whole
    assert "option_strings" not in whole  # a % that argparse took for its own


def test_commands_run_from_anywhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment: Mapping[str, str] = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, str(TOOLS / "info.py"), "--cfg", "x.cfg"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[yolo] head" in done.stdout
