"""Every section type against Darknet itself, through the oracle that lies beside the project.

Its own random weights must compute the same here in every section, and ours must survive it.
"""

import functools
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import net
from networks import build, random_input
from oracle import ORACLE, ask

from yolo.cfg import Cfg
from yolo.layers import registered
from yolo.layers.activations import ACROSS_CHANNELS, ACTIVATIONS
from yolo.models.weights import load_weights, save_weights
from yolo.network import Network

TOLERANCE = 1e-5  # relative, in L2: rounding noise is about 1e-6
BATCH = 2

NET = net(12, 8)
BN = "[convolutional]\nbatch_normalize=1\nsize=3\npad=1\nactivation=leaky\nfilters="
CONV = "[convolutional]\nsize=1\nactivation=linear\nfilters="
POOLED = CONV + "6\n[avgpool]\n"

# AlexeyAB's activate() gives 0 for these: relu6 everywhere, the others outside convolutions
ALWAYS_ZERO = {"relu6"}
ZERO_OUTSIDE = {"swish", "mish", "hard_mish"} | ALWAYS_ZERO
IN_CONVOLUTIONS = sorted(set(ACTIVATIONS) - ALWAYS_ZERO)
ELSEWHERE = sorted(set(ACTIVATIONS) - ZERO_OUTSIDE - ACROSS_CHANNELS)
IN_SHORTCUTS = sorted({*ELSEWHERE, "swish", "mish"})
# Debian's Darknet knows fewer, and calculates its logistic in double precision
AT_DEBIAN = sorted({*ELSEWHERE} - {"gelu", "revleaky"})


def each(names, section):
    """A section for every activation, all fed by the first section."""
    return BN + "6\n" + "".join(f"[route]\nlayers=0\n{section}activation={n}\n" for n in names)


