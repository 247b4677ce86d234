"""Reads sets of Megatron-Energon with its own loader and prints for each split the id, licence, native file, row and number of decoded
pictures of every sample; and whether the index equals that of `energon prepare` for the same shards. Argument: the folder of the sets."""

import json
import pathlib
import shutil
import sqlite3
import sys
import tempfile

from megatron.energon import Cooker, DefaultTaskEncoder, Sample, WorkerConfig, get_loader, get_val_dataset, stateless
from megatron.energon.edataclass import edataclass
from megatron.energon.flavors.webdataset.prepare import WebdatasetPreparator
from megatron.energon.task_encoder.cooking import basic_sample_keys

folder = pathlib.Path(sys.argv[1])
NUMBERED, PLACE = (lambda name: name[0].isdigit()), (lambda name: int(name.split(".")[0]))


@edataclass
class Conversation(Sample):
    pictures: list
    json: dict


@stateless
def cook(sample):
    pictures = [sample[name] for name in sorted(filter(NUMBERED, sample), key=PLACE)]
    return Conversation(**basic_sample_keys(sample), pictures=pictures, json=sample["json"])


class Encoder(DefaultTaskEncoder):
    cookers = [Cooker(cook)]

    @stateless
    def batch(self, samples):
        return samples[0]


def read(split):
    workers = WorkerConfig.default_worker_config(num_workers=0)
    dataset = get_val_dataset(folder, split_part=split, worker_config=workers, batch_size=1, task_encoder=Encoder())
    for sample in get_loader(dataset):
        row = sample.json
        assert all(picture.shape[0] == 3 for picture in sample.pictures)  # channels, height, width
        yield [row["id"], row["licence"], row["source_file"], row["source_row"], len(sample.pictures)]


def tables(folder):
    database = sqlite3.connect(f"file:{folder / '.nv-meta/index.sqlite'}?mode=ro&immutable=1", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    names = sorted(row[0] for row in database.execute("SELECT name FROM sqlite_master"))
    return names, *(database.execute(f"SELECT * FROM {table}").fetchall() for table in ("samples", "sample_parts"))


def is_as_prepared(splits):
    with tempfile.TemporaryDirectory() as place:
        prepared = pathlib.Path(place) / "prepared"
        shutil.copytree(folder, prepared, ignore=shutil.ignore_patterns("*.idx", ".nv-meta"))
        shards = splits["split_parts"]["train"]
        print_to_stderr = sys.stdout
        sys.stdout = sys.stderr
        WebdatasetPreparator.prepare_dataset(
            prepared, shards, split_parts_patterns=[("train", ".*")], shuffle_seed=None, workers=1
        )
        sys.stdout = print_to_stderr
        for shard in shards:
            assert (folder / f"{shard}.idx").read_bytes() == (prepared / f"{shard}.idx").read_bytes(), shard
        info = [json.loads((place / ".nv-meta/.info.json").read_text()) for place in (folder, prepared)]
        assert info[0] == info[1], info
        assert tables(folder) == tables(prepared)
    return True


if __name__ == "__main__":
    splits = json.loads((folder / ".nv-meta/split.yaml").read_text())
    seen = {split: list(read(split)) for split in splits["split_parts"]}
    print(json.dumps({"splits": seen, "index_as_prepared": is_as_prepared(splits)}))
