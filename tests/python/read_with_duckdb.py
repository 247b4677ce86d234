"""Queries the tables of a run folder with DuckDB and prints the results. Arguments: the run folder, the sharded selection."""

import hashlib
import json
import pathlib
import sys

import duckdb

run, selection = pathlib.Path(sys.argv[1]), sys.argv[2]
tables = {"pool": "pool", "log": "download-log", "captions": "signals/caption", "pictures": "signals/picture", "hashes": "signals/hashes", "clusters": "clusters", "decisions": f"selection/{selection}"}
for name, folder in tables.items():
    duckdb.sql(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{run}/{folder}/*.parquet')")


def one(query):
    return duckdb.sql(query).fetchall()[0][0]


kept = duckdb.sql("SELECT uid FROM decisions WHERE kept ORDER BY uid").fetchall()
print(json.dumps({
    "pool": one("SELECT count(*) FROM pool"),
    "signals": one("SELECT count(*) FROM captions JOIN pictures USING (uid) JOIN hashes USING (uid)"),
    "joined": one(
        "SELECT count(*) FROM pool JOIN pictures USING (uid) JOIN clusters USING (uid) JOIN decisions USING (uid) JOIN log USING (uid)"
        " WHERE pool.width = pictures.width AND octet_length(pool.image.bytes) = pool.bytes AND log.status = 'ok'"
    ),
    "kept": len(kept),
    "kept_digest": hashlib.sha256("".join(f"{uid}\n" for (uid,) in kept).encode()).hexdigest(),
    "rejected_by": dict(duckdb.sql("SELECT rule, count(*) FROM (SELECT unnest(rejected_by) AS rule FROM decisions) GROUP BY rule").fetchall()),
    "by_status": dict(duckdb.sql("SELECT status, count(*) FROM log GROUP BY status").fetchall()),
}))
