"""Scene families: each module draws one kind of scene, and its harmless variant, from a generator.

`draft.py` holds what all share. Reads and writes nothing on disk. Knows nothing of the expert or the renderer.
"""
