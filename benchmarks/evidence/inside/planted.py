"""``python planted.py FOLDER``: what the compatibility report says of each planted bad graph, as one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from evidence.planted_graphs import PLANTED, write_planted

import pocketformer
from pocketformer.export.tensorrt.compatibility import check_compatibility

if __name__ == "__main__":
    reports = {}
    for number, planted in enumerate(PLANTED):
        graph = write_planted(planted, Path(sys.argv[1]) / f"{number}.onnx")
        reports[planted.name] = [rejected.to_dict() for rejected in check_compatibility(graph)]
    print(json.dumps({"package": pocketformer.__file__, "reports": reports}))
