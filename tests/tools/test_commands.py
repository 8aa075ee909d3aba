"""The commands as a stranger meets them: bad input, full disks, closed pipes, Ctrl-C, --help."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from good_model import GOOD, check_refused, content, here, prune

from pruning import session
from pruning.cut.folding import Fold
from pruning.graph.channels import ChannelGraph
from pruning.run import prune as run
from yolo import files as yolo_files
from yolo.errors import ProofError
from yolo.network import Network

__all__ = ["here"]  # a fixture
BAD_CFGS: dict[str, tuple[str | Callable[[str], str], str]] = {
    "empty": ("", "no [net] section"),
    "blank": ("\n  \n# nothing\n", "no [net] section"),
    "text": ("width=3\n", "x.cfg:1: expected [net], found 'width=3'"),
    "no net": (GOOD[GOOD.index("[conv") :], "x.cfg:1: [convolutional] the first section must be"),
    "only net": (GOOD[: GOOD.index("[conv")], "x.cfg:1: [net] no layers after it"),
    "second net": (GOOD + "[net]\n", "x.cfg:38: [net] is a second [net] section"),
    "no width": (lambda text: text.replace("width=16\n", ""), "x.cfg:1: [net] width= is missing"),
    "unknown section": (
        lambda text: text.replace("[shortcut]", "[shortkut]"),
        "x.cfg:22: [shortkut] is not a known section type",
    ),
    "recurrent": (
        lambda text: text.replace("[shortcut]", "[lstm]"),
        "x.cfg:22: [lstm] is recurrent",
    ),
    "unknown activation": (
        lambda text: text.replace("=linear", "=sine", 1),
        "x.cfg:24: [shortcut] activation=sine: expected one of linear, leaky",
    ),
    "bad number": (
        lambda text: text.replace("filters=8", "filters=8x", 1),
        "x.cfg:8: [convolutional] filters=8x is not an integer",
    ),
    "no number": (
        lambda text: text.replace("filters=8", "filters=", 1),
        "x.cfg:8: [convolutional] filters has no value",
    ),
    "half a channel": (
        lambda text: text.replace("filters=8", "filters=7.5", 1),
        "x.cfg:8: [convolutional] filters=7.5 is not an integer",
    ),
    "no filters": (
        lambda text: text.replace("filters=8", "filters=0", 1),
        "x.cfg:8: [convolutional] filters=0: expected at least 1",
    ),
    "endless number": (
        lambda text: text.replace("filters=8", "filters=" + "8" * 10**6, 1),
        "x.cfg:8: [convolutional] filters=8888888888888888888888888888888888888... is not an",
    ),
    "millions of filters": (
        lambda text: text.replace("width=16\nheight=16", "width=1\nheight=1").replace(
            "filters=8", "filters=9999999", 1
        ),
        "[convolutional] makes an output of 9999999x1x1",
    ),
    "huge image": (lambda text: text.replace("=16", "=30000"), "x.cfg:1: [net] asks for an input"),
    "far from": (
        lambda text: text.replace("from=-2", "from=-40"),
        "x.cfg:23: [shortcut] from=-40 points before the first layer",
    ),
    "forward from": (
        lambda text: text.replace("from=-2", "from=3"),
        "x.cfg:23: [shortcut] from=3 points to a layer that comes later",
    ),
    "from itself": (
        lambda text: text.replace("from=-2", "from=2"),
        "x.cfg:23: [shortcut] from=2 points to a layer that comes later",
    ),
    "far layers": (
        lambda text: text.replace("[shortcut]\nfrom=-2", "[route]\nlayers=-1,-4"),
        "x.cfg:23: [route] layers=-4 points before the first layer",
    ),
    "forward layers": (
        lambda text: text.replace("[shortcut]\nfrom=-2", "[route]\nlayers=-1,99"),
        "x.cfg:23: [route] layers=99 points to a layer that comes later",
    ),
    "mask beyond anchors": (
        lambda text: text.replace("mask=0,1", "mask=0,3"),
        "x.cfg:34: [yolo] mask=0,3: anchor 3 is beyond the 3",
    ),
    "filters for other classes": (
        lambda text: text.replace("classes=1", "classes=2"),
        "x.cfg:33: [yolo] classes=2 with 2 anchors needs filters=14 before it, but gets 12",
    ),
}


def nan_in(content: bytes) -> bytes:
    return content[:20] + np.float32(np.nan).tobytes() + content[24:]


BAD_WEIGHTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda content: b"", "too short: it ends in the header"),
    "half a header": (lambda content: content[:15], "too short: it ends in the header"),
    "only a header": (lambda content: content[:20], "[convolutional] the file ends in its biases"),
    "one float less": (
        lambda content: content[:-4],
        "x.cfg:26: [convolutional] the file ends in its weights: 96 numbers expected, 95 left",
    ),
    "one byte less": (
        lambda content: content[:-1],
        "x.cfg:26: [convolutional] the file ends in its weights: 96 numbers expected, 95 left",
    ),
    "one float more": (lambda content: content + bytes(4), "too long: "),
    "one byte more": (
        lambda content: content + b"x",
        "too long: x.cfg:26: [convolutional] 1 bytes",
    ),
    "not finite": (nan_in, "x.cfg:6: [convolutional] not all of its biases are finite"),
}
BAD_ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "negative percent": (("--percent", "-0.1"), "percent -0.1: expected at least 0 and less than"),
    "percent 1": (("--percent", "1"), "percent 1: expected at least 0 and less than 1"),
    "percent in percent": (("--percent", "30"), "percent 30: expected at least 0 and less than 1"),
    "percent NaN": (("--percent", "nan"), "percent nan: expected at least 0 and less than 1"),
    "percent without number": (("--percent", "half"), "--percent: invalid float value: 'half'"),
    "percent beyond reach": (
        ("--percent", "0.95", "--strategy", "shortcut"),
        "percent 0.95 is out of reach: shortcut can cut 0.8",
    ),
    "unknown strategy": (("--strategy", "magic"), "--strategy: invalid choice: 'magic'"),
    "tiny with shortcuts": (
        ("--strategy", "tiny"),
        "x.cfg:22: [shortcut] strategy tiny is for networks without shortcuts",
    ),
    "unknown fold": (("--fold", "twice"), "--fold: invalid choice: 'twice'"),
    "unknown engine": (("--verify", "torch,caffe"), "--verify torch,caffe: expected some of torch"),
    "no engine": (("--verify", ""), "expected some of torch,opencv,onnxruntime"),
    "no Darknet there": (
        ("--verify", "torch,darknet", "--darknet", "/no/such/libdarknet.so"),
        "/no/such/libdarknet.so: no such file",
    ),
    "not a Darknet": (
        ("--verify", "torch,darknet", "--darknet", sys.executable),
        "neither a Darknet library nor a Darknet program",
    ),
    "section out of range": (("--spare", "5"), "--spare 5: sections are numbered from 0 to 4"),
    "section without number": (("--only", "first"), "expected section indices like 79,84"),
    "keep nothing": (("--keep-min", "0"), "keep-min 0: expected at least 1"),
    "round to nothing": (("--round", "0"), "--round 0: expected at least 1"),
    "points without images": (("--points", "11"), "--points 11: needs --data"),
    "minus one run": (("--runs", "-1"), "--runs -1: expected at least 0"),
    "no plan there": (("--plan", "no.json"), "no.json: can't read the pruning plan: no such file"),
    "unknown option": (("--colour", "red"), "unrecognized arguments: --colour red"),
    "random without seed": (("--weights", "random:x"), "random:x: expected random or random:SEED"),
    "no weights there": (
        ("--weights", "no.weights"),
        "no.weights: can't read the weights: no such",
    ),
    "weights are a directory": (("--weights", "."), ".: can't read the weights: is a directory"),
    "no cfg there": (("--cfg", "no.cfg"), "no.cfg: can't read the cfg: no such file"),
    "cfg is a directory": (("--cfg", "."), ".: can't read the cfg: is a directory"),
}
BAD_PLANS = {  # a plan, or what it says to keep
    "": "is not a pruning plan",
    "[1]": "is not a pruning plan",
    '{"keep": {"a": [1]}}': "is a damaged pruning plan",
    '{"keep": {"0": 5}}': "is a damaged pruning plan",
    '{"keep": {"77": [0]}}': "section 77 of 5 doesn't exist",
    '{"keep": {"0": []}}': "x.cfg:6: [convolutional] plan: ",
    '{"keep": {"0": [0, 99]}}': "x.cfg:6: [convolutional] plan: ",
    '{"keep": {"0": [0, 1], "1": [0, 2]}}': "tied to it keeps other channels",
    '{"keep": {"2": [0, 1]}}': "only filters can be cut",
    '{"keep": {"3": [0, 1]}}': "feeds a [yolo] head",
}


def test_it_writes_what_it_says(here: Path, command: CommandLine) -> None:
    ended = prune(command, "--save-plan", "plan.json", "--json", "report.json", "--name", "y")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("Written: out/y.cfg, .weights and .json\n")
    made = {"out", "out/y.cfg", "out/y.json", "out/y.weights", "plan.json", "report.json"}
    assert set(content(here)) == {"x.cfg", "x.weights"} | made
    assert Path("report.json").read_bytes() == Path("out/y.json").read_bytes()


def test_files_are_named_after_the_cut(here: Path, command: CommandLine) -> None:
    prune(command, "--strategy", "shortcut", "--percent", "0.25")
    assert {p.name for p in Path("out").iterdir()} == {
        f"x-shortcut-0.25.{kind}" for kind in ("cfg", "weights", "json")
    }


def test_made_up_weights_are_reported(here: Path, command: CommandLine) -> None:
    assert "weights are random" in prune(command, "--weights", "random:3").out
    assert "are random" not in prune(command).out


def test_nothing_to_cut_is_reported(here: Path, command: CommandLine) -> None:
    assert prune(command, "--percent", "0").out.startswith("Nothing is cut.\n")


def test_a_dry_run_writes_nothing(here: Path, command: CommandLine) -> None:
    before = content(here)
    ended = prune(command, "--dry-run")
    assert ended.code == 0
    assert "Dry run" in ended.out
    assert content(here) == before
    assert prune(command, "--dry-run", "--save-plan", "plan.json").code == 0
    assert content(here).keys() - before.keys() == {"plan.json"}


@pytest.mark.parametrize("tool", ["prune", "info"])
@pytest.mark.parametrize("name", BAD_CFGS)
def test_bad_cfgs(here: Path, command: CommandLine, name: str, tool: str) -> None:
    made, message = BAD_CFGS[name]
    Path("x.cfg").write_text(made(GOOD) if callable(made) else made)
    before = content(here)
    if tool == "prune":
        check_refused(prune(command, "--weights", "random"), message)
    else:
        check_refused(command.run("info", "--cfg", "x.cfg", "--json", "x.json"), message)
    assert content(here) == before


@pytest.mark.parametrize("tool", ["prune", "info"])
@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_bad_weights(here: Path, command: CommandLine, name: str, tool: str) -> None:
    made, message = BAD_WEIGHTS[name]
    Path("x.weights").write_bytes(made(Path("x.weights").read_bytes()))
    before = content(here)
    if tool == "prune":
        check_refused(prune(command), message)
    else:
        arguments = ("--cfg", "x.cfg", "--weights", "x.weights", "--json", "x.json")
        check_refused(command.run("info", *arguments), message)
    assert content(here) == before


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(here: Path, command: CommandLine, name: str) -> None:
    arguments, message = BAD_ARGUMENTS[name]
    before = content(here)
    check_refused(prune(command, *arguments), message)
    assert content(here) == before


@pytest.mark.parametrize("plan", BAD_PLANS)
def test_bad_plans(here: Path, command: CommandLine, plan: str) -> None:
    head = '{"kind": "pruning plan", "schema": 2, "strategy": "x", "percent": 0.5, "k'
    Path("plan.json").write_text(plan.replace('{"k', head, 1))
    before = content(here)
    check_refused(prune(command, "--plan", "plan.json"), BAD_PLANS[plan])
    assert content(here) == before


def test_weights_that_overflow(here: Path, command: CommandLine) -> None:
    """Finite numbers, but not finite outputs: there is nothing to compare."""
    content_ = Path("x.weights").read_bytes()
    Path("x.weights").write_bytes(content_[:20] + np.full(8, 3e38, "<f4").tobytes() + content_[52:])
    before = content(here)
    check_refused(prune(command), "[convolutional] gives numbers that are not finite")
    assert content(here) == before


def test_a_backbone_is_not_a_model(here: Path, command: CommandLine) -> None:
    os.rename("x.weights", "x.conv.2")
    content_ = Path("x.conv.2").read_bytes()
    Path("x.conv.2").write_bytes(content_[: 20 + 4 * (4 * 8 + 216 + 4 * 8 + 576)])
    check_refused(
        prune(command, "--weights", "x.conv.2"), "x.conv.2: holds only a backbone: x.cfg:26"
    )
    assert command.run("info", "--cfg", "x.cfg", "--weights", "x.conv.2").code == 0


@pytest.mark.parametrize("option", ["--out", "--json", "--save-plan"])
def test_a_file_in_place_of_a_folder(here: Path, command: CommandLine, option: str) -> None:
    Path("file").write_text("mine")
    before = content(here)
    target = "file" if option == "--out" else "file/x.json"
    check_refused(prune(command, option, target), "file is not a directory")
    assert content(here) == before


@pytest.mark.parametrize("option", ["--json", "--save-plan"])
def test_a_folder_in_place_of_a_file(here: Path, command: CommandLine, option: str) -> None:
    Path("folder").mkdir()
    check_refused(prune(command, option, "folder"), "folder: can't write: it is a directory")
    assert set(content(here)) == {"folder", "x.cfg", "x.weights"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(here: Path, command: CommandLine) -> None:
    Path("out").mkdir(0o555)
    check_refused(prune(command), "can't write: permission denied")
    assert not list(Path("out").iterdir())


def test_its_own_input_is_not_overwritten(here: Path, command: CommandLine) -> None:
    before = content(here)
    check_refused(prune(command, "--out", ".", "--name", "x"), "x.cfg: is read here")
    check_refused(prune(command, "--json", "x.weights"), "x.weights: is read here")
    assert content(here) == before


def test_earlier_results_survive_a_failure(
    here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune(command)
    before = content(here)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(yolo_files.os, "fsync", full)
    check_refused(prune(command), "can't write: no space left on device")
    assert content(here) == before


def test_a_failed_proof_writes_nothing(
    here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ProofError("x.cfg: the smaller network differs from the masked one by 0.5")

    before = content(here)
    monkeypatch.setattr(run, "prove_cut", failing)
    ended = prune(command, "--save-plan", "plan.json", "--json", "report.json")
    check_refused(ended, "differs from the masked one", 1, "failed")
    assert content(here) == before


def test_a_cut_gone_wrong_fails_its_proof(
    here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the message: a wrong weight in the smaller model is found."""
    compact_network = session.compact_network

    def wrong(graph: ChannelGraph, fold: Fold) -> Network:
        network = compact_network(graph, fold)
        network.state()[3]["weights"].mul_(1.001)
        return network

    before = content(here)
    monkeypatch.setattr(session, "compact_network", wrong)
    ended = prune(command)
    check_refused(ended, "[convolutional] its weights are off by 1.0e-03", 1, "failed")
    assert content(here) == before


def test_ctrl_c(here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = content(here)
    monkeypatch.setattr(run, "prove_cut", interrupted)
    check_refused(prune(command), "no file is left half-written", 130, "interrupted")
    assert content(here) == before


def test_too_little_memory(
    here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(run, "prove_cut", failing)
    check_refused(prune(command), "out of memory")
