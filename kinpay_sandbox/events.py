"""Events on their way out: written in the transaction of their cause, sent from the database until they are taken.

One sender per client at a time, in order. An event that is not taken steps aside and comes again by `RETRY_AFTER_S`;
it does not hold up those behind it. Source: docs/sandbox-bank.md §2 (event), §5, §6.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from kinpay_sandbox.books import EVENTS_CHANNEL, Connection, Pool, Row, new_id, now_utc, stamp
from kinpay_sandbox.client import Client, find_client
from kinpay_sandbox.signing import WINDOW_S, BankKey, new_key, request_text
from kinpay_sandbox.wire import write_json

RETRY_AFTER_S = (1, 2, 5, 15, 60, 300, 1800, 7200, 6 * 3600, 24 * 3600)
MODES = frozenset({"normal", "hold", "duplicate", "reverse", "forge"})
FORGERIES = ("unsigned", "wrong_key", "altered", "stale")
LONGEST_NAP_S = 5.0
ANSWER_WITHIN_S = 10.0

log = logging.getLogger("kinpay_sandbox.events")

INSERT_EVENT = """
INSERT INTO events (event_id, client_id, type, body, created_at, due_at) VALUES ($1, $2, $3, $4, $5, $5)"""
WAKE_EVENTS = f"SELECT pg_notify('{EVENTS_CHANNEL}', '')"


async def tell(conn: Connection, client_id: str, *, type: str, data: dict[str, Any]) -> str:
    """Write an event in the transaction of its cause; it leaves when that commits. Returns the event id."""
    event_id = new_id("ev")
    created_at = now_utc()
    body = write_json({"event_id": event_id, "type": type, "created_at": stamp(created_at), "data": data})
    await conn.execute(INSERT_EVENT, event_id, client_id, type, body, created_at)
    await conn.execute(WAKE_EVENTS)
    return event_id


@dataclass(slots=True)
class Manner:
    """How events leave at present; kept in memory, so that a restart is back to normal."""

    mode: str = "normal"
    copies: int = 2
    delay_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Tell whether nothing leaves until `release`."""
        return self.mode in ("hold", "reverse")


DUE_CLIENTS = "SELECT DISTINCT client_id FROM events WHERE state = 'waiting' AND due_at + $2 <= $1"
NEXT_DUE = "SELECT min(due_at) FROM events WHERE state = 'waiting' AND due_at > $1"
NEXT_EVENT = """
SELECT event_id, client_id, body, attempts FROM events
WHERE client_id = $1 AND state = 'waiting' AND due_at + $3 <= $2
ORDER BY send_order, sequence LIMIT 1"""
RECORD_SENDING = "INSERT INTO deliveries (event_id, forged, sent_at, status, error) VALUES ($1, $2, $3, $4, $5)"
RECORD_TAKEN = "UPDATE events SET state = 'delivered', attempts = attempts + 1 WHERE event_id = $1"
RECORD_REFUSED = "UPDATE events SET attempts = attempts + 1, due_at = $2 WHERE event_id = $1"
RECORD_GIVEN_UP = "UPDATE events SET attempts = attempts + 1, state = 'given_up' WHERE event_id = $1"
RELEASE_IN_ORDER = "UPDATE events SET due_at = $1 WHERE state = 'waiting'"
RELEASE_REVERSED = "UPDATE events SET due_at = $1, send_order = -sequence WHERE state = 'waiting'"
HISTORY = """
SELECT e.event_id, e.client_id, e.type, e.state, e.attempts, e.created_at, e.body FROM events e
WHERE $1::text IS NULL OR e.client_id = $1 ORDER BY e.sequence"""
SENDINGS = "SELECT event_id, forged, sent_at, status, error FROM deliveries ORDER BY delivery_id"


