"""Reads the tables of a run folder with pyarrow and prints a summary of their content. Arguments: the run folder, the sharded selection."""

import collections
import io
import json
import pathlib
import sys

import pyarrow.parquet as parquet
from PIL import Image

from pairs import summary

run = pathlib.Path(sys.argv[1])


def table(folder):
    files = sorted((run / folder).glob("**/*.parquet"))
    assert files, f"{folder} holds no Parquet file"
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def decoded(rows):
    for row in rows:
        picture = Image.open(io.BytesIO(row["image"]["bytes"]))
        picture.load()
        assert picture.format.lower() == row["format"], (row["uid"], picture.format, row["format"])
        assert row["image"]["path"].startswith(row["uid"]), row["image"]["path"]
        yield row["uid"], row["caption"], picture.width, picture.height


def selection(name):
    rows = table(f"selection/{name}")
    rejected_by = collections.Counter(rule for row in rows for rule in row["rejected_by"])
    return {"rows": len(rows), "kept": sum(row["kept"] for row in rows), "rejected_by": dict(rejected_by)}


schema = parquet.read_schema(sorted((run / "pool").glob("*.parquet"))[0])
features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
print(json.dumps({
    "pool": summary(decoded(table("pool"))),
    "shards": summary(decoded(table("shards/parquet"))),
    "download_log": len(table("download-log")),
    "signals": len(table("signals/caption")),
    "clusters": len(table("clusters")),
    "selections": {folder.name: selection(folder.name) for folder in sorted((run / "selection").iterdir())},
    "conversations": len(table("instruct/parquet")),
    "hugging_face_pictures": [name for name, feature in features.items() if feature["_type"] == "Image"],
}))
