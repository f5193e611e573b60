"""Step 4: closed-loop reinforcement learning. The student drives; safety, truth and keeping its word are rewarded.

Reads a student checkpoint; writes a checkpoint of the same format. Knows nothing of evaluation or reports over runs.
"""
