"""Any backbone, student or endpoint asked about a video in one of the prompt modes.

See `docs/ask.md`.
"""
