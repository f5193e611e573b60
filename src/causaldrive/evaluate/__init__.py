"""How good a driver is: open loop, closed loop and its reasons, with intervals, failures counted apart.

Reads recordings, labels and checkpoints; writes results. Knows nothing of training.
"""
