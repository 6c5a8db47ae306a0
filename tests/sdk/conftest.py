"""The stage of the stories, for the client on a real server with a real bank."""

from __future__ import annotations

from tests.stories.conftest import house, story_bank

__all__ = ["house", "story_bank"]
