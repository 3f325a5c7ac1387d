"""What travels to the device: it reads a bundle, predicts, times itself and tests itself.

It needs numpy, onnxruntime and tokenizers, runs on Python 3.9, and knows nothing of training::

    from pocketformer import load

    model = load("bundles/cpu")
    model.predict(["What is the capital of France ?"])

The light vocabulary that all rooms share stands here too: errors, result types, the manifest, metrics
and the timing loop. Importing this package imports none of them.
"""
