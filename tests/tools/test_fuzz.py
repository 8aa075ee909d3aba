"""1,000 damaged files: a sentence comes out, or a model that works; never another exception."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cfgs import connected, conv, maxpool, net, plain, region, route, section, shortcut, upsample

from pruning.proof.verify import Proofs
from pruning.registry import FOLDS
from pruning.run.info import describe
from pruning.run.prune import prune
from pruning.session import Inputs
from pruning.spec import Percent, Ranking, Spec
from yolo.cfg import Cfg
from yolo.errors import DarknetError, ProofError, WeightsError
from yolo.models import randomize
from yolo.models.weights import save_weights
from yolo.network import Network

CFGS, WEIGHTS = 750, 250  # damaged files of each kind
SHARES = 10  # tests that they are spread over
SECONDS, BYTES = 2.0, 2**30  # that one file may take


NET = net(16, 16, batch=1).replace("batch", "# a comment\nbatch")
YOLO = "[yolo]\nmask = 0,1\nanchors = 1,2, 3,4, 5,6\nclasses=2\nnum=3\nscale_x_y=1.05\n"
BASES = {
    "residual": NET
    + conv(8)
    + conv(4, 1)
    + conv(8, activation="mish")
    + shortcut(-3)
    + maxpool()
    + conv(8, groups=8)
    + route(-1, -2)
    + plain(14)
    + YOLO,
    "csp": NET
    + conv(8, activation="swish")
    + route(-1, groups=2, group_id=1)
    + conv(4)
    + upsample()
    + maxpool(3)
    + "[route]\nlayers=-1, 0\n"
    + conv(8, groups=2)
    + "[local_avgpool]\nsize=2\nstride=2\n"
    + "[dropout]\nprobability=.5\n"
    + plain(14)
    + region(2, coords=4, softmax=1),
    "attention": NET
    + conv(6)
    + conv(6)
    + "[avgpool]\n"
    + conv(4, 1)
    + conv(6, 1, activation="logistic")
    + "[scale_channels]\nfrom=-4\n"
    + "[implicit]\nfilters=6\n"
    + "[scale_channels]\nfrom=-2\n"
    + conv(6, share_index=1, activation=None)
    + "[sam]\nfrom=0\nactivation=relu\n"
    + "[reorg3d]\nstride=2\n"
    + conv(6, activation="relu")
    + section(
        "shortcut", from_="-1,-2", weights_type="per_channel", weights_normalization="softmax"
    )
    + plain(24)
    + "[Gaussian_yolo]\nmask=1,2\nanchors=1,2, 3,4, 5,6\nclasses=3\nnum=3\n",
    "classifier": NET
    + "[crop]\ncrop_width=14\ncrop_height=14\n"
    + conv(8, dilation=1, stride_x=2)
    + "[lrn]\nsize=3\nalpha=.001\n"
    + "[batchnorm]\n"
    + "[local]\nfilters=3\nsize=3\nstride=2\npad=1\nactivation=elu\n"
    + "[activation]\nactivation=hardtan\n"
    + "[reorg]\nstride=1\n"
    + connected(12, batch_normalize=1, activation="relu")
    + connected(10)
    + "[softmax]\ngroups=2\ntemperature=2\n[cost]\ntype=sse\n",
}
BASES = {name: text.replace("\n[", "\n\n[") for name, text in BASES.items()}
BAD_NUMBERS = (
    *("0", "1", "2", "3", "5", "7", "8", "16", "31", "64", "1000", "30000", "32768", "65536"),
    *("-1", "-2", "-3", "-9", "-99999999", "99999999", "2147483647", "2147483648"),
    *("9223372036854775808", "1" * 400, "0.5", "1e3", "1e400", "nan", "inf", "0x10", "", "٣"),
)
SECTIONS = sorted(set(re.findall(r"\[(\w+)\]", "".join(BASES.values()))) | {"rnn", "detection"})
KEYS = sorted(set(re.findall(r"^(\w+) ?=", "".join(BASES.values()), re.M)) | {"padding", "reverse"})


def change_number(text: str, some: random.Random) -> str:
    matches = list(re.finditer(r"-?[0-9.]+", text))
    if not matches:
        return text
    match = some.choice(matches)
    return text[: match.start()] + some.choice(BAD_NUMBERS) + text[match.end() :]


def change_name(text: str, some: random.Random) -> str:
    pattern, names = some.choice(((r"(?<=\[)\w+(?=\])", SECTIONS), (r"(?m)^\w+(?= ?=)", KEYS)))
    matches = list(re.finditer(pattern, text))
    if not matches:
        return text
    match = some.choice(matches)
    return text[: match.start()] + some.choice(names) + text[match.end() :]


def on_lines(change: Callable[[list[str], int, random.Random], None]):
    def changed(text: str, some: random.Random) -> str:
        lines = text.split("\n")
        change(lines, some.randrange(len(lines)), some)
        return "\n".join(lines)

    return changed


def cut_off(text: str, some: random.Random) -> str:
    return text[: some.randrange(len(text) + 1)]


def add_option(lines: list[str], index: int, some: random.Random) -> None:
    lines.insert(index, f"{some.choice(KEYS)}={some.choice(BAD_NUMBERS)}")


def double_section(text: str, some: random.Random) -> str:
    parts = text.split("\n\n")
    parts.insert(some.randrange(len(parts) + 1), some.choice(parts))
    return "\n\n".join(parts)


CHANGES = (
    *(change_number,) * 5,
    change_name,
    on_lines(lambda lines, index, some: lines.pop(index)),
    on_lines(lambda lines, index, some: lines.insert(index, some.choice(lines))),
    on_lines(add_option),
    double_section,
    cut_off,
)


def flipped(content: bytes, some: random.Random, least: int = 0) -> bytes:
    """One to four bits flipped behind the first `least` bytes."""
    damaged = bytearray(content)
    for _ in range(some.randint(1, 4)):
        if len(damaged) > least:
            damaged[some.randrange(least, len(damaged))] ^= 1 << some.randrange(8)
    return bytes(damaged)


def damaged_cfg(text: str, some: random.Random) -> bytes:
    for _ in range(some.choice((1, 1, 1, 2, 3))):
        text = some.choice(CHANGES)(text, some)
    content = text.encode()
    return flipped(content, some) if some.random() < 0.15 else content


def damaged_weights(content: bytes, some: random.Random) -> bytes:
    kind = some.randrange(6)
    if kind == 0:
        return content[: some.randrange(len(content))]
    if kind == 1:
        return content + some.randbytes(some.choice((1, 4, 20, 400)))
    if kind == 2:
        return flipped(content[:20], some) + content[20:]
    if kind == 3:  # the exponents of a few floats
        damaged = bytearray(content)
        for _ in range(some.randint(1, 4)):
            damaged[20 + 4 * some.randrange((len(damaged) - 20) // 4) + 3] = some.randrange(256)
        return bytes(damaged)
    if kind == 4:
        start = 20 + 4 * some.randrange((len(content) - 20) // 4)
        return content[:start] + some.randbytes(4) + content[start + 4 :]
    return flipped(content, some, 20)


@contextlib.contextmanager
def bounded(what: str) -> Iterator[None]:
    """Fails for anything but a DarknetError, for a file that takes long, or much memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    start = time.process_time()
    try:
        yield
    except DarknetError as error:
        text = str(error)
        assert text, what
        assert text.isprintable(), f"{what}: {text!r}"
        assert len(text) < 1000, f"{what}: {text!r}"
    except Exception as error:
        raise AssertionError(what) from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - start < SECONDS, what


