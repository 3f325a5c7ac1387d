"""A model goes in, a deployable graph comes out: ONNX export, parity, fusion, and the bundle of an app.

``onnx_export`` writes the graph, ``parity`` proves it against torch, ``fuse`` rewrites it for onnxruntime on
CPU, ``inspect_graph`` tells what is in it, ``bundle`` packs what ships. Importing this package is light; the
exporters are imported when they are used.
"""
