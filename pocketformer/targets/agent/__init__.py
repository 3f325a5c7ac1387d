"""The device agent: one file that the host sends over SSH, and that probes, verifies, predicts and measures there.

It also builds TensorRT engines, where that is installed. It runs on Python 3.9 or newer with numpy, onnxruntime and
tokenizers. ``start`` is what the file begins with, ``main`` its command line, ``build`` packs it on the host. It
answers with one JSON object a line on standard output, each with its ``event``: ``hello``, ``progress``, ``power``,
``result``, ``data``, ``warning``, ``rejected``, ``error``, ``done``.
"""