@dataclass(slots=True)
class Postman:
    """Carries the events out, and forges some when told to."""

    db: Pool
    key: BankKey
    http: httpx.AsyncClient
    manner: Manner = field(default_factory=Manner)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _rounds: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Run for ever: start a round for every client with something due, sleep until the next is."""
        try:
            while True:
                self.wake.clear()
                nap_s = LONGEST_NAP_S
                try:
                    nap_s = await self._start_rounds()
                except Exception:  # the loop must outlive a database that is away for a moment
                    log.exception("events could not be sent; trying again")
                    nap_s = 1.0
                try:
                    await asyncio.wait_for(self.wake.wait(), nap_s)
                except TimeoutError:
                    continue
        finally:
            for one in self._rounds.values():
                one.cancel()
            await asyncio.gather(*self._rounds.values(), return_exceptions=True)

    async def _start_rounds(self) -> float:
        if self.manner.holds:
            return LONGEST_NAP_S
        delay = timedelta(seconds=self.manner.delay_s)
        now = now_utc()
        for row in await self.db.fetch(DUE_CLIENTS, now, delay):
            client_id = row["client_id"]
            if client_id not in self._rounds:
                self._rounds[client_id] = asyncio.create_task(self._round(client_id))
        due: datetime | None = await self.db.fetchval(NEXT_DUE, now - delay)
        if due is None:
            return LONGEST_NAP_S
        return min(LONGEST_NAP_S, max(0.01, (due + delay - now_utc()).total_seconds()))

    async def _round(self, client_id: str) -> None:
        """Send what is due to one client, one after the other."""
        try:
            while not self.manner.holds:
                row = await self.db.fetchrow(NEXT_EVENT, client_id, now_utc(), timedelta(seconds=self.manner.delay_s))
                client = None if row is None else await find_client(self.db, client_id)
                if row is None or client is None:
                    return
                await self._deliver(client, row)
        except Exception:
            log.exception("a round of events broke off")
            await asyncio.sleep(1)
        finally:
            del self._rounds[client_id]
            self.wake.set()

    async def _deliver(self, client: Client, row: Row) -> None:
        event_id, body = str(row["event_id"]), bytes(row["body"])
        if self.manner.mode == "forge":
            for how in FORGERIES:
                await self._send(client, event_id=event_id, body=body, forged=how)
        copies = self.manner.copies if self.manner.mode == "duplicate" else 1
        sent = await asyncio.gather(*(self._send(client, event_id=event_id, body=body) for _ in range(copies)))
        if any(status is not None and 200 <= status < 300 for status in sent):
            await self.db.execute(RECORD_TAKEN, event_id)
            return
        attempts = int(row["attempts"])
        if attempts >= len(RETRY_AFTER_S):
            await self.db.execute(RECORD_GIVEN_UP, event_id)
            return
        again_at = now_utc() + timedelta(seconds=RETRY_AFTER_S[attempts] - self.manner.delay_s)
        await self.db.execute(RECORD_REFUSED, event_id, again_at)

    async def _send(self, client: Client, *, event_id: str, body: bytes, forged: str | None = None) -> int | None:
        """Send one copy and record how it was answered; returns the status, None when nothing came back."""
        headers = self._headers(client.callback_url, event_id=event_id, body=body, forged=forged)
        sent = body[:-2] + b',"altered":true}}' if forged == "altered" else body
        status, error, sent_at = None, None, now_utc()
        try:
            answer = await self.http.post(client.callback_url, content=sent, headers=headers, timeout=ANSWER_WITHIN_S)
            status = answer.status_code
        except httpx.HTTPError as problem:
            error = type(problem).__name__
        await self.db.execute(RECORD_SENDING, event_id, forged, sent_at, status, error)
        return status

    def _headers(self, url: str, *, event_id: str, body: bytes, forged: str | None) -> dict[str, str]:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        timestamp = int(time.time()) - (2 * WINDOW_S if forged == "stale" else 0)
        signer = new_key() if forged == "wrong_key" else self.key
        text = request_text("POST", target, timestamp=timestamp, nonce=event_id, body=body)
        headers = {
            "Content-Type": "application/json",
            "Kinbank-Key": self.key.key_id,
            "Kinbank-Timestamp": str(timestamp),
            "Kinbank-Nonce": event_id,
        }
        return headers if forged == "unsigned" else headers | {"Kinbank-Signature": signer.sign(text)}

    async def forge(self, client: Client, *, type: str, data: dict[str, Any], how: str) -> tuple[str, int | None]:
        """Send an event that never happened, badly signed in one way; returns its id and how it was answered."""
        event_id = new_id("ev")
        body = write_json({"event_id": event_id, "type": type, "created_at": stamp(now_utc()), "data": data})
        return event_id, await self._send(client, event_id=event_id, body=body, forged=how)

    async def release(self) -> None:
        """Let what was held go now, newest first if the mode was `reverse`; afterwards the mode is normal."""
        query = RELEASE_REVERSED if self.manner.mode == "reverse" else RELEASE_IN_ORDER
        await self.db.execute(query, now_utc() - timedelta(seconds=self.manner.delay_s))
        self.manner.mode = "normal"
        self.wake.set()

    async def history(self, client_id: str | None) -> dict[str, Any]:
        """Return every event and every sending (forgeries too), and how each was answered."""
        sendings: dict[str, list[dict[str, Any]]] = {}
        for row in await self.db.fetch(SENDINGS):
            one = {
                "forged": row["forged"],
                "sent_at": stamp(row["sent_at"]),
                "status": row["status"],
                "error": row["error"],
            }
            sendings.setdefault(row["event_id"], []).append(one)
        events = [
            {
                "event_id": row["event_id"],
                "client_id": row["client_id"],
                "type": row["type"],
                "state": row["state"],
                "attempts": row["attempts"],
                "created_at": stamp(row["created_at"]),
                "body": bytes(row["body"]).decode(),
                "sendings": sendings.pop(row["event_id"], []),
            }
            for row in await self.db.fetch(HISTORY, client_id)
        ]
        forged = {} if client_id is not None else sendings
        return {"mode": self.manner.mode, "events": events, "forged": forged}
