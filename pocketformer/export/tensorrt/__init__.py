"""TensorRT: a typed graph, what the parser says about each of its nodes, and an engine built ahead of time.

``library`` finds NVIDIA's TensorRT or TensorRT-RTX, ``typed_graph`` writes the precision into the ONNX file,
``compatibility`` asks the parser node by node, ``build`` makes the engine with its fingerprint and layer report.
Importing this package imports none of them. docs/tensorrt.md says what was run and what never was.
"""
