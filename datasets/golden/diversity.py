"""Writes diversity.json: distinct-n and self-BLEU by NLTK, and tails of chi-square by SciPy.

    python diversity.py > diversity.json

Run with NLTK 3.10.4 and SciPy 1.17.1. distinct-n is the number of different n-grams of all texts over
the number of all (Li et al., arXiv 1510.03055). self-BLEU is the mean of sentence_bleu of each text with all
others as references, 4-grams with equal weights and smoothing method 1, as Texygen computes it
(arXiv 1802.01886, utils/metrics/SelfBleu.py).
"""

import json
import re

import nltk
import scipy
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.util import ngrams
from scipy.stats import chi2

ALONE = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")

SETS = [
    ["What is this? Be brief.", "What is that? Be brief.", "Look at the picture. What is this?"],
    ["Describe the picture.", "Describe the picture.", "Describe the image in one sentence.", "Say what you see!"],
    ["Yes", "Is it?", "...", "Is it a dog, or a cat?", "What colour is the cat's collar?", "colour"],
    ["图片里有什么？", "请用一句话描述这张图片。", "この写真には何が写っていますか。", "写真を短く説明してください。", "图片里有几只狗？"],
    [
        "How many cups are there? Answer with a number.",
        "How many cups are on the table? Answer with a number.",
        "Answer with a number: how many cups are there?",
        "Using one word, say what colour the cups are.",
        "the the the the the the the",
        "the cups the cups the cups are there are there",
        "Where are the cups? Answer the question using a single word or phrase.",
        "Who holds the cups? Answer the question using a single word or phrase.",
    ],
    [f"Question: what is number {n} of {n % 3} and {n * n}? Short answer:" for n in range(40)]
    + [f"{n} is a number; is it larger than {n + n % 4}?" for n in range(25)]
    + ["Be brief."] * 5,
]
TAILS = [(x, k) for k in (1, 2, 3, 4, 7, 12, 25, 100) for x in (0.01, 0.5, 1.0, 3.84, 10.0, 40.0, 120.0)]


def words(text):
    pieces = ALONE.sub(r" \1 ", text.lower()).split()
    stripped = [re.sub(r"^[\W_]+|[\W_]+$", "", piece) for piece in pieces]
    return [word for word in stripped if word]


def distinct(texts, n):
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / max(1, len(grams))


def self_bleu(texts):
    smoothing = SmoothingFunction().method1
    weights = (0.25, 0.25, 0.25, 0.25)
    scores = []
    for place, text in enumerate(texts):
        others = texts[:place] + texts[place + 1:]
        scores.append(sentence_bleu(others, text, weights, smoothing_function=smoothing) if text else 0.0)
    return sum(scores) / len(scores)


def main():
    sets = []
    for texts in SETS:
        cut = [words(text) for text in texts]
        figures = {"distinct_1": distinct(cut, 1), "distinct_2": distinct(cut, 2), "self_bleu": self_bleu(cut)}
        sets.append({"texts": texts, **figures})
    tails = [[x, k, float(chi2.sf(x, k))] for x, k in TAILS]
    versions = {"nltk": nltk.__version__, "scipy": scipy.__version__}
    print(json.dumps({**versions, "sets": sets, "chi_square_tails": tails}, ensure_ascii=False, indent=1))


main()
