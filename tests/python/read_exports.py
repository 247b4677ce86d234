"""Reads every format of a set of conversations with its library, and prints for each format the id, licence,
native file, row and number of decoded pictures of every conversation. Argument: the folder of the set."""

import json
import pathlib
import sys

import datasets
import mlcroissant
import webdataset

from answer import answer

datasets.disable_progress_bars()
folder = pathlib.Path(sys.argv[1])
NUMBERED, PLACE = (lambda name: name[0].isdigit()), (lambda name: int(name.split(".")[0]))
PROVENANCE = ("id", "licence", "source_file", "source_row")


def files(kind, ending):
    found = sorted(map(str, [*folder.glob(f"{kind}/**/*.{ending}"), *folder.glob(f"{kind}.{ending}")]))
    assert found, (kind, ending)
    return found


def loaded(builder, names):
    # One file at a time, since sets need not have the same keys.
    for name in names:
        yield from datasets.load_dataset(builder, data_files=name, split="train")


def provenance(row, pictures):
    return [*(row[name] for name in PROVENANCE), pictures]


def decoded(row):
    for picture in row["images"]:
        picture.load()
    return len(row["images"])


def of_parquet():
    for row in loaded("parquet", files("parquet", "parquet")):
        assert [message["role"] for message in row["messages"] if message["role"] != "system"][:2] == ["user", "assistant"]
        yield provenance(row, decoded(row))


def of_cauldron():
    for row in loaded("parquet", files("cauldron", "parquet")):
        assert row["texts"] and all(set(text) == {"user", "assistant", "source"} for text in row["texts"])
        assert all(text["user"] and text["assistant"] and text["source"] == row["task"] for text in row["texts"])
        yield provenance(row, decoded(row))


def of_verl():
    for row in loaded("parquet", files("verl", "parquet")):
        # The requirements of verl's `RLHFDataset` for a row.
        tokens = sum(message["content"].count("<image>") for message in row["prompt"])
        assert tokens == len(row["images"]) and row["prompt"][-1]["role"] == "user", row["id"]
        assert row["reward_model"]["style"] == "rule" and row["reward_model"]["ground_truth"], row["id"]
        assert row["data_source"] == row["task"] and row["extra_info"]["index"] >= 0
        checked(row["extra_info"]["checker"], row["reward_model"]["ground_truth"], row["extra_info"]["answer"])
        yield provenance(row, decoded(row))


def checked(checker, truth, answer):
    if checker == "vqa_accuracy":
        assert answer in json.loads(truth), (truth, answer)
    elif checker == "option_accuracy":
        assert truth == answer and len(truth) == 1
    elif checker == "iou":
        box = json.loads(truth)
        assert len(box) == 4 and 0 <= min(box) and max(box) <= 1
    elif checker == "number":
        float(truth.replace(",", ""))
    else:
        assert checker == "exact_match" and truth == answer


def tokens_and_pictures(texts, row):
    tokens = sum(text.count("<image>") for text in texts)
    assert tokens == len(row.get("images") or []), row["id"]
    return tokens


def of_llava():
    for row in loaded("json", files("llava", "json")):
        images = row.get("image") or []
        images = [images] if isinstance(images, str) else images
        texts = [turn["value"] for turn in row["conversations"]]
        yield provenance(row, tokens_and_pictures(texts, {"id": row["id"], "images": images}))


def of_sharegpt():
    [description] = files("sharegpt/dataset_info", "json") if (folder / "sharegpt").exists() else [folder / "dataset_info.json"]
    description = pathlib.Path(description)
    for of_file in json.loads(description.read_text()).values():
        columns = of_file["columns"]
        for row in loaded("json", [str(description.parent / of_file["file_name"])]):
            # LLaMA-Factory reads all named columns of every row, so no row may lack one.
            assert all(column in row for column in columns.values()), (columns, row)
            turns = row[columns["messages"]]
            users = [turn[of_file["tags"]["content_tag"]] for turn in turns if turn[of_file["tags"]["role_tag"]] == "human"]
            assert 2 * len(users) == len(turns)
            yield provenance(row, tokens_and_pictures(users, row))


def of_messages():
    for row in loaded("json", files("messages", "jsonl")):
        parts = [part for message in row["messages"] for part in message["content"]]
        yield provenance(row, sum(part["type"] == "image_url" for part in parts))


def of_swift():
    for row in loaded("json", files("swift", "jsonl")):
        yield provenance(row, tokens_and_pictures([message["content"] for message in row["messages"]], row))


def of_webdataset():
    for sample in webdataset.WebDataset(files("webdataset", "tar"), shardshuffle=False).decode("pil"):
        row = sample["json"]
        pictures = [sample[name] for name in sorted(filter(NUMBERED, sample), key=PLACE)]
        assert all(hasattr(picture, "size") for picture in pictures), sorted(sample)
        assert len(pictures) == tokens_and_pictures([turn["value"] for turn in row["conversations"]], row)
        yield provenance(row, len(pictures))


def of_croissant():
    metadata = mlcroissant.Dataset(folder / "croissant.json")
    assert not metadata.metadata.issues.errors, metadata.metadata.issues.report()
    for records in metadata.metadata.record_sets:
        for record in metadata.records(records.uuid):
            row = {name.split("/")[-1]: value for name, value in record.items()}
            row = {name: value.decode() if isinstance(value, bytes) else value for name, value in row.items()}
            yield [*(row[name] for name in PROVENANCE[:-1]), int(row["source_row"]), 0]


def of_card():
    for row in datasets.load_dataset(str(folder), split="train"):
        yield provenance(row, decoded(row))


READERS = {name.removeprefix("of_"): read for name, read in list(globals().items()) if name.startswith("of_")}
answer({name: list(read()) for name, read in READERS.items()})
