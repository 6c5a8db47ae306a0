"""The pages people see: theirs alone, safe to press, in both languages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from kinpay_sandbox.person import BankCustomer, PageRefusedError
from kinpay_sandbox.remote import BankControl
from tests.sandbox.asking import PASSWORD, Operator, new_customer


@pytest_asyncio.fixture
async def browser(operator: Operator) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that keeps cookies and follows nothing by itself."""
    async with httpx.AsyncClient(base_url=operator.base_url, trust_env=False) as browser:
        yield browser


def csrf(page: httpx.Response) -> str:
    """The hidden token of a page's forms."""
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


async def sign_in(browser: httpx.AsyncClient, login: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    """Fill in the login form."""
    token = csrf(await browser.get("/login"))
    return await browser.post("/login", data={"csrf": token, "login": login, "password": password, **more})


async def test_pages_load_nothing_foreign_and_cannot_be_framed(
    browser: httpx.AsyncClient, operator: Operator, payer: str
) -> None:
    page = await browser.get("/login")
    policy = page.headers["content-security-policy"]
    assert policy == ("default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    cookie = page.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "<script" not in page.text
    style = await browser.get("/static/bank.css")
    assert style.headers["content-type"].startswith("text/css")
    asked = (await operator.call("POST", "/v1/agreements", operator.terms(payer))).json
    await sign_in(browser, payer)
    terms = await browser.get(asked["approve_url"])
    assert "form-action 'self' https://kinpay.example;" in terms.headers["content-security-policy"]


async def test_pages_speak_both_languages(browser: httpx.AsyncClient) -> None:
    assert "Sign in" in (await browser.get("/login")).text
    chinese = await browser.get("/login", headers={"Accept-Language": "fr;q=0.9, zh-CN;q=0.8, en;q=0.5"})
    assert "登录" in chinese.text
    assert 'lang="zh-CN"' in chinese.text
    assert "登录" in (await browser.get("/login?lang=zh")).text
    assert "登录" in (await browser.get("/login")).text  # the choice is remembered
    assert "Sign in" in (await browser.get("/login?lang=en")).text


async def test_a_form_from_elsewhere_does_nothing(browser: httpx.AsyncClient, operator: Operator, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    asked = (await operator.call("POST", "/v1/agreements", operator.terms(payer))).json
    await sign_in(browser, payer)
    posts: list[tuple[str, dict[str, Any]]] = [
        (asked["approve_url"], {"decision": "agree"}),
        (asked["approve_url"], {"decision": "agree", "csrf": "x" * 32}),
        (f"/my/agreements/{agreement_id}/end", {}),
        (f"/my/agreements/{agreement_id}/spenders/S1/remove", {"csrf": ""}),
    ]
    for address, form in posts:
        assert (await browser.post(address, data=form)).status_code == 403
    told = (await operator.call("GET", f"/v1/agreements/{agreement_id}")).json
    assert (told["state"], told["spenders"][0]["state"]) == ("active", "active")
    assert (await operator.call("GET", f"/v1/agreements/{asked['agreement_id']}")).json["state"] == "pending"


async def test_nobody_touches_anothers_agreement(
    browser: httpx.AsyncClient, operator: Operator, control: BankControl, payer: str
) -> None:
    agreement_id = await operator.agreement(payer)
    await sign_in(browser, await new_customer(control))
    token = csrf(await browser.get("/my"))
    assert (await browser.post(f"/my/agreements/{agreement_id}/end", data={"csrf": token})).status_code == 404
    assert (await operator.call("GET", f"/v1/agreements/{agreement_id}")).json["state"] == "active"


async def test_signing_in_changes_the_session_and_never_leads_elsewhere(browser: httpx.AsyncClient, payer: str) -> None:
    await browser.get("/login")
    before = browser.cookies["kinbank_session"]
    for back_to in ("https://evil.example/", "//evil.example", "/my/../x", "/approve/a?b=//c"):
        answer = await sign_in(browser, payer, back_to=back_to)
        assert (answer.status_code, answer.headers["location"]) == (303, "/my")
    assert browser.cookies["kinbank_session"] != before
    token = csrf(await browser.get("/my"))
    assert (await browser.post("/logout", data={"csrf": token})).status_code == 303
    assert (await browser.get("/my")).headers["location"] == "/login"


async def test_five_wrong_passwords_are_followed_by_a_pause(browser: httpx.AsyncClient, operator: Operator, payer: str) -> None:
    for _ in range(5):
        assert (await sign_in(browser, payer, "wrong")).status_code == 401
    assert (await sign_in(browser, payer)).status_code == 429
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        with pytest.raises(PageRefusedError, match="Too many attempts"):
            await person.my_page()


async def test_an_unknown_login_looks_like_a_wrong_password(browser: httpx.AsyncClient, payer: str) -> None:
    unknown, wrong = await sign_in(browser, "nobody-at-all"), await sign_in(browser, payer, "wrong")
    assert unknown.status_code == wrong.status_code == 401
    assert "not right" in unknown.text


async def test_what_a_person_types_is_shown_as_text(operator: Operator, control: BankControl, payer: str) -> None:
    await operator.agreement(payer, spender={"ref": "S1", "name": "<b>x</b>&\"'"})
    async with httpx.AsyncClient(base_url=operator.base_url, trust_env=False) as browser:
        await sign_in(browser, payer)
        page = (await browser.get("/my")).text
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


async def test_an_address_that_was_never_given_out_shows_nothing(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/approve/guess")).status_code == 404
