"""Writes a pair of files in the layout of VQA v2.0, the same ones for the same number.

python3 generate.py FOLDER QUESTIONS [--votes N]

230000 questions take 22 MB and 184 MB, about half of the training split of VQA v2.0. Every question
has ten answers with their confidence, as the authors' files have; `--votes` gives another number.
"""

import argparse
import json
import pathlib
import random

WORDS = "what color is the man woman dog cat bus on table in left of picture wearing holding near two old red".split()
ANSWERS = ["yes", "no", "2", "red", "blue", "dog", "on the table", "skateboard", "net", "left", "white and black"]
HEAD = {
    "info": {"description": "This is v2.0 of the VQA dataset.", "version": "2.0", "year": 2017},
    "task_type": "Open-Ended",
    "data_type": "mscoco",
    "license": {"name": "Creative Commons Attribution 4.0 International License"},
    "data_subtype": "train2014",
}


def write(path, key, rows):
    """Writes as the authors do: one document on one line."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(HEAD)[:-1] + f', "{key}": [')
        for number, row in enumerate(rows):
            file.write((", " if number else "") + json.dumps(row))
        file.write("]}")


def question(number, draw):
    text = " ".join(draw.choices(WORDS, k=draw.randint(4, 10))).capitalize() + "?"
    image = 9 + number // 5 * 7
    return {"image_id": image, "question": text, "question_id": image * 1000 + number % 5}


def annotation(number, votes, draw):
    image = 9 + number // 5 * 7
    most = draw.choice(ANSWERS)
    given = [most if draw.random() < 0.7 else draw.choice(ANSWERS) for _ in range(votes)]
    confidence = lambda: draw.choice(["yes", "maybe", "no"])
    answers = [{"answer": own, "answer_confidence": confidence(), "answer_id": i + 1} for i, own in enumerate(given)]
    return {
        "question_type": "what color is",
        "multiple_choice_answer": most,
        "answers": answers,
        "image_id": image,
        "answer_type": "other",
        "question_id": image * 1000 + number % 5,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("questions", type=int)
    parser.add_argument("--votes", type=int, default=10)
    own = parser.parse_args()
    own.folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    questions = own.folder / "v2_OpenEnded_mscoco_train2014_questions.json"
    write(questions, "questions", (question(number, draw) for number in range(own.questions)))
    annotations = own.folder / "v2_mscoco_train2014_annotations.json"
    write(annotations, "annotations", (annotation(number, own.votes, draw) for number in range(own.questions)))


main()
