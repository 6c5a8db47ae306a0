"""A person at the bank's pages: fetches them, fills in their forms, presses their buttons.

Used by tests and the demo; it knows nothing that is not on the pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

import httpx


class PageRefusedError(Exception):
    """The bank's page did not let the person go on; `status` and the page's text say why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


@dataclass(slots=True)
class Form:
    """A form on a page: where it goes, what it holds, and which `name=value` its buttons add."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Page(HTMLParser):
    """Finds the forms of a page and the text of its <main>."""

    def __init__(self, html: str, *, address: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.words: list[str] = []
        self._address = address
        self._in_main = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "main":
            self._in_main = True
        elif tag == "form":
            self.forms.append(Form(urljoin(self._address, values.get("action", ""))))
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "button" and self.forms and values.get("name"):
            self.forms[-1].buttons.append((values["name"], values.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        self._in_main = self._in_main and tag != "main"

    def handle_data(self, data: str) -> None:
        if self._in_main and data.strip():
            self.words.append(data.strip())


class BankCustomer:
    """Plays one customer in one browser. Use as `async with BankCustomer(base_url, login, password) as person`."""

    def __init__(self, base_url: str, login: str, password: str) -> None:
        self._home = base_url.rstrip("/") + "/my"
        self._login = login
        self._password = password
        self._http = httpx.AsyncClient(timeout=30, follow_redirects=False, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the browser."""
        await self._http.aclose()

    async def agree(self, approve_url: str) -> str:
        """Sign in, read the terms, agree; returns the address the bank sends the person back to."""
        return await self._decide(approve_url, "agree")

    async def refuse(self, approve_url: str) -> str:
        """Sign in, read the terms, refuse; returns the address the bank sends the person back to."""
        return await self._decide(approve_url, "refuse")

    async def read(self, address: str) -> str:
        """Return the words on a page of the bank, signing in if it asks; e.g. what `/my` shows."""
        return " ".join((await self._open(address)).words)

    async def my_page(self) -> str:
        """Return the words on the customer's own page."""
        return await self.read(self._home)

    async def end_agreement(self, agreement_id: str) -> None:
        """Press "end agreement" on the customer's own page. Raises: PageRefusedError when there is no such button."""
        await self._press(f"/my/agreements/{quote(agreement_id, safe='')}/end")

    async def remove_spender(self, agreement_id: str, ref: str) -> None:
        """Press "remove" beside a spender on the customer's own page. Raises: PageRefusedError."""
        await self._press(f"/my/agreements/{quote(agreement_id, safe='')}/spenders/{quote(ref, safe='')}/remove")

    async def _decide(self, approve_url: str, decision: str) -> str:
        page = await self._open(approve_url)
        form = next((one for one in page.forms if ("decision", decision) in one.buttons), None)
        if form is None:
            raise PageRefusedError(200, " ".join(page.words))
        answer = await self._http.post(form.action, data=form.fields | {"decision": decision})
        if answer.status_code != 303:
            raise PageRefusedError(answer.status_code, _words(answer))
        return str(answer.headers["location"])

    async def _press(self, path: str) -> None:
        page = await self._open(self._home)
        form = next((one for one in page.forms if urlsplit(one.action).path == path), None)
        if form is None:
            raise PageRefusedError(404, " ".join(page.words))
        answer = await self._http.post(form.action, data=form.fields)
        if answer.status_code != 303:
            raise PageRefusedError(answer.status_code, _words(answer))

    async def _open(self, address: str) -> _Page:
        """Fetch a page, following the bank's own redirects, signing in once if it asks for the password."""
        signed_in = False
        answer = await self._http.get(address)
        for _ in range(6):
            if answer.status_code == 303:
                address = urljoin(address, answer.headers["location"])
                answer = await self._http.get(address)
                continue
            page = _Page(answer.text, address=address)
            form = next((one for one in page.forms if "password" in one.fields), None)
            if form is None and answer.status_code == 200:
                return page
            if form is None or signed_in:
                raise PageRefusedError(answer.status_code, " ".join(page.words))
            signed_in = True
            filled = form.fields | {"login": self._login, "password": self._password}
            answer = await self._http.post(form.action, data=filled)
        raise PageRefusedError(answer.status_code, "the bank keeps sending the person on")


def _words(answer: httpx.Response) -> str:
    return " ".join(_Page(answer.text, address=str(answer.url)).words)
