"""Step 1: meta actions, keyframes, teachers, validators, critics, the label store.

Reads: recordings. Writes: label sets (labels.parquet). Knows nothing of tokens or models.
"""
