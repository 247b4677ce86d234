"""Prints the captions of a folder of shards that Hugging Face `datasets` loads by its path. Argument: the folder."""

import sys

import datasets

from answer import answer

datasets.disable_progress_bars()
answer(datasets.load_dataset(sys.argv[1], split="train")["caption"][:])
