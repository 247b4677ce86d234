"""Computes rewards with `examples/verl/reward.py` and prints, for each checker, the number of golden values of the official scripts and the rewards that
differ. Argument: the folder of the golden values."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples/verl"))

from reward import compute_score

folder = pathlib.Path(sys.argv[1])
GOLDEN = {
    "exact_match": lambda row: row["match"],
    "option_accuracy": lambda row: float(row["parsed"] == row["answers"][0]),
    "vqa_accuracy": lambda row: row["accuracy"] / 100,
    "iou": lambda row: row["iou"],
}

seen = {}
for checker, golden in GOLDEN.items():
    rows = [json.loads(line) for line in (folder / f"{checker}.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "prediction" in row and row["prediction"] is not None]
    differ = []
    for row in rows:
        truth = json.dumps(row["answers"]) if checker == "vqa_accuracy" else row["answers"][0]
        reward = compute_score("task", row["prediction"], truth, {"checker": checker})
        if abs(reward - golden(row)) > 1e-9:
            differ.append([row["prediction"], row["answers"], golden(row), reward])
    seen[checker] = {"rows": len(rows), "differ": differ}
# `lower_case` writes small letters as right answers; replies may have either case.
REPLIES = ("b", "(b)", "b.", "B", "(B)", "B.", "The answer is (b).")
seen["letters"] = [[compute_score("task", reply, truth, {"checker": "option_accuracy"}) for reply in REPLIES] for truth in ("b", "A")]
print(json.dumps(seen))
