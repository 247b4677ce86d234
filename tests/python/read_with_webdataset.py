"""Reads the tar shards of a run folder with `webdataset` and prints a summary of their content. Arguments: the run folder, the sharded selection."""

import json
import pathlib
import sys

import webdataset

from pairs import summary

tars = sorted(str(file) for file in (pathlib.Path(sys.argv[1]) / "shards/webdataset").glob("*.tar"))
PICTURES = ("jpg", "png", "webp", "gif", "bmp", "tiff")


def samples():
    for sample in webdataset.WebDataset(tars, shardshuffle=False).decode("pil"):
        [picture] = [sample[extension] for extension in PICTURES if extension in sample]
        metadata = sample["json"]
        assert metadata["uid"] == sample["__key__"], sample["__key__"]
        assert (metadata["caption"] or "") == sample["txt"], sample["__key__"]
        assert picture.size == (metadata["width"], metadata["height"]), sample["__key__"]
        yield sample["__key__"], sample["txt"], *picture.size


print(json.dumps({"shards": summary(samples()), "tars": len(tars)}))
