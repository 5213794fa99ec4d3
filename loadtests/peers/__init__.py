"""Other ways to serve the same image classifier, each in an environment of its own.

Every module here is a program: `python -m loadtests.peers.NAME GRAPH SIDE LABELS THREADS` serves a
graph that takes uint8 [N, SIDE, SIDE, 3] and gives probabilities, on the port CONVSERVE_PORT.
"""
