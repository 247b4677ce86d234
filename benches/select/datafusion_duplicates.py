"""Finds exact duplicates of a generated pool by SQL of DataFusion, and prints what it takes: python3 datafusion_duplicates.py POOL.

POOL is the folder that `generated_pool` wrote. The query is the part of `lynxdata dedup` that SQL can do: the members of
every group of pairs with one URL or with the same bytes. The search over perceptual hashes is left out: as a self-join on
the distance it compares every pair with every other one.
"""

import resource
import sys

import datafusion

context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(2))
context.register_parquet("pool", f"{sys.argv[1]}/run/pool")
for key in ("url", "sha256"):
    query = f"select {key}, array_agg(uid) as members from pool group by {key} having count(*) > 1"
    groups = context.sql(query).count()
    print(f"{key}: {groups} groups")
spent = resource.getrusage(resource.RUSAGE_SELF)
print(f"{spent.ru_utime + spent.ru_stime:.1f} CPU-seconds, {spent.ru_maxrss / 1024:.0f} MB")
