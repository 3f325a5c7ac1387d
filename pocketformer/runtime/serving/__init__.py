"""A small HTTP server around a bundle, from the extra ``serve`` (starlette and uvicorn).

``server`` runs it, ``app`` answers, ``payload`` reads what was sent and holds it to the limits, ``figures`` counts what
goes through for Prometheus.
"""
