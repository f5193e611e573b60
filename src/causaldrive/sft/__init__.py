"""Step 3: supervised fine-tuning. The student learns to think (trace) and to act (tokens and flow) from labels.

Reads recordings, a label set and a student checkpoint; writes a checkpoint of the same format. Knows nothing of
worlds, rewards or evaluation.
"""
