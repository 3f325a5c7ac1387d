"""Devices: what they can do (profiles), what this machine is (probe), and how fast a model runs on them."""
