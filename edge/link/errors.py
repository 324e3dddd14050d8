"""What can be wrong with a description of a link."""

from __future__ import annotations

__all__ = ["LinkError"]


class LinkError(ValueError):
    """A link or trace that cannot be. The message names what was wrong, where, and what is allowed."""
