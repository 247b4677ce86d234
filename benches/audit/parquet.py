"""Writes conversations.jsonl of generate.py as Parquet with pictures, over and over up to a number of records.

python3 parquet.py RECORDS < conversations.jsonl    writes conversations.parquet; needs pyarrow

The pictures are those of the quickstart, each in many records, as a dataset with several questions a picture has
them. Their sizes are read from their headers.
"""

import itertools
import json
import pathlib
import sys

import pyarrow
import pyarrow.parquet

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
MESSAGE = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
SCHEMA = pyarrow.schema(
    [("id", pyarrow.string()), ("images", pyarrow.list_(PICTURE)), ("messages", pyarrow.list_(MESSAGE))]
)
ROLES = {"human": "user", "gpt": "assistant"}


def main():
    pictures = [path.read_bytes() for path in sorted(ROOT.glob("examples/**/*.jpg"))[:40]]
    lines = list(sys.stdin)
    with pyarrow.parquet.ParquetWriter("conversations.parquet", SCHEMA, compression="none") as writer:
        numbered = enumerate(itertools.islice(itertools.cycle(lines), int(sys.argv[1])))
        while batch := list(itertools.islice(numbered, 2000)):
            rows = []
            for number, line in batch:
                turns = json.loads(line)["conversations"]
                said = [{"role": ROLES[turn["from"]], "content": turn["value"].removeprefix("<image>\n")} for turn in turns]
                picture = {"bytes": pictures[number % len(pictures)], "path": f"{number}.jpg"}
                rows.append({"id": str(number), "images": [picture], "messages": said})
            writer.write_table(pyarrow.Table.from_pylist(rows, SCHEMA))


main()
