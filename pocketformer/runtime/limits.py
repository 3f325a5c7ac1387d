"""How large the parts of a bundle may be: what is larger is refused before it is read. Bytes, where nothing is said."""

from __future__ import annotations

LARGEST_MANIFEST = 2**20
LARGEST_GOLDEN = 16 * 2**20
LARGEST_TOKENIZER = 64 * 2**20
# Protobuf itself ends here, and a bundle's graph is one file. Any other file may be as large.
LARGEST_FILE = 2**31
# All files of an archive together: they are held in memory.
LARGEST_ARCHIVE = 2**31 + 2**28
MOST_FILES = 1_000
# Objects and lists inside one another, in manifest and golden samples.
DEEPEST_JSON = 64
