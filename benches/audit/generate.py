"""Writes conversations for the bench of `lynxdata audit`, the same ones for the same number.

python3 generate.py RECORDS > conversations.jsonl

A record is like those of LLaVA-1.5's mix: one picture with its size, one to four questions of 4 to 16
words, answers of 1 to 60. Words are those of this repository's documents, in their frequencies.
"""

import json
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    files = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
    words = [word for file in files for word in file.read_text(encoding="utf-8").split() if "<" not in word]
    draw = random.Random(0)
    for number in range(int(sys.argv[1])):
        turns = []
        for turn in range(draw.randint(1, 4)):
            question = " ".join(draw.choices(words, k=draw.randint(4, 16)))
            answer = " ".join(draw.choices(words, k=draw.choice([1, 2, 3, 10, 30, 60])))
            turns.append({"from": "human", "value": ("<image>\n" if turn == 0 else "") + question})
            turns.append({"from": "gpt", "value": answer})
        width, height = draw.choice([(640, 480), (480, 640), (500, 375), (1024, 768), (336, 336)])
        record = {"id": f"{number:09}", "image": f"coco/train2017/{number:012}.jpg", "width": width, "height": height}
        print(json.dumps({**record, "conversations": turns}))


main()
