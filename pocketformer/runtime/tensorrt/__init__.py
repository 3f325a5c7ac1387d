"""Engines of TensorRT and TensorRT-RTX out of a typed ONNX file: on the workstation, and on a device by the agent.

``library`` finds which of the two is installed, ``parser`` asks it about a graph node by node, ``build`` makes the
engine with its fingerprint and what the builder told of its ``layers``. Importing this package imports none of them;
``runtime.backends.tensorrt`` runs what is built. What writes the typed graph is ``pocketformer.export.tensorrt``.
"""
