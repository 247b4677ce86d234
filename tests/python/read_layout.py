"""Reads images and captions with a library and prints sizes and captions, sorted. Arguments: the layout, the folder."""

import pathlib
import sys

import datasets
import webdataset

from answer import answer

datasets.disable_progress_bars()
layout, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def with_datasets(builder, caption, **arguments):
    for split in datasets.load_dataset(builder, **arguments).values():
        [image] = [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]
        for row in split:
            row[image].load()
            yield row[caption], *row[image].size


def with_open_clip():
    # The pipeline of open_clip 2.32, `get_wds_dataset`, without its tokenizer.
    tars = sorted(str(file) for file in folder.glob("*.tar"))
    rows = webdataset.WebDataset(tars, shardshuffle=False)
    rows = rows.select(lambda sample: "txt" in sample and any(suffix in sample for suffix in ("png", "jpg", "jpeg", "webp")))
    for sample in rows.decode("pilrgb").rename(image="jpg;png;jpeg;webp", text="txt"):
        yield sample["text"], *sample["image"].size


rows = {
    "imagefolder": lambda: with_datasets("imagefolder", "text", data_dir=str(folder)),
    "parquet": lambda: with_datasets("parquet", "caption", data_files=str(folder / "*.parquet")),
    "webdataset by datasets": lambda: with_datasets("webdataset", "txt", data_files=str(folder / "*.tar")),
    "webdataset by open_clip": with_open_clip,
}[layout]()
answer(sorted(rows))
