"""Counts what a download wrote. Run by the interpreter of the virtual environment (Pillow, pyarrow).

    count.py keep PICTURES.json FOLDER      pictures in tar files that have the bytes of a picture of the set
    count.py 256 PICTURES.json FOLDER       pictures in tar files whose shorter side is 256 pixels
    count.py pool PICTURES.json FOLDER      rows of the Parquet files of lynxdata's pool

Prints JSON: `pictures` is that number, `others` the pictures or rows beside them.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

PICTURES = {"jpg", "jpeg", "png", "webp"}


def bodies(folder):
    """The pictures of all WebDataset shards."""
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.rpartition(".")[2].lower() in PICTURES:
                    yield archive.extractfile(member).read()


def shorter_side(body):
    from PIL import Image

    try:
        return min(Image.open(io.BytesIO(body)).size)
    except OSError:
        return None


def pool_rows(folder):
    import pyarrow.parquet

    return sum(pyarrow.parquet.ParquetFile(path).metadata.num_rows for path in folder.glob("pool/*.parquet"))


def main():
    what, pictures, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "pool":
        good, total = pool_rows(folder), pool_rows(folder)
    elif what == "keep":
        digests = {picture["sha256"] for picture in json.loads(pictures.read_text())}
        found = [hashlib.sha256(body).hexdigest() in digests for body in bodies(folder)]
        good, total = sum(found), len(found)
    else:
        sides = [shorter_side(body) for body in bodies(folder)]
        good, total = sides.count(int(what)), len(sides)
    print(json.dumps({"pictures": good, "others": total - good}))


if __name__ == "__main__":
    main()
