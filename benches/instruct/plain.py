"""The work of the bench in plain Python: python3 plain.py FOLDER OUT."""

import collections
import json
import sys
import zlib

folder, out = sys.argv[1:]
wordings = ["{} Answer in a few words.", "Question: {} Answer:", "Look at the picture. {}", "{}", "Say briefly: {}"]
questions = json.load(open(f"{folder}/v2_OpenEnded_mscoco_train2014_questions.json"))["questions"]
annotations = json.load(open(f"{folder}/v2_mscoco_train2014_annotations.json"))["annotations"]
by_id = {own["question_id"]: own for own in annotations}
with open(f"{out}/lines.jsonl", "w") as lines, open(f"{out}/llava.json", "w") as llava:
    for row, own in enumerate(questions):
        answer = by_id[own["question_id"]]
        votes = collections.Counter(vote["answer"] for vote in answer["answers"])
        target = answer["multiple_choice_answer"] or votes.most_common(1)[0][0]
        id, image = f"vqav2/train/{own['question_id']}", f"train2014/COCO_train2014_{own['image_id']:012}.jpg"
        wording = zlib.crc32(id.encode()) % len(wordings)
        asked = wordings[wording].format(own["question"])
        source = {"task": "vqav2", "licence": "CC-BY-4.0", "template": wording, "source_row": row}
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": target}]
        lines.write(json.dumps({"id": id, "images": [{"path": image}], "messages": turns, **source}) + "\n")
        turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": target}]
        llava.write((",\n" if row else "[\n") + json.dumps({"id": id, "image": image, "conversations": turns, **source}))
    llava.write("\n]\n")