def use(cfg: Path, weights: str, some: random.Random) -> None:
    """Prune it in one way or another, and prove it."""
    strategy = some.choice(("normal", "regular", "shortcut", "shortcut"))
    percent = Percent(some.choice((0.0, 0.2, 0.4)))
    ranking = Ranking(group=some.choice(("first", "mean", "union")))
    spec = Spec(strategy, percent, ranking, fold=some.choice(list(FOLDS)))
    try:
        prune(Inputs(str(cfg), weights), spec, Proofs(("torch",)), runs=0)
    except ProofError as error:
        raise AssertionError("a proof failed") from error


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused at 8 GiB elsewhere is refused at 64 MiB here, so that a miss shows."""
    monkeypatch.setattr(randomize, "MOST_BYTES", 2**26)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    """The cfg text and the weights of every base."""
    folder, bases = tmp_path_factory.mktemp("bases"), {}
    for name, text in BASES.items():
        network = Network(Cfg(text.encode(), name))
        randomize.randomize(network, 0)
        save_weights(network, folder / name)
        bases[name] = text, (folder / name).read_bytes()
    return bases


@pytest.mark.parametrize("share", range(SHARES))
def test_damaged_cfgs(tmp_path: Path, models: dict[str, tuple[str, bytes]], share: int) -> None:
    for number in range(share, CFGS, SHARES):
        some = random.Random(number)
        text, content = models[some.choice(list(BASES))]
        cfg, weights = tmp_path / "x.cfg", tmp_path / "x.weights"
        cfg.write_bytes(damaged_cfg(text, some))
        weights.write_bytes(content)
        what = f"number {number}:\n{cfg.read_bytes().decode(errors='replace')}"
        with bounded(what):
            describe(str(cfg))
            try:
                use(cfg, str(weights), some)
            except WeightsError:
                use(cfg, "random:0", some)


@pytest.mark.parametrize("share", range(SHARES // 2))
def test_damaged_weights(tmp_path: Path, models: dict[str, tuple[str, bytes]], share: int) -> None:
    for number in range(share, WEIGHTS, SHARES // 2):
        some = random.Random(number)
        name = some.choice(list(BASES))
        text, content = models[name]
        cfg, weights = tmp_path / "x.cfg", tmp_path / "x.weights"
        cfg.write_text(text)
        weights.write_bytes(damaged_weights(content, some))
        with bounded(f"number {number}, {name}"):
            use(cfg, str(weights), some)
