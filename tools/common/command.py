"""The common part of all commands: errors as one line, exit codes, help, progress."""

from __future__ import annotations

import argparse
import copy
import gc
import io
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# commands run from a checkout without installation
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from yolo.errors import DarknetError, ProofError
from yolo.registry import Entry

# torch's import and a network's objects live on: looking through them again and again takes a
# tenth of a short command
gc.set_threshold(50_000, 20, 20)
NAME = "darknet-pruning"  # of the installed command
# a wheel puts these files into share/darknet-pruning/tools/common
_INSTALLED = Path(__file__).resolve().parts[-5:-2] == ("share", NAME, "tools")
DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit: 0 done, 1 a check failed, 2 wrong input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main() or DONE
        if sys.stdout:
            sys.stdout.flush()
    except ProofError as error:
        code = _fail("failed", str(error), FAILED)
    except DarknetError as error:
        code = _fail("error", str(error), WRONG)
    except KeyboardInterrupt:
        code = _fail("interrupted", "no file is left half-written", INTERRUPTED)
    except BrokenPipeError:
        # whoever read our output has gone; so has any use for an error message
        _drop_output()
        code = DONE
    except OSError as error:
        _drop_output()
        code = _fail("error", f"can't write the output: {error.strerror or error}", WRONG)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        code = _fail("error", "out of memory", WRONG)
    sys.exit(code)


def _drop_output() -> None:
    """Let what is still to be flushed go nowhere, so that Python doesn't complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(kind: str, message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"{kind}: {line}", file=sys.stderr)
    return code


def program(name: str) -> str:
    """The words that start a command of ours, for messages."""
    return f"{NAME} {name}" if _INSTALLED else f"python tools/{name}.py"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help fits on a screen.

    `everyday` are the options that --help shows, with a few words on each, `example` a command
    line; --help-all has all options. Without `everyday` --help is all there is.
    """

    def __init__(
        self,
        *,
        everyday: Mapping[str, str] | None = None,
        example: str = "",
        description: str | None = None,
        epilog: str | None = None,
        **more: Any,
    ) -> None:
        more.setdefault("formatter_class", Help)
        if _INSTALLED:
            more.setdefault("prog", f"{NAME} {Path(sys.argv[0]).stem}")
        super().__init__(description=description, epilog=epilog, add_help=False, **more)
        self.everyday, self.example = everyday, example
        self.add_argument("-h", "--help", action=_ShowHelp, nargs=0, help="show this and exit")
        if everyday:
            self.add_argument("--help-all", action=_ShowHelp, nargs=0, help="show every option")

    def error(self, message: str) -> None:  # type: ignore[override]
        sys.exit(_fail("error", f"{message} (see --help)", WRONG))

    def brief(self) -> str:
        """The help of the everyday options."""
        assert self.everyday
        chosen = [a for a in self._actions if a.dest in self.everyday or a.dest.startswith("help")]
        actions = [copy.copy(action) for action in chosen]
        for action in actions:
            action.help = self.everyday.get(action.dest, action.help)
            action.default = None  # said in words where it matters
            action.metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else None)
        formatter = self._get_formatter()
        needed = " ".join(
            f"{a.option_strings[0]} {a.metavar}" for a in actions if a.required and a.option_strings
        )
        positional = " ".join(str(a.metavar) for a in actions if not a.option_strings)
        usage = " ".join(filter(None, ("%(prog)s", needed, "[options]", positional)))
        formatter.add_usage(usage, [], [])
        formatter.add_text(self.description)
        formatter.start_section("options")
        formatter.add_arguments(actions)
        formatter.end_section()
        return formatter.format_help() + (f"\nexample: {self.example}\n" if self.example else "")


class _ShowHelp(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        everyday = parser.everyday and option != "--help-all"
        parser._print_message(parser.brief() if everyday else parser.format_help(), sys.stdout)
        parser.exit()


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help of 100 columns that shows the defaults which say something."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(100, _columns()))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, (), argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


def _columns() -> int:
    return max(shutil.get_terminal_size((100, 24)).columns, 60)


def sections(text: str) -> tuple[int, ...]:
    """79,84 → (79, 84)"""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected section indices like 79,84") from None


def size(text: str) -> tuple[int, int]:
    """320x256 → (320, 256), width and height"""
    width, x, height = text.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size like 416x416")
    return int(width), int(height)


def check_outputs(outputs: Sequence[Path], inputs: Sequence[str | None]) -> None:
    """Say before the work what can't be written: two files in one place, or over an input."""
    from yolo.files import check_distinct, check_writable

    check_distinct(outputs)
    for output in outputs:
        check_writable(output)
        for source in inputs:
            if source and output.exists() and Path(source).exists() and output.samefile(source):
                raise DarknetError(f"{output}: is read here, so it isn't written")


def listed(entries: Mapping[str, Entry]) -> str:
    """Choices with their sentences, for --help."""
    sentences = (f"{name}: {entry.text}" for name, entry in entries.items())
    return "; ".join(sentences).replace("%", "%%")


class Steps:
    """Says on stderr what is going on, and for how long; only on a terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            bar_format="{desc} … {elapsed}", leave=False, disable=not sys.stderr.isatty()
        )

    def __call__(self, step: str) -> None:
        self._bar.set_description_str(step)
        self._bar.refresh()

    def clear(self) -> None:
        """Leave the terminal to others until the next step."""
        self._bar.clear()

    def close(self) -> None:
        self._bar.close()
