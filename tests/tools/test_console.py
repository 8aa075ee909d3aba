"""The wheel, installed into an environment of its own outside the checkout."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from paths import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The darknet-pruning of a new environment that borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("a wheel is built from a git checkout")
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "data/", "weights/")):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    packages = next((folder / "env").glob("lib/python*/site-packages"))
    # behind the wheel's own packages, and without the editable install of this checkout
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin" / "darknet-pruning"


def run(command, *words, cwd):
    return subprocess.run([command, *words], cwd=cwd, capture_output=True, text=True)


def test_help_and_version(installed, tmp_path):
    done = run(installed, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (0, "darknet-pruning")
    assert "prune" in run(installed, "--help", cwd=tmp_path).stdout
    wrong = run(installed, "plant", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: plant: expected one of prune, train")
    shown = run(installed, "prune", "--help", cwd=tmp_path)
    assert shown.stdout.startswith("usage: darknet-pruning prune ")


def test_a_model_is_pruned_outside_the_checkout(installed, tmp_path):
    cfg = installed.parents[1] / "share" / "darknet-pruning" / "cfg" / "digits.cfg"
    assert {path.name for path in cfg.parent.iterdir()} == {
        path.name for path in (ROOT / "cfg").iterdir()
    }
    words = ["--cfg", str(cfg), "--weights", "random", "--verify", "torch", "--runs", "0"]
    done = run(installed, "prune", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pruned" / "digits-normal-0.5.cfg").exists()
    where = "import pruning; print(pruning.__file__)"
    module = run(installed.with_name("python"), "-c", where, cwd=tmp_path).stdout
    assert Path(module.strip()).is_relative_to(installed.parents[1])


@pytest.mark.parametrize(
    "name", ["train", "test", "detect", "info", "convert", "export", "compare"]
)
def test_every_command_is_there(installed, tmp_path, name):
    done = run(installed, name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: darknet-pruning {name} ")
