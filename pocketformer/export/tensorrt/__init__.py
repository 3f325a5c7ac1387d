"""What TensorRT is given: a typed graph, and what its parser says about each of its nodes.

``typed_graph`` writes the precision into the ONNX file, ``compatibility`` says what to change in nodes that are
rejected, ``build`` makes the engine on this machine by ``pocketformer.runtime.tensorrt``. Importing this package
imports no TensorRT. docs/tensorrt.md says what was run and what never was.
"""
