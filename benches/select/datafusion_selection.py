"""Selects among a generated pool by one SQL plan of DataFusion, and prints what it takes: python3 datafusion_selection.py POOL [PARTITIONS].

POOL is the folder that `generated_pool` wrote. The plan does the part of `lynxdata select recipe.toml` that SQL can do: for every
pair, whether it passes the three rules of the recipe and which it fails, written as Parquet, with the funnel. The pool and the
groups of signals are joined by `uid`, because SQL knows no rows by their place. Duplicates are left out.
"""

import resource
import sys

import datafusion

partitions = int(sys.argv[2]) if len(sys.argv) > 2 else 2
context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(partitions))
for name in ("pool", "signals/caption", "signals/picture"):
    context.register_parquet(name.rpartition("/")[2], f"{sys.argv[1]}/run/{name}")
RULES = {"large": "picture.width >= 400", "wordy": "caption_words >= 5", "flat": "entropy >= 3"}
reasons = ", ".join(f"case when not coalesce({rule}, false) then '{name}' end" for name, rule in RULES.items())
query = f"""
    select pool.uid, make_array({reasons}) as reasons
    from pool join caption on pool.uid = caption.uid join picture on pool.uid = picture.uid
"""
context.sql(query).write_parquet("/tmp/selection_by_sql")
context.register_parquet("selection", "/tmp/selection_by_sql")
for name in RULES:
    failed = context.sql(f"select count(*) from selection where array_has(reasons, '{name}')").collect()
    print(f"{name} rejects {failed[0].column(0)[0]}")
spent = resource.getrusage(resource.RUSAGE_SELF)
print(f"{spent.ru_utime + spent.ru_stime:.1f} CPU-seconds, {spent.ru_maxrss / 1024:.0f} MB")
