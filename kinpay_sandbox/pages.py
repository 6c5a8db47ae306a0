"""The bank's pages for people: sign in, agree or refuse, and look after one's own account. No script is needed.

Source: docs/sandbox-bank.md §3; CN109191092A [0026] (the payer agrees at the provider), claim 5.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from kinpay_sandbox.agree import answer_agreement, end_agreement
from kinpay_sandbox.agreement import Agreement, agreements_of, find_agreement_by_token, lock_agreement
from kinpay_sandbox.bank import Bank
from kinpay_sandbox.books import Connection, now_utc
from kinpay_sandbox.client import find_client
from kinpay_sandbox.customer import check_password, find_customer
from kinpay_sandbox.refusal import Refusal
from kinpay_sandbox.session import COOKIE, LIFE, Session, begin_session, end_session, find_session
from kinpay_sandbox.spender import remove_spender
from kinpay_sandbox.texts import TEXTS, choose_language, write_money
from kinpay_sandbox.wire import read_body

HERE = Path(__file__).parent
LANGUAGE_COOKIE = "kinbank_lang"
NEXT = re.compile(r"/my|/approve/[A-Za-z0-9_-]{1,64}")
STYLE = (HERE / "static" / "bank.css").read_bytes()

templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
templates.globals["money"] = write_money


class Visit:
    """One request of a browser: its language, its session, and the pages it is shown."""

    def __init__(self, request: Request, session: Session | None) -> None:
        self.request = request
        self.bank: Bank = request.app.state.bank
        self.session = session
        self.language = choose_language(
            request.query_params.get("lang"),
            request.cookies.get(LANGUAGE_COOKIE),
            request.headers.get("accept-language", ""),
        )

    def page(self, template: str, *, status: int = 200, form_action: str = "", stay_at: str = "", **values: Any) -> Response:
        """Render a page under a policy that lets it load nothing but our style and send forms only to us
        (and to where this very page says it will send the person back)."""
        texts = TEXTS[self.language]
        other = "zh" if self.language == "en" else "en"
        html = templates.get_template(template).render(
            t=texts,
            lang="zh-CN" if self.language == "zh" else "en",
            language_link=f"{stay_at}?lang={other}",
            session=self.session,
            **values,
        )
        policy = (
            f"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'{form_action}; frame-ancestors 'none'"
        )
        response = Response(html, status, media_type="text/html")
        response.headers["Content-Security-Policy"] = policy
        return self.finish(response)

    def finish(self, response: Response) -> Response:
        """Put the cookies and the cautious headers on any answer to a browser."""
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        secure = self.bank.base_url.startswith("https:")
        if self.session is not None:
            age_s = int(LIFE.total_seconds())
            response.set_cookie(COOKIE, self.session.session_id, max_age=age_s, httponly=True, samesite="lax", secure=secure)
        if self.request.query_params.get("lang") in TEXTS:
            response.set_cookie(LANGUAGE_COOKIE, self.language, httponly=True, samesite="lax", secure=secure)
        return response

    def go(self, address: str) -> Response:
        """Send the browser on by 303."""
        return self.finish(RedirectResponse(address, 303))

    async def sign_in_page(self, back_to: str, *, problem: str = "", status: int = 200) -> Response:
        """Show the login form, in a session of its own if the browser has none yet."""
        if self.session is None:
            self.session = await begin_session(self.bank.db)
        return self.page("sign_in.html", status=status, stay_at=back_to, back_to=back_to, problem=problem)

    def note(self, text: str, *, status: int = 200) -> Response:
        """Show a page that only says something."""
        return self.page("note.html", status=status, text=text)


Page = Callable[[Visit], Awaitable[Response]]


def _endpoint(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        cookie = request.cookies.get(COOKIE)
        session = await find_session(request.app.state.bank.db, cookie) if cookie else None
        visit = Visit(request, session)
        try:
            return await page(visit)
        except Refusal as refusal:
            known = {"account_frozen": "frozen", "not_found": "not_found", "form_expired": "form_expired"}
            status = {"form_expired": 403}.get(refusal.code, refusal.status)
            return visit.note(known.get(refusal.code, "form_expired"), status=status)

    return answer


async def _form(visit: Visit) -> dict[str, str]:
    """Read a form of our own. Raises: Refusal(403, form_expired) if it is not from this browser's session."""
    try:
        pairs = parse_qsl((await read_body(visit.request)).decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Refusal(403, "form_expired") from None
    form = dict(pairs)
    if visit.session is None or not visit.session.accepts(form.get("csrf", "")):
        raise Refusal(403, "form_expired")
    return form


async def show_sign_in(visit: Visit) -> Response:
    """Show the login form for `/my`."""
    return await visit.sign_in_page("/my")


async def sign_in(visit: Visit) -> Response:
    """Check a login and go on to the page it was for."""
    form = await _form(visit)
    back_to = form.get("back_to", "/my")
    if not NEXT.fullmatch(back_to):
        back_to = "/my"
    login = form.get("login", "").strip()
    try:
        right = await check_password(visit.bank.db, login, password=form.get("password", ""))
    except Refusal as refusal:
        problem = "paused" if refusal.code == "paused" else "wrong_login"
        return await visit.sign_in_page(back_to, problem=problem, status=refusal.status)
    if not right:
        return await visit.sign_in_page(back_to, problem="wrong_login", status=401)
    if visit.session is not None:
        await end_session(visit.bank.db, visit.session)
    visit.session = await begin_session(visit.bank.db, login)
    return visit.go(back_to)


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    await _form(visit)
    if visit.session is not None:
        await end_session(visit.bank.db, visit.session)
    visit.session = None
    return visit.go("/login")


def _return_origin(agreement: Agreement) -> str:
    parts = urlsplit(agreement.return_url)
    return f" {parts.scheme}://{parts.netloc}"


def _return_address(agreement: Agreement) -> str:
    parts = urlsplit(agreement.return_url)
    query = (parts.query + "&" if parts.query else "") + urlencode({"agreement_key": agreement.key})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


async def _approval(visit: Visit) -> Agreement | Response:
    """Return the agreement this page is about, if it waits for the person who is signed in; else what to show instead."""
    token = visit.request.path_params["token"]
    agreement = await find_agreement_by_token(visit.bank.db, token)
    if agreement is None:
        return visit.note("not_found", status=404)
    back_to = f"/approve/{token}"
    if visit.session is None or visit.session.login is None:
        return await visit.sign_in_page(back_to, problem="")
    if visit.session.login != agreement.login:
        return await visit.sign_in_page(back_to, problem="other_account", status=403)
    if agreement.state != "pending":
        return visit.note(f"decided_{agreement.state}")
    if agreement.expires_at <= now_utc():
        return visit.note("decided_expired", status=410)
    if not visit.session.is_fresh(now_utc()):
        return await visit.sign_in_page(back_to, problem="sign_again")
    return agreement


async def show_approval(visit: Visit) -> Response:
    """Show the payer the terms they are asked to agree to."""
    agreement = await _approval(visit)
    if isinstance(agreement, Response):
        return agreement
    client = await find_client(visit.bank.db, agreement.client_id)
    customer = await find_customer(visit.bank.db, agreement.login)
    return visit.page(
        "terms.html", form_action=_return_origin(agreement), agreement=agreement, client=client, customer=customer
    )


async def decide_approval(visit: Visit) -> Response:
    """Record the payer's decision and send them back to the operator."""
    form = await _form(visit)
    agreement = await _approval(visit)
    if isinstance(agreement, Response):
        return agreement
    decision = form.get("decision")
    if decision not in ("agree", "refuse") or visit.session is None or visit.session.login is None:
        raise Refusal(403, "form_expired")
    async with visit.bank.transaction() as conn:
        decided = await answer_agreement(
            conn,
            agreement.agreement_id,
            login=visit.session.login,
            agrees=decision == "agree",
            base_url=visit.bank.base_url,
        )
    return visit.go(_return_address(decided))


async def show_my(visit: Visit) -> Response:
    """Show a customer their balance, what they agreed to, and who spends under it."""
    if visit.session is None or visit.session.login is None:
        return visit.go("/login")
    db = visit.bank.db
    customer = await find_customer(db, visit.session.login)
    agreements = await agreements_of(db, visit.session.login)
    clients = {one.client_id: await find_client(db, one.client_id) for one in agreements}
    return visit.page("my.html", customer=customer, agreements=agreements, clients=clients, quote=quote)


async def _locked_of_customer(visit: Visit, conn: Connection) -> Agreement:
    """Lock the agreement in the address if it is this customer's. Raises: Refusal(404, not_found)."""
    agreement = await lock_agreement(conn, visit.request.path_params["agreement_id"])
    if visit.session is None or agreement is None or agreement.login != visit.session.login:
        raise Refusal(404, "not_found")
    return agreement


async def end_mine(visit: Visit) -> Response:
    """End one's own agreement."""
    await _form(visit)
    async with visit.bank.transaction() as conn:
        agreement = await _locked_of_customer(visit, conn)
        await end_agreement(conn, agreement, by="payer", reason="", base_url=visit.bank.base_url)
    return visit.go("/my")


async def remove_from_mine(visit: Visit) -> Response:
    """Remove a spender from one's own agreement."""
    await _form(visit)
    async with visit.bank.transaction() as conn:
        agreement = await _locked_of_customer(visit, conn)
        await remove_spender(conn, agreement, ref=visit.request.path_params["ref"], base_url=visit.bank.base_url)
    return visit.go("/my")


async def home(visit: Visit) -> Response:
    """Send everybody to their account."""
    return visit.go("/my")


async def style(_: Request) -> Response:
    """Give out the one style sheet."""
    return Response(STYLE, media_type="text/css", headers={"X-Content-Type-Options": "nosniff"})


def page_routes() -> list[Route]:
    """Return the routes of the pages."""
    pages: list[tuple[str, str, Page]] = [
        ("GET", "/", home),
        ("GET", "/login", show_sign_in),
        ("POST", "/login", sign_in),
        ("POST", "/logout", sign_out),
        ("GET", "/approve/{token}", show_approval),
        ("POST", "/approve/{token}", decide_approval),
        ("GET", "/my", show_my),
        ("POST", "/my/agreements/{agreement_id}/end", end_mine),
        ("POST", "/my/agreements/{agreement_id}/spenders/{ref}/remove", remove_from_mine),
    ]
    routes = [Route(path, _endpoint(page), methods=[method]) for method, path, page in pages]
    return [*routes, Route("/static/bank.css", style, methods=["GET"])]
