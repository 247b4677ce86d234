"""Prints the captions of a folder of shards as Hugging Face `datasets` loads it by its name. Argument: the folder."""

import json
import sys

import datasets

datasets.disable_progress_bars()
print(json.dumps(datasets.load_dataset(sys.argv[1], split="train")["caption"][:]))
