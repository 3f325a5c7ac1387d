"""The grid of peers: what other tools make of the same teacher, measured beside Pocketformer's bundle."""
