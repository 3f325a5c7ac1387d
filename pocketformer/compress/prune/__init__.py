"""Structured pruning: heads, neurons, layers and vocabulary are removed, so shapes and files shrink."""
