"""A built library of AlexeyAB's Darknet, where one is at hand."""

import ctypes
import os

import pytest

ALEXEY_LIB = os.environ.get("ALEXEY_LIB")
with_library = pytest.mark.skipif(not ALEXEY_LIB, reason="needs ALEXEY_LIB, a Darknet library")


class CImage(ctypes.Structure):
    _fields_ = (
        ("w", ctypes.c_int),
        ("h", ctypes.c_int),
        ("c", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_float)),
    )
