"""Data sets in other formats, read as pictures with boxes and written as Darknet wants them."""

from yolo.registry import Entry, registry

FORMATS = registry(
    Entry("voc", "Pascal VOC: XML and ImageSets", f"{__name__}.voc:FORMAT"),
    Entry("coco", "COCO's JSON of instances, in a folder or by itself", f"{__name__}.coco:FORMAT"),
    Entry(
        "hands", "the Oxford hand data set: .mat files, official split", f"{__name__}.hands:FORMAT"
    ),
    Entry("mnist", "idx files, plain or gzipped, for a classifier", f"{__name__}.idx:FORMAT"),
    Entry(
        "cifar10",
        "binary version, or SPLIT/CLASS/ images, in a folder or .tar",
        f"{__name__}.cifar:FORMAT",
    ),
    Entry("sample", "digits on photographs, made up: DST/digits.data", f"{__name__}.sample:FORMAT"),
)
