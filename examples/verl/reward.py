"""The rewards for `lynxdata instruct --to verl`: compares a reply with the right answer and returns 0 to 1.

In the configuration of verl: `reward.custom_reward_function.path=reward.py`; older versions have `custom_reward_function.path`. The checkers equal
the metrics of `lynxdata eval` of the same names: `vqa_accuracy` as with `--strict`, except that it does not change contractions, and
`option_accuracy` without the texts of options, which a row does not have.
"""

import json
import re
import string

NUMBERS = "zero one two three four five six seven eight nine ten".split()
MARKS = str.maketrans("", "", string.punctuation)
BOX = re.compile(r"\[\s*" + r",\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*\]")


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """Returns the reward of a reply, by the checker that its row names."""
    return CHECKERS[extra_info["checker"]](solution_str, ground_truth)


def exact_match(reply, truth):
    plain = [text.lower().translate(MARKS) for text in (reply, truth)]
    return float(plain[0] == plain[1])


def option_accuracy(reply, truth):
    """Compares the last letter in parentheses, or else the last single letter. Without a capital letter, a small one counts that is in
    parentheses or the whole reply: the "a" of "a dog" names no option."""
    text = f" {reply.strip().strip(',.!?;:' + chr(39))} "
    found = re.findall(r"\(([A-Z])\)", text) or re.findall(r"(?<= )([A-Z])(?= )", text)
    found = found or re.findall(r"\(([a-z])\)", text) or re.findall(r"^ ([a-z]) $", text)
    return float(bool(found) and found[-1].upper() == truth.upper())


def vqa_accuracy(reply, truth):
    """The mean of min(1, matches / 3), leaving out each annotator in turn."""
    equal = [plain_words(answer) == plain_words(reply) for answer in json.loads(truth)]
    return sum(min(1.0, (sum(equal) - this) / 3) for this in equal) / len(equal)


def plain_words(text):
    text = re.sub(r"(?<=\d),(?=\d)", "", text.lower())
    text = re.sub(r"(?<=\w)[;/\[\]\"{}()=+\\_\-><@`,?!](?=\w)", " ", text)
    text = re.sub(r"[;/\[\]\"{}()=+\\_\-><@`,?!]|\.(?!\d)", "", text)
    words = [word for word in text.split() if word not in ("a", "an", "the")]
    return ["0" if word == "none" else str(NUMBERS.index(word)) if word in NUMBERS else word for word in words]


def iou(reply, truth):
    """The intersection over union of the first box of the reply and the right box."""
    found = BOX.search(reply)
    if not found:
        return 0.0
    one, other = ([float(number) for number in BOX.search(text).groups()] for text in (reply, truth))
    sides = [min(one[2 + axis], other[2 + axis]) - max(one[axis], other[axis]) for axis in (0, 1)]
    inside = max(sides[0], 0.0) * max(sides[1], 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside / (sum(areas) - inside) if sum(areas) > inside else 0.0


def number(reply, truth):
    """Whether the last number of the reply is the right one."""
    found = re.findall(r"-?\d+(?:,\d{3})*(?:\.\d+)?", reply)
    return float(bool(found) and as_number(found[-1]) == as_number(truth))


def as_number(text):
    return float(text.replace(",", ""))


CHECKERS = {check.__name__: check for check in (exact_match, option_accuracy, vqa_accuracy, iou, number)}
