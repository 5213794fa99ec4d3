"""Other ways to serve the same image classifier, each in an environment of its own.

Every module here is a program: `python -m loadtests.peers.NAME` serves a graph that takes uint8
[N, side, side, 3] and gives probabilities, on the port CONVSERVE_PORT; CLASSIFIER holds, as JSON,
its `graph`, `side`, `labels` and the `threads` of a run.
"""
