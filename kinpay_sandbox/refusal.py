"""What the bank answers when it will not do what it was asked."""

from __future__ import annotations


class Refusal(Exception):
    """A call that is answered by a stable `code` and leaves nothing behind (its transaction rolls back)."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def bad_request() -> Refusal:
    """The refusal of a body that does not have the shape of `docs/sandbox-bank.md`."""
    return Refusal(422, "bad_request")


def not_found() -> Refusal:
    """The refusal of a name the asker does not own; what exists elsewhere looks the same."""
    return Refusal(404, "not_found")