# what both can run, then what only AlexeyAB's can
BOTH = {
    "convolutional": BN
    + "8\n[convolutional]\nfilters=6\ngroups=2\nsize=3\nstride=2\npadding=2\nactivation=relu\n"
    + "[convolutional]\nbatch_normalize=1\nfilters=6\ngroups=6\nsize=3\npad=1\nactivation=elu\n"
    + "[convolutional]\nfilters=4\nsize=5\npad=1\n[convolutional]\n",
    "convolutional, activations": each(AT_DEBIAN, "[convolutional]\nfilters=4\n"),
    "activation": each(AT_DEBIAN, "[activation]\n"),
    "connected": BN
    + "6\n[connected]\noutput=7\nbatch_normalize=1\nactivation=leaky\n"
    + "[connected]\noutput=5\nactivation=linear\n[connected]\noutput=3\n",
    "connected, activations": each(AT_DEBIAN, "[connected]\noutput=5\n"),
    "maxpool": "".join(
        f"{BN}5\n[maxpool]\n{options}"
        for options in (
            "size=2\nstride=1\n",
            "size=5\nstride=1\n",
            "size=13\nstride=1\n",
            "size=3\nstride=2\npadding=1\n",
            "size=2\nstride=2\n",
            "stride=2\n",
        )
    ),
    "avgpool": BN + "6\n[avgpool]\n",
    "route": f"{BN}4\n{BN}6\n[route]\nlayers=-1,0\n[route]\nlayers=-2\n[route]\nlayers=2,-1,0\n",
    "shortcut": f"{BN}6\n{BN}6\n[shortcut]\nfrom=-2\nactivation=leaky\n[shortcut]\nfrom=0\n",
    "upsample": BN + "4\n[upsample]\n[upsample]\nstride=3\nscale=0.5\n",
    "reorg": BN + "8\n[reorg]\nstride=2\n[reorg]\nstride=2\nreverse=1\n",
    "crop": "[crop]\ncrop_width=7\ncrop_height=6\n" + BN + "4\n",
    "crop, noadjust": "[crop]\ncrop_width=6\ncrop_height=7\nnoadjust=1\n" + BN + "4\n",
    "normalization": BN
    + "9\n[normalization]\n"
    + "[normalization]\nsize=4\nalpha=0.02\nbeta=0.5\nkappa=3\n[lrn]\nsize=1\nkappa=2\n",
    # Debian's [local] asks for a quarter of the workspace that it fills: a convolution asks first
    "local": f"{BN}16\n{BN}4\n"
    + "[local]\nfilters=3\nsize=3\npad=1\nactivation=leaky\n[local]\nfilters=2\nsize=2\n"
    + "stride=2\nactivation=linear\n",
    "dropout": BN + "6\n[dropout]\nprobability=.7\n" + BN + "6\n",
    "softmax": POOLED + "[softmax]\ngroups=2\n",
    "softmax, temperature": POOLED + "[softmax]\ntemperature=2.5\n[cost]\ntype=sse\n",
    "cost": BN + "6\n[connected]\noutput=4\nactivation=linear\n[cost]\n",
    "detection": "[connected]\noutput=153\nactivation=linear\n"
    "[detection]\ncoords=4\nclasses=7\nnum=2\nside=3\nsoftmax=1\nsqrt=1\n",
    "yolo": CONV + "14\n[yolo]\nclasses=2\nnum=3\nmask=2,0\nanchors=1,2, 3,4, 5,6\n",
}
ALEXEY = {
    "batchnorm": CONV + "6\n[batchnorm]\n[batchnorm]\n",  # Debian's crashes
    "convolutional, more": BN
    + "8\n[convolutional]\nfilters=8\nsize=3\npad=1\ndilation=2\nactivation=linear\n"
    + "[convolutional]\nfilters=8\nsize=3\npad=1\nstride_y=2\nactivation=linear\n"
    + "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nstride_x=3\nactivation=mish\n"
    + "[convolutional]\ncbn=1\nfilters=8\nsize=3\npad=1\nactivation=swish\n",
    "convolutional, share_index": f"{BN}6\n{BN}6\n{BN}6\nshare_index=1\nstride=2\n{BN}6\n"
    + f"share_index=-1\n{CONV}6\n{CONV}6\nshare_index=-1\n",
    "convolutional, all activations": each(IN_CONVOLUTIONS, "[convolutional]\nfilters=4\n"),
    "activation, all": each(ELSEWHERE, "[activation]\n"),
    "maxpool, more": f"{BN}5\n[maxpool]\nsize=3\nstride_x=2\nstride_y=1\n{BN}5\n"
    + "[maxpool]\nmaxpool_depth=1\nout_channels=2\n",
    "local_avgpool": f"{BN}5\n[local_avgpool]\nsize=3\nstride=2\n{BN}5\n"
    + "[local_avgpool]\nsize=2\nstride_x=1\nstride_y=2\npadding=0\n[local_avgpool]\nsize=5\n",
    "route, groups": f"{BN}4\n{BN}8\n[route]\nlayers=-1,0\ngroups=2\ngroup_id=1\n"
    + "[route]\nlayers=1\ngroups=4\ngroup_id=2\n",
    "shortcut, several": f"{BN}6\n{BN}6\n{BN}6\n[shortcut]\nfrom=-2,0\nactivation=mish\n",
    "shortcut, activations": each(IN_SHORTCUTS, "[shortcut]\nfrom=0\n"),
    "shortcut, unequal": f"{BN}6\n{BN}4\n[shortcut]\nfrom=-2\n{BN}7\n[shortcut]\nfrom=2,0\n",
    "scale_channels": f"{POOLED}[scale_channels]\nfrom=0\nactivation=leaky\n"
    + f"{CONV}1\n[scale_channels]\nfrom=0\nscale_wh=1\n",
    "sam": f"{BN}6\n{BN}6\n[sam]\nfrom=0\nactivation=logistic\n[sam]\nfrom=-2\n",
    "reorg3d": BN + "16\n[reorg3d]\nstride=2\n[reorg3d]\nstride=2\nreverse=1\n",
    "implicit": CONV + "6\n[implicit]\nfilters=6\n[scale_channels]\nfrom=0\n[implicit]\natoms=3\n",
    "region": CONV + "16\n[region]\nclasses=3\nnum=2\nsoftmax=1\nanchors=1,2, 3,4\n",
    "region, logits": CONV + "16\n[region]\nclasses=3\nnum=2\nanchors=1,2, 3,4\n",
    "yolo, scale_x_y": CONV + "7\n[yolo]\nclasses=2\nanchors=1,2\nscale_x_y=1.2\n",
    "yolo, new_coords": CONV + "7\n[yolo]\nclasses=2\nanchors=1,2\nscale_x_y=2\nnew_coords=1\n",
    "Gaussian_yolo": CONV
    + "22\n[Gaussian_yolo]\nclasses=2\nnum=2\nanchors=1,2, 3,4\nscale_x_y=1.1\n",
}
ALEXEY |= {
    f"shortcut, {kind} {how}": f"{BN}6\n{BN}6\n{BN}6\n[shortcut]\nfrom=-2,0\nweights_type={kind}\n"
    + f"weights_normalization={how}\n"
    for kind in ("per_feature", "per_channel")
    for how in ("relu", "softmax")
}
CASES = [("debian", name) for name in BOTH] + [("alexey", name) for name in BOTH | ALEXEY]

