"""The work of the bench with Hugging Face `datasets`: python3 hf.py FOLDER OUT."""

import collections
import sys
import zlib

import datasets

folder, out = sys.argv[1:]
wordings = ["{} Answer in a few words.", "Question: {} Answer:", "Look at the picture. {}", "{}", "Say briefly: {}"]
datasets.disable_progress_bars()


def load(name, field):
    return datasets.load_dataset("json", data_files=f"{folder}/{name}", field=field, split="train", cache_dir=f"{out}/cache")


questions = load("v2_OpenEnded_mscoco_train2014_questions.json", "questions")
annotations = load("v2_mscoco_train2014_annotations.json", "annotations")
by_id = {own["question_id"]: own for own in annotations}


def converse(own, row):
    answer = by_id[own["question_id"]]
    votes = collections.Counter(vote["answer"] for vote in answer["answers"])
    target = answer["multiple_choice_answer"] or votes.most_common(1)[0][0]
    id, image = f"vqav2/train/{own['question_id']}", f"train2014/COCO_train2014_{own['image_id']:012}.jpg"
    wording = zlib.crc32(id.encode()) % len(wordings)
    asked = wordings[wording].format(own["question"])
    source = {"task": "vqav2", "licence": "CC-BY-4.0", "template": wording, "source_row": row}
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": target}]
    llava = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": target}]
    return {"id": id, "image": image, "messages": turns, "conversations": llava, **source}


made = questions.map(converse, with_indices=True, remove_columns=questions.column_names)
made.remove_columns("conversations").to_json(f"{out}/lines.jsonl")
made.remove_columns("messages").to_json(f"{out}/llava.jsonl")
