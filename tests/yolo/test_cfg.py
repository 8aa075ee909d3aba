"""The cfg document: every byte survives, edits touch only their lines, errors say where."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT, SHARED

from yolo.cfg import Cfg
from yolo.errors import CfgError, DarknetError
from yolo.network import Network

CFGS = sorted([*ROOT.glob("cfg/*.cfg"), *SHARED.glob("data/models/*.cfg")])

blanks = st.text(" \t", max_size=2)
keys = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=2, max_size=6)
values = st.text("0123456789abcdf.,-", min_size=1, max_size=8)
names = st.sampled_from(["convolutional", "conv", "route", "yolo", "nobody_knows_it"])
comments = st.binary(max_size=8).map(lambda b: b"#" + b.replace(b"\n", b""))
noise = st.lists(
    st.one_of(blanks.map(str.encode), comments, comments.map(b"  ".__add__)), max_size=2
)


@st.composite
def documents(draw):
    """A document with all that Darknet tolerates, and what Darknet reads in it."""
    lines = draw(noise)
    sections = []
    for name in ["net", *draw(st.lists(names, max_size=3))]:
        lines += [(draw(blanks) + f"[{name}]" + draw(blanks)).encode(), *draw(noise)]
        options = {}
        for key, value in draw(st.lists(st.tuples(keys, values), max_size=4)):
            spaced = (draw(blanks), key, draw(blanks), "=", draw(blanks), value, draw(blanks))
            lines += ["".join(spaced).encode(), *draw(noise)]
            options.setdefault(key, value)
        sections.append((name, options))
    ending = st.sampled_from([b"\n", b"\r\n"])
    content = b"".join(line + draw(ending) for line in lines)
    return content if draw(st.booleans()) else content.rstrip(b"\r\n"), sections


def read(cfg):
    """[(section, {key: value})] as the document gives them."""
    return [(s.name, {key: s.text(key) for key in s.options}) for s in cfg.sections]


@given(documents())
def test_an_unedited_document_keeps_every_byte(document):
    content, sections = document
    cfg = Cfg(content)
    assert cfg.to_bytes() == content
    assert read(cfg) == sections


@given(st.binary(max_size=60))
def test_any_bytes_either_survive_or_are_refused(content):
    try:
        cfg = Cfg(b"[net]\n" + content)
    except CfgError:
        return
    assert cfg.to_bytes() == b"[net]\n" + content


@given(documents(), st.data())
def test_an_edit_changes_its_line_and_no_other(document, data):
    content, sections = document
    index = data.draw(st.integers(0, len(sections) - 1))
    if not sections[index][1]:
        return
    key = data.draw(st.sampled_from(sorted(sections[index][1])))
    before = content.split(b"\n")
    edited = Cfg(content).edited({index - 1: {key: 7}})
    after = edited.to_bytes().split(b"\n")
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    sections[index][1][key] = "7"
    assert read(edited) == sections
    assert len(changed) <= 1
    for i in changed:
        assert after[i] == f"{key}=7".encode() + (b"\r" if before[i].endswith(b"\r") else b"")


@given(documents())
def test_strict_documents_suit_the_strictest_parser(document):
    content, sections = document
    strict = Cfg(content).strict()
    assert read(strict) == sections
    lines = strict.to_bytes().split(b"\n")
    wanted = [f"[{name}]" for name, _ in sections]
    wanted += [f"{key}={value}" for _, options in sections for key, value in options.items()]
    bare = [line for line in lines if line.strip() and line.strip()[:1] != b"#"]
    # a blank hides a key from Darknet 5
    assert sorted(line.decode().replace(" ", "") for line in bare) == sorted(wanted)
    assert not any(line.endswith(b"\r") for line in lines)


def test_strict_keeps_comments_and_the_bytes_of_values():
    text = "# a \xe9\r\n\r\n[ net ]\r\nwidth = 8\r\nwidth=9\r\nlonely\r\n"
    text += "[yolo]\r\n anchors = 1,2,  3,4"
    wanted = "# a \xe9\n\n[net]\nwidth=8\n[yolo]\nanchors=1,2,  3,4"
    assert Cfg(text.encode("latin-1")).strict().to_bytes() == wanted.encode("latin-1")


@pytest.mark.parametrize("path", CFGS, ids=lambda path: path.stem)
def test_real_cfgs_survive_reading_and_make_a_network(path: Path):
    cfg = Cfg.load(path)
    assert cfg.to_bytes() == path.read_bytes()
    network = Network(cfg)
    assert len(network.layers) == len(cfg.layers)


def test_new_keys_follow_their_header_in_order():
    cfg = Cfg(b"[net]\r\nwidth=8\r\n[yolo]")
    edited = cfg.edited({-1: {"height": 4, "batch": 1}, 0: {"classes": 2}})
    assert edited.to_bytes() == b"[net]\r\nheight=4\r\nbatch=1\r\nwidth=8\r\n[yolo]\nclasses=2"
    assert cfg.to_bytes() == b"[net]\r\nwidth=8\r\n[yolo]"


def test_the_first_of_two_equal_keys_counts_and_is_edited():
    cfg = Cfg(b"[net]\nwidth=8\nwidth=9\n")
    assert cfg.net.integer("width") == 8
    assert cfg.edited({-1: {"width": 5}}).to_bytes() == b"[net]\nwidth=5\nwidth=9\n"


def test_appended_sections_come_last():
    for content in (b"[net]\nwidth=8", b"[net]\nwidth=8\n"):
        cfg = Cfg(content).appended("[yolo]\nclasses=3\n")
        assert cfg.to_bytes().startswith(content)
        assert [(s.name, s.index) for s in cfg.sections] == [("net", -1), ("yolo", 0)]
        assert cfg.layers[0].integer("classes") == 3


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("network", "net"),
        ("conv", "convolutional"),
        ("conn", "connected"),
        ("max", "maxpool"),
        ("local_avg", "local_avgpool"),
        ("avg", "avgpool"),
        ("lrn", "normalization"),
        ("soft", "softmax"),
    ],
)
def test_darknets_second_names(name, type_):
    text = f"[{name}]" if type_ == "net" else f"[net]\n[{name}]"
    cfg = Cfg(text.encode())
    assert cfg.sections[-1].type == type_
    assert cfg.sections[-1].name == name


def test_typed_values():
    section = Cfg(b"[net]\na=4\nb=4.0\nc=-.5e1\nd=1, 2,-3,\ne=.5,1e2\nf=relu#why\ng=0\n").net
    assert (section.integer("a"), section.integer("b"), section.number("c")) == (4, 4, -5.0)
    assert (section.integers("d"), section.numbers("e")) == ((1, 2, -3), (0.5, 100.0))
    assert section.text("f") == "relu"
    assert section.choice("f", "linear", {"linear": 0, "relu": 1}) == 1
    assert (section.flag("a"), section.flag("g"), section.flag("z")) == (True, False, False)
    assert section.integer("z", 3) == 3
    assert section.integers("z", (3,)) == (3,)
    assert section.number("z", 0.25) == 0.25
    assert section.numbers("z", ()) == ()
    assert section.choice("z", "linear", {"linear": 0, "relu": 1}) == 0


WRONG_VALUES = {
    "integer": ("4x", lambda s: s.integer("k"), "k=4x is not an integer"),
    "fraction": ("4.5", lambda s: s.integer("k"), "k=4.5 is not an integer"),
    "digits of another script": ("\u0664", lambda s: s.integer("k"), "is not an integer"),
    "too small": ("0", lambda s: s.integer("k", 1, 1), "k=0: expected at least 1"),
    "too large": ("9", lambda s: s.integer("k", 1, 1, 8), "k=9: expected at most 8"),
    "beyond int": ("99999999999", lambda s: s.integer("k"), "k=99999999999: expected at most"),
    "number": ("1.2.3", lambda s: s.number("k"), "k=1.2.3 is not a finite number"),
    "underscore": ("1_0", lambda s: s.number("k"), "k=1_0 is not a finite number"),
    "not finite": ("inf", lambda s: s.number("k"), "k=inf is not a finite number"),
    "overflow": ("1e999", lambda s: s.number("k"), "k=1e999 is not a finite number"),
    "list": ("1,,2", lambda s: s.integers("k"), "k= is not an integer"),
    "numbers": ("1,x", lambda s: s.numbers("k"), "k=x is not a finite number"),
    "choice": ("c", lambda s: s.choice("k", "a", {"a": 1, "b": 2}), "k=c: expected one of a, b"),
    "empty": ("", lambda s: s.integer("k", 1), "k has no value"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_line(case):
    value, look_up, message = WRONG_VALUES[case]
    section = Cfg(f"[net]\n\n[yolo]\n# note\nk={value}\n".encode(), "a/x.cfg").layers[0]
    with pytest.raises(CfgError) as error:
        look_up(section)
    assert str(error.value).startswith("a/x.cfg:5: [yolo] ")
    assert message in str(error.value)


def test_a_missing_value_is_named_with_its_section():
    section = Cfg(b"[net]\n\n[yolo]\nlonely\n", "x.cfg").layers[0]
    for look_up in (section.integer, section.integers, section.number, section.numbers):
        with pytest.raises(CfgError, match=r"^x\.cfg:3: \[yolo\] k= is missing$"):
            look_up("k")
    with pytest.raises(CfgError, match=r"^x\.cfg:4: \[yolo\] lonely has no value$"):
        section.text("lonely")


NET = "[net]\nwidth=8\nheight=6\nchannels=4\n"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=linear\n"  # lines 5 to 9
YOLO = "[yolo]\nclasses=1\nnum=2\nanchors=1,2, 3,4\n"
ERRORS = {
    "empty": ("", "x.cfg: no [net] section"),
    "comments only": ("# nothing\n\n", "x.cfg: no [net] section"),
    "no net": (CONV, "x.cfg:1: [convolutional] the first section must be [net]"),
    "text before": ("width=8\n" + NET, "x.cfg:1: expected [net], found 'width=8'"),
    "binary": ("\x00\x01\x02", "x.cfg: no [net] section"),
    "broken header": (NET + "[yolo\n", "x.cfg:5: expected [section], found '[yolo'"),
    "second net": (NET + CONV + "[network]\n", "x.cfg:10: [network] is a second [net] section"),
    "no layers": (NET, "x.cfg:1: [net] no layers after it"),
    "no channels": ("[net]\nwidth=8\nheight=8\n" + CONV, "x.cfg:1: [net] channels= is missing"),
    "no width": ("[net]\nwidth=0\nheight=8\nchannels=3\n" + CONV, "x.cfg:2: [net] width=0"),
    "huge": ("[net]\nwidth=32768\nheight=32768\nchannels=3\n" + CONV, "x.cfg:1: [net] asks for"),
    "unknown section": (NET + "[capsule]\n", "x.cfg:5: [capsule] is not a known section type"),
    "bad number": (NET + "[conv]\nfilters=x\n", "x.cfg:6: [conv] filters=x is not an integer"),
    "activation": (
        NET + "[conv]\nactivation=relu7\n",
        "x.cfg:6: [conv] activation=relu7: expected",
    ),
    "mixing": (
        NET + "[activation]\nactivation=normalize_channels\n",
        "x.cfg:6: [activation] activation=normalize_channels: expected",
    ),
    "from before": (NET + CONV + "[shortcut]\nfrom=-3\n", "x.cfg:11: [shortcut] from=-3 points be"),
    "from itself": (NET + CONV + "[shortcut]\nfrom=1\n", "x.cfg:11: [shortcut] from=1 points to a"),
    "from later": (NET + CONV + "[sam]\nfrom=5\n", "x.cfg:11: [sam] from=5 points to a layer that"),
    "two froms": (NET + CONV + "[sam]\nfrom=-1,-1\n", "x.cfg:11: [sam] from=-1,-1 is not an int"),
    "no from": (NET + CONV + "[shortcut]\n", "x.cfg:10: [shortcut] from= is missing"),
    "layers before": (NET + CONV + "[route]\nlayers=-1,-2\n", "x.cfg:11: [route] layers=-2 points"),
    "layers later": (NET + CONV + "[route]\nlayers=1\n", "x.cfg:11: [route] layers=1 points to"),
    "route sizes": (
        NET + CONV + "[maxpool]\nstride=2\n[route]\nlayers=-1,-2\n",
        "x.cfg:13: [route] layers=-1,-2: layer 0 gives 4x6x8, layer 1 gives 4x3x4",
    ),
    "route groups": (
        NET + CONV + "[route]\nlayers=-1\ngroups=3\n",
        "x.cfg:12: [route] groups=3 doesn't divide the 4 channels of layer 0",
    ),
    "group_id": (NET + CONV + "[route]\nlayers=-1\ngroups=2\ngroup_id=2\n", "x.cfg:13: [route] g"),
    "shortcut sizes": (
        NET + CONV + "[maxpool]\nstride=2\n[shortcut]\nfrom=0\n",
        "x.cfg:13: [shortcut] from=0: layer 0 gives 4x6x8, the layer before gives 4x3x4",
    ),
    "weights_type": (NET + CONV + "[shortcut]\nfrom=0\nweights_type=all\n", "x.cfg:12: [shortcut]"),
    "sam shapes": (
        NET + CONV + "[avgpool]\n[sam]\nfrom=0\n",
        "x.cfg:12: [sam] from=0: layer 0 gives 4x6x8, so the layer before must give 4x6x8",
    ),
    "scale_channels shapes": (NET + CONV + CONV + "[scale_channels]\nfrom=0\n", "x.cfg:16: [scale"),
    "conv groups": (NET + "[conv]\nfilters=4\ngroups=3\n", "x.cfg:7: [conv] groups=3 doesn't div"),
    "conv size": (NET + "[conv]\nfilters=4\nsize=9\n", "x.cfg:5: [conv] size=9 is larger than"),
    "dilation": (NET + "[conv]\nsize=3\ndilation=2\n", "x.cfg:7: [conv] dilation=2 with padding 0"),
    "two owners": (NET + CONV + "[conv]\nshare_index=0,0\n", "x.cfg:11: [conv] share_index=0,0 is"),
    "owner": (
        NET + CONV + "[conv]\nfilters=5\nshare_index=0\n",
        "x.cfg:10: [conv] share_index=0: ",
    ),
    "reorg": (NET + "[reorg3d]\nstride=5\n", "x.cfg:5: [reorg3d] stride=5 doesn't divide 4x6x8"),
    "old reorg": (
        NET + CONV.replace("=4", "=6") + "[reorg]\nstride=2\n",
        "x.cfg:10: [reorg] stride",
    ),
    "crop": (
        NET + "[crop]\ncrop_width=9\ncrop_height=2\n",
        "x.cfg:6: [crop] crop_width=9: expected",
    ),
    "lrn": (NET + "[lrn]\nsize=10\n", "x.cfg:6: [lrn] size=10 reaches beyond 4x6x8 channels"),
    "local": (NET + "[local]\nsize=3\npad=2\n", "x.cfg:5: [local] pad=2 with size=3: Darknet"),
    "dropout": (NET + "[dropout]\nprobability=1\n", "x.cfg:6: [dropout] probability=1.0: expected"),
    "softmax": (NET + "[softmax]\ntemperature=0\n", "x.cfg:6: [softmax] temperature=0 divides by"),
    "mask": (
        NET + CONV + YOLO + "mask=0,2\n",
        "x.cfg:14: [yolo] mask=0,2: anchor 2 is beyond the 2",
    ),
    "too few anchors": (
        NET + CONV + "[yolo]\nclasses=1\nnum=3\nmask=2\nanchors=1,2, 3,4\n",
        "x.cfg:13: [yolo] mask=2: anchor 2 is beyond the 2 that num= and anchors= give",
    ),
    "classes": (
        NET + CONV + YOLO,
        "x.cfg:10: [yolo] classes=1 with 2 anchors needs filters=12 befo",
    ),
    "region": (
        NET + CONV + "[region]\nclasses=3\n",
        "x.cfg:10: [region] classes=3 with num=1 needs",
    ),
    "detection": (
        NET + "[detection]\nside=2\ncoords=4\n",
        "x.cfg:5: [detection] side=2, num=1, classes=1 need 24 numbers before it, but get 192",
    ),
    "detection coords": (
        NET + "[detection]\nside=1\n",
        "x.cfg:5: [detection] only coords=4 is supp",
    ),
}
for _name in ("rnn", "gru", "lstm", "crnn", "conv_lstm", "history"):
    ERRORS[_name] = (NET + f"[{_name}]\n", f"x.cfg:5: [{_name}] is recurrent: only feed-forward")
for _name in ("binary", "xnor", "bin_output", "antialiasing", "coordconv", "flipped"):
    ERRORS[_name] = (NET + f"[conv]\n{_name}=1\n", f"x.cfg:6: [conv] {_name}=1 is not supported")
for _name in ("dontload", "dontloadscales"):
    ERRORS[_name] = (NET + f"[conv]\n{_name}=1\n", f"x.cfg:6: [conv] {_name}=1 is not supported")
for _name in ("softmax", "region"):
    ERRORS[f"{_name} tree"] = (
        NET + f"[{_name}]\ntree=a.tree\n",
        f"x.cfg:6: [{_name}] tree= (a hier",
    )


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_sentence_with_its_place(case):
    text, message = ERRORS[case]
    with pytest.raises(CfgError) as error:
        Network(Cfg(text.encode(), "x.cfg"))
    assert str(error.value).startswith(message)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("content", [b"[caf\xe9]", b"[\x1b\xc2\x85]", b"[yolo]\nclasses=\xff\x0b"])
def test_an_error_can_be_printed_whatever_the_bytes_are(content):
    with pytest.raises(CfgError) as error:
        Network(Cfg(NET.encode() + content, "x.cfg"))
    assert str(error.value).isprintable()
    assert str(error.value).startswith("x.cfg:")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DarknetError, match=r"no\.cfg: can't read the cfg: no such file"):
        Cfg.load(tmp_path / "no.cfg")
    with pytest.raises(DarknetError, match="can't read the cfg: is a directory"):
        Cfg.load(tmp_path)


def test_writing_a_document_is_reading_it_back(tmp_path):
    content = b"[net]\r\n# \xff\r\nwidth = 8"
    Cfg(content).write(tmp_path / "new" / "x.cfg")
    assert (tmp_path / "new" / "x.cfg").read_bytes() == content
