"""causaldrive: driving models that say why."""

__version__ = "0.1.0"
