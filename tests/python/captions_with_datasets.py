"""Prints the captions of a folder of shards as Hugging Face `datasets` loads it by its name. Argument: the folder."""

import sys

import datasets

from answer import answer

datasets.disable_progress_bars()
answer(datasets.load_dataset(sys.argv[1], split="train")["caption"][:])
