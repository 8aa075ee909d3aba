"""Small cfgs, written section by section: `net() + conv(8) + maxpool() + plain(14) + yolo()`.

Every function takes more keys of its section by name; a key of None is left out.
"""


def section(kind: str, **options: object) -> str:
    """Any section; a key that Python has for itself ends in an underscore: `from_`."""
    lines = (f"{key.rstrip('_')}={value}\n" for key, value in options.items() if value is not None)
    return f"[{kind}]\n{''.join(lines)}"


def net(width: int = 8, height: int = 8, channels: int = 3, **options: object) -> str:
    return section("net", width=width, height=height, channels=channels, **options)


def conv(filters: int = 4, size: int = 3, **options: object) -> str:
    """A normalised convolution that keeps height and width, as most are."""
    defaults = {"batch_normalize": 1, "filters": filters, "size": size, "pad": 1}
    return section("convolutional", **defaults | {"activation": "leaky"} | options)


def plain(filters: int, size: int = 1, **options: object) -> str:
    """A linear convolution without normalisation, as heads are fed by."""
    return conv(filters, size, **{"batch_normalize": None, "activation": "linear"} | options)


def connected(output: int, **options: object) -> str:
    return section("connected", **{"output": output, "activation": "linear"} | options)


def shortcut(*sources: int, **options: object) -> str:
    return section("shortcut", **{"from": listed(sources), "activation": "linear"} | options)


def route(*layers: int, **options: object) -> str:
    return section("route", layers=listed(layers), **options)


def maxpool(size: int = 2, stride: int = 2, **options: object) -> str:
    return section("maxpool", size=size, stride=stride, **options)


def upsample(stride: int = 2, **options: object) -> str:
    return section("upsample", stride=stride, **options)


def yolo(classes: int = 1, mask: str = "0", anchors: str = "4,4", **options: object) -> str:
    """Its `num` is that of the anchors; plain(len(mask) * (5 + classes)) feeds it."""
    num = anchors.count(",") // 2 + 1
    defaults = {"mask": mask, "anchors": anchors, "classes": classes, "num": num}
    return section("yolo", **defaults | options)


def region(classes: int = 1, anchors: str = "1,1, 2,2", **options: object) -> str:
    num = anchors.count(",") // 2 + 1
    return section("region", **{"anchors": anchors, "classes": classes, "num": num} | options)


def listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


NET = net()
# for four channels
RESIDUAL = conv(2, 1) + conv(4) + shortcut(-3)
HEAD = plain(18) + yolo(mask="0,1,2", anchors="1,1, 2,2, 3,3")
