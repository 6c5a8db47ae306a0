"""The stage of the stories, for what the documents promise."""

from __future__ import annotations

from tests.stories.conftest import house, story_bank

__all__ = ["house", "story_bank"]
