"""Reads a run folder with Hugging Face `datasets` and prints a summary of its content. Arguments: the run folder, the sharded selection."""

import pathlib
import sys

import datasets

from answer import answer
from pairs import summary

datasets.disable_progress_bars()
run = pathlib.Path(sys.argv[1])


def decoded(rows):
    assert isinstance(rows.features["image"], datasets.Image), rows.features
    for row in rows:
        row["image"].load()
        assert row["image"].size == (row["width"], row["height"]), row["uid"]
        yield row["uid"], row["caption"], *row["image"].size


def conversations():
    files = [str(file) for file in sorted((run / "instruct/parquet").glob("*.parquet"))]
    rows = datasets.load_dataset("parquet", data_files=files, split="train")
    assert isinstance(rows.features["images"].feature, datasets.Image), rows.features
    counts = {"rows": len(rows), "pictures": 0, "pictures_decoded": 0, "messages": 0}
    for row in rows:
        counts["pictures"] += len(row["images"])
        counts["messages"] += len(row["messages"])
        roles = [message["role"] for message in row["messages"] if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and len(row["messages"]) - len(roles) <= 1, row["id"]
        # Annotations may be converted without their pictures.
        for picture in filter(None, row["images"]):
            picture.load()
            counts["pictures_decoded"] += 1
    return counts


pool = datasets.load_dataset("parquet", data_files=str(run / "pool/*.parquet"), split="train")
shards = datasets.load_dataset(str(run / "shards/parquet"), split="train")
answer({"pool": summary(decoded(pool)), "shards": summary(decoded(shards)), "conversations": conversations()})
