"""What the agent's file begins with. Any Python must be able to read it, to be told that it is too old."""

import json
import sys

OLDEST = (3, 9)

if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        refusal = {
            "event": "error",
            "kind": "python-too-old",
            "message": "Python is version %d.%d there; the agent needs %d.%d or newer"  # noqa: UP031 - f-strings are newer than this file may be
            % (tuple(sys.version_info[:2]) + OLDEST),
            "hint": "Install a newer Python on the device and name it with --python.",
            "exit_code": 4,
        }
        sys.stdout.write(json.dumps(refusal) + "\n")
        sys.exit(4)
    from pocketformer.targets.agent.main import run

    sys.exit(run(sys.argv[1:]))
