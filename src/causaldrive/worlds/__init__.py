"""Where it drives: scenes, agents, lights, the embedded town, log replay, renderer, privileged expert, episodes.

Reads: recordings (for replay). Writes: recordings. Knows nothing of labels, tokens or models.
"""
