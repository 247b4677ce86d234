"""Columns of every Arrow type that Hugging Face `datasets` opens, written as a list and compared with the columns of a run.

`arrow_types.py write LIST URL...` writes a Parquet list with one row for each URL: the first with values, the others with nulls between values.
`arrow_types.py compare LIST RUN` prints, for the pool and the shards of a run, the columns that `datasets` sees with another type or value than in the list.
"""

import datetime
import decimal
import pathlib
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from answer import answer

datasets.disable_progress_bars()

VALUES = {
    "null": (pa.null(), None),
    "bool": (pa.bool_(), True),
    "int8": (pa.int8(), -8),
    "uint8": (pa.uint8(), 200),
    "int16": (pa.int16(), -300),
    "uint16": (pa.uint16(), 65535),
    "int32": (pa.int32(), -70000),
    "uint32": (pa.uint32(), 4294967295),
    "int64": (pa.int64(), -(2**63)),
    "uint64": (pa.uint64(), 2**64 - 1),
    "float16": (pa.float16(), 1.5),
    "float32": (pa.float32(), 0.25),
    "float64": (pa.float64(), 1e300),
    "date32": (pa.date32(), datetime.date(2026, 11, 28)),
    "date64": (pa.date64(), datetime.date(2026, 11, 28)),
    "time32_s": (pa.time32("s"), datetime.time(1, 2, 3)),
    "time32_ms": (pa.time32("ms"), datetime.time(1, 2, 3, 4000)),
    "time64_us": (pa.time64("us"), datetime.time(1, 2, 3, 4)),
    "timestamp_s": (pa.timestamp("s"), datetime.datetime(2026, 11, 28)),
    "timestamp_ms": (pa.timestamp("ms"), datetime.datetime(2026, 11, 28, 1)),
    "timestamp_us_zone": (pa.timestamp("us", tz="+02:00"), datetime.datetime(2026, 11, 28, tzinfo=datetime.timezone.utc)),
    "timestamp_ns": (pa.timestamp("ns"), datetime.datetime(2026, 11, 28, 1)),
    "duration_us": (pa.duration("us"), datetime.timedelta(seconds=5)),
    "decimal128": (pa.decimal128(10, 2), decimal.Decimal("12345678.90")),
    "decimal256": (pa.decimal256(50, 3), decimal.Decimal("1234567890123456789012345678901234567890.123")),
    "string": (pa.string(), "ä"),
    "large_string": (pa.large_string(), "日本"),
    "string_view": (pa.string_view(), "a view of more than twelve bytes"),
    "binary": (pa.binary(), b"\x00\xff"),
    "large_binary": (pa.large_binary(), b"\x00\xff"),
    "binary_view": (pa.binary_view(), b"a view of more than twelve bytes"),
    "fixed_size_binary": (pa.binary(4), b"\x00\x01\x02\xff"),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), "cat"),
    "list": (pa.list_(pa.int32()), [1, None, 3]),
    "list_of_binary": (pa.list_(pa.binary(2)), [b"ab"]),
    "fixed_size_list": (pa.list_(pa.float32(), 3), [1.0, 2.0, 3.0]),
    "large_list": (pa.large_list(pa.string()), ["a", "b"]),
    "list_of_structs": (pa.list_(pa.struct([("box", pa.list_(pa.float64())), ("label", pa.string())])), [{"box": [0.5], "label": "dog"}]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.binary(2))]), {"a": 1, "b": b"ab"}),
    "a.dotted name": (pa.float64(), 0.5),
    "Ünïcode": (pa.int32(), 1),
}


def write(path, urls):
    columns = {"url": pa.array(urls), "caption": pa.array([f"picture {index}" for index in range(len(urls))])}
    for name, (kind, value) in VALUES.items():
        rows = [value if index % 2 == 0 else None for index in range(len(urls))]
        columns[name] = pa.array(rows, type=kind.value_type).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(rows, type=kind)
    pq.write_table(pa.table(columns), path)


def seen(data_files):
    rows = datasets.load_dataset("parquet", data_files=data_files, split="train")
    return {name: (str(rows.features[name]), rows[name][:]) for name in rows.features if name in VALUES}


# Offsets of another width and views are other layouts of the same values; a column of nulls becomes
# a text column.
SAME = {"large_string": "string", "string_view": "string", "null": "string", "large_binary": "binary", "binary_view": "binary"}


def differences(expected, found):
    different = {}
    for name, (kind, values) in expected.items():
        kind = kind.split("'")[1] if kind.startswith("Value('") else kind
        found_kind, found_values = found.get(name, ("missing", []))
        found_kind = found_kind.split("'")[1] if found_kind.startswith("Value('") else found_kind
        if SAME.get(kind, kind) != found_kind or repr(values) != repr(found_values):
            different[name] = [kind, found_kind, repr(values), repr(found_values)]
    return different


if sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[3:])
    print("{}")
else:
    expected, run = seen(sys.argv[2]), pathlib.Path(sys.argv[3])
    assert len(expected) == len(VALUES), expected.keys()
    shards = datasets.load_dataset(str(run / "shards/parquet"), split="train")
    answer({
        "pool": differences(expected, seen(str(run / "pool/*.parquet"))),
        "shards": differences(expected, {name: (str(shards.features[name]), shards[name][:]) for name in shards.features}),
    })
