"""What every room stands on: errors a person can read, atomic files, run directories, progress, the shared words.

Reads and writes: files it is told to. Knows nothing of driving, models or simulators.
"""
