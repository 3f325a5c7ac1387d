"""What the host has a device run before the agent is there: for sh, and for a Python of whatever age."""

from __future__ import annotations

NO_SPACE, NO_FOLDER, DAMAGED = 28, 73, 75  # how the scripts below end
READY, GONE = "pocketformer-folder ", "pocketformer-gone"
# Holds the folder while its input is open. The second rm is for a file written during the first.
KEEP = """umask 077
d=$(mktemp -d {parent}/pocketformer-XXXXXXXX) && d=$(cd "$d" && pwd) || exit 73
trap 'rm -rf "$d"' EXIT
trap 'exit 0' HUP INT TERM
echo "pocketformer-folder $d"
cat >/dev/null
rm -rf "$d" || {{ sleep 1; rm -rf "$d"; }}
echo pocketformer-gone"""
# Any Python can run it: which one is there is told by the agent itself.
INSTALL = """import hashlib, sys
data = getattr(sys.stdin, 'buffer', sys.stdin).read()
if hashlib.sha256(data).hexdigest() != sys.argv[2]: sys.exit(75)
try:
    with open(sys.argv[1], 'wb') as file: file.write(data)
except (IOError, OSError) as error:
    sys.exit(28 if error.errno in (28, 122) else str(error))"""
