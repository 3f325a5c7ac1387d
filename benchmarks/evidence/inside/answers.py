"""Runs in the environment under test: ``python answers.py BUNDLE FILE.csv COLUMN`` prints the labels as JSON.

One text at a time, so that no answer depends on which texts share its batch.
"""

import csv
import json
import sys

from pocketformer import load

if __name__ == "__main__":
    bundle, file, column = sys.argv[1:]
    with open(file, encoding="utf-8", newline="") as handle:  # noqa: PTH123
        texts = [row[column] for row in csv.DictReader(handle)]
    model = load(bundle)
    print(json.dumps([model.predict_one(text).label for text in texts]))
