"""Writes the files that the tests of the reader of MATLAB files read. Ran with scipy 1.17.1."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

car = [("fname", object), ("class", object), ("box", object)]
cars = np.zeros((1, 2), dtype=car)
for place, (name, label, box) in enumerate([("1.jpg", 14.0, [1, 2, 3, 4]), ("2.jpg", 3.0, [5, 6, 7, 8])]):
    cars[0, place] = (name, label, np.array(box, dtype=np.uint16))
names = np.empty((1, 2), dtype=object)
names[0, 0], names[0, 1] = "AM General", "Audi"
one = np.empty((1, 1), dtype=object)
one[0, 0] = "x"
variables = {
    "labels": np.array([[3.0, 1.0, 2.0]]),
    "one": 7.0,
    "share": np.float32(0.5),
    "matrix": np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int32),
    "small": np.array([[-1, 2]], dtype=np.int8),
    "text": "a flower é",
    "names": names,
    "cell_of_one": one,
    "lines": np.array(["ab ", "cde"]),
    "cars": cars,
    "nested": {"inner": {"deep": np.array([[1.5, np.nan]])}},
    "empty": np.zeros((0, 0)),
    "unsigned": np.array([[200], [255]], dtype=np.uint8),
}
for name, packed in [("plain.mat", False), ("packed.mat", True)]:
    savemat(Path(__file__).parent / name, variables, do_compression=packed)
