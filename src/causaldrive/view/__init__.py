"""What a person looks at: the page over all stages of a run.

Reads run directories; writes pages. Knows nothing of how the numbers were made.
"""
