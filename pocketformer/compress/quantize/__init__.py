"""Quantization: fp32 graphs or models in, int8 graphs out, tables in 8 or 4 bits.

``portfolio`` lists every candidate by name and makes one at a time; ``config`` holds the settings and imports
nothing heavy; one file is one method.
"""
