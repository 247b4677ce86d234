"""Writes the pickles of the tests beside it: python make.py (made with Python 3.12 and numpy 2)."""

import pathlib
import pickle
from collections import OrderedDict, defaultdict

import numpy

here = pathlib.Path(__file__).parent / "files"
shared = ["x"]
value = {
    "none": None,
    "bools": [True, False],
    "ints": [0, 255, 65535, -1, 2**31, -(2**40), 2**63 - 1, 2**64 - 1, 2**100],
    "floats": [0.5, -1e300],
    "text": "é 中\n\\u",
    "bytes": b"\xff\x00",
    "tuple": (1, (2,), ()),
    "set": {7},
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "default": defaultdict(list, {"k": [1]}),
    3: [shared, shared],
    "array": numpy.array([[1, 2, 3], [4, 5, 6]], dtype="<i4"),
    "fortran": numpy.asfortranarray(numpy.array([[1, 2, 3], [4, 5, 6]], dtype=">f8")),
    "texts": numpy.array(["ab", "c"]),
    "raw": numpy.array([b"ab", b"c"]),
    "half": numpy.array([0.5, -2.0], dtype="f2"),
    "flags": numpy.array([True, False]),
    "objects": numpy.array([{"a": 1}, None], dtype=object),
    "scalar": numpy.float32(1.5),
    "long": numpy.int64(-3),
}
for protocol in range(6):
    (here / f"values_{protocol}.pkl").write_bytes(pickle.dumps(value, protocol))
refs = [{"ref_id": 1, "sentences": [{"raw": "the dog"}]}, {"ref_id": 2, "sentences": []}]
(here / "list.p").write_bytes(pickle.dumps(refs, 2))
columns = {b"batch_label": b"one", b"labels": [6, 9], b"data": numpy.arange(6, dtype="u1").reshape(2, 3)}
(here / "columns.pkl").write_bytes(pickle.dumps(columns, 2))


class Evil:
    def __reduce__(self):
        return (print, ("no",))


(here / "evil.pkl").write_bytes(pickle.dumps([Evil()], 4))
loop = []
loop.append(loop)
(here / "loop.pkl").write_bytes(pickle.dumps(loop, 4))
