"""What was really said over HTTP, for holding the pages against it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Said:
    """A request and its answer."""

    method: str
    path: str
    asked: Any
    status: int
    answer: Any
    headers: dict[str, str]
    text: str = ""


@dataclass
class Recorder:
    """Listens to a client."""

    said: list[Said] = field(default_factory=list)

    def listen(self, http: httpx.AsyncClient) -> None:
        """Notes every answer of `http` from now on."""
        http.event_hooks = {"request": [], "response": [self._note]}

    async def _note(self, response: httpx.Response) -> None:
        await response.aread()
        request = response.request
        asked = json.loads(request.content) if request.content and request.content[:1] == b"{" else None
        answer = json.loads(response.content) if "json" in response.headers.get("content-type", "") else None
        self.said.append(
            Said(
                request.method,
                request.url.path,
                asked,
                response.status_code,
                answer,
                dict(request.headers.items()),
                "" if answer is not None else response.text,
            )
        )

    def of(self, method: str, template: str) -> list[Said]:
        """What was said at a path such as `/v1/charges/{charge_id}`."""
        form = re.compile(re.sub(r"\{\w+\}", "[^/]+", template))
        return [one for one in self.said if one.method == method and form.fullmatch(one.path)]