# Each net is randomised by Darknet, then given our weights; both times all outputs are kept.
WORKER = """
import sys, numpy, refnet
flavour, folder, batch, *names = sys.argv[1:]
for name in names:
    path, x = f"{folder}/{name}", numpy.load(f"{folder}/{name}.npy")
    for which in ("theirs", "ours"):
        weights = f"{path}.ours.weights" if which == "ours" else None
        net = refnet.DarknetRef(flavour, f"{path}.cfg", weights, batch=int(batch))
        if which == "theirs":
            net.randomize(0)
        net.save(f"{path}.{which}.saved")
        net.forward(x)
        numpy.savez(f"{path}.{which}.npz", *(net.output(i) for i in range(net.count)))
    print(name, flush=True)
"""


def test_every_type_is_compared_with_darknet():
    """But for those that it doesn't know: test_portable has them in its sections."""
    plain = {name for name, kind in registered().items() if kind.in_darknet}
    assert {name.split(",")[0] for name in BOTH | ALEXEY} == plain


def library(flavour):
    """Skip the test where Darknet isn't there."""
    if not ORACLE.is_dir():
        pytest.skip("needs the folder ../shared with the oracle")
    if not shutil.which("cc"):
        pytest.skip("needs cc, a C compiler")
    spec = importlib.util.spec_from_file_location("refnet", ORACLE / "refnet.py")
    refnet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refnet)
    if flavour == "debian" and not Path(refnet.DEBIAN_LIB).exists():
        pytest.skip("needs Debian's package darknet")
    if flavour == "alexey" and not Path(refnet.ALEXEY_LIB or "missing").is_file():
        pytest.skip("needs a build of AlexeyAB's Darknet: ALEXEY_LIB and ALEXEY_INCLUDE")


def file_name(name):
    return name.replace(", ", "-").replace(" ", "-")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """flavour → the folder with Darknet's answers to all its cases; a crash loses only one."""

    @functools.cache
    def answer(flavour):
        folder = tmp_path_factory.mktemp(flavour)
        waiting = [name for case_flavour, name in CASES if case_flavour == flavour]
        for name in waiting:
            network = build(NET + (BOTH | ALEXEY)[name], seed=3)
            path = folder / file_name(name)
            network.cfg.write(path.with_suffix(".cfg"))
            save_weights(network, f"{path}.ours.weights")
            np.save(f"{path}.npy", random_input(network, BATCH).sigmoid().numpy())
        names = [file_name(name) for name in waiting]
        ask(WORKER, [flavour, str(folder), str(BATCH)], folder, names)
        return folder

    return answer


def aligned_with_debian(network):
    """Debian divides by sqrt(v) + 1e-6, AlexeyAB and we by sqrt(v + 1e-5)."""
    for layer in network.layers:
        bn = getattr(layer, "bn", None)
        if bn is not None:
            variance = (bn.running_var.double().sqrt() + 1e-6) ** 2 - 1e-5
            bn.running_var = variance.float()


@pytest.mark.parametrize("which", ["theirs", "ours"])
@pytest.mark.parametrize(("flavour", "name"), CASES)
def test_every_output_is_darknets(flavour, name, which, answers, tmp_path):
    library(flavour)
    path = answers(flavour) / file_name(name)
    crashed = Path(f"{path}.crashed")
    assert not crashed.exists(), crashed.read_text()

    network = Network(Cfg.load(f"{path}.cfg"))
    header = load_weights(network, f"{path}.{which}.saved")
    save_weights(network, tmp_path / "again.weights", header)
    saved = Path(f"{path}.{which}.saved").read_bytes()
    assert (tmp_path / "again.weights").read_bytes() == saved
    if which == "ours":
        assert saved[20:] == Path(f"{path}.ours.weights").read_bytes()[20:]

    if flavour == "debian":
        aligned_with_debian(network)
    with torch.no_grad():
        computed = network(torch.from_numpy(np.load(f"{path}.npy")), range(len(network.layers)))
    with np.load(f"{path}.{which}.npz") as outputs:
        for i, layer in enumerate(network.layers):
            if layer.section.type == "cost":
                continue  # holds the loss in Darknet
            expected = outputs[f"arr_{i}"].reshape(computed[i].shape)
            difference = np.linalg.norm(computed[i].detach().numpy() - expected)
            size = np.linalg.norm(expected)
            assert size > 0, f"layer {i} {layer.section}"
            assert difference <= TOLERANCE * size, f"layer {i} {layer.section}"
