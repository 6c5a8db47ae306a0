"""Sending: a loop beside the worker's that leases deliveries, sends them with nothing held, and records how it went.

A sender that dies between sending and recording leaves a lease that runs out; another one then sends the same message, under
the same id, once more. At least once, never lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from kinpay.database.pool import Database
from kinpay.primitives.errors import Busy
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken, ServerKeys
from kinpay.webhooks.delivery import Leased, Share
from kinpay.webhooks.outbound import Outbound, Sent
from kinpay.webhooks.signature import signed_headers
from kinpay.webhooks.store import claim, record, secrets_of

log = logging.getLogger(__name__)

WAKE_CHANNEL: Final = "webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingPace:
    """How much at once, in all and to one endpoint (at most 4); times in seconds. An attempt ends well within its lease."""

    at_once: int = 128
    each: int = 4
    poll_s: float = 1.0
    lease_s: float = 60.0

    @property
    def share(self) -> Share:
        """Half of it all for more than one attempt to the same endpoint, a quarter for endpoints that fail, an eighth for one
        merchant."""
        return Share(
            each=self.each,
            of_one=max(self.each, self.at_once // 8),
            further=self.at_once // 2,
            failing=max(1, self.at_once // 4),
        )


class Sender:
    """Sends until told to stop. Any number of them may run, in any number of processes."""

    def __init__(
        self,
        db: Database,
        keys: ServerKeys,
        outbound: Outbound,
        *,
        pace: SendingPace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` in [0, 1) spreads retries, so that what failed together does not return together."""
        self._db = db
        self._keys = keys
        self._outbound = outbound
        self._pace = pace or SendingPace()
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()

    def wake(self, _payload: str = "") -> None:
        """There may be something to send; for `Listener.on(WAKE_CHANNEL, …)`."""
        self._wake.set()

    def stop(self) -> None:
        """Claims nothing more; `run` returns when what was claimed is done."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Sends until `stop`; cancelling it cancels what is under way, whose leases then run out."""
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._fill():
                    await self._rest()
            if self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()

    async def run_until_idle(self) -> int:
        """Sends what is due now, and what that makes due, and returns how many attempts that took; for commands and tests."""
        attempts = 0
        while batch := await self._claim(self._pace.at_once):
            await asyncio.gather(*(self._deliver(leased, secrets) for leased, secrets in batch))
            attempts += len(batch)
        return attempts

    async def _fill(self) -> bool:
        room = self._pace.at_once - len(self._under_way)
        if room <= 0:
            return False
        try:
            batch = await self._claim(room)
        except Busy:
            return False
        except Exception as error:
            log.error("cannot claim webhook deliveries", extra={"error": type(error).__name__}, exc_info=error)
            return False
        for leased, secrets in batch:
            task = asyncio.create_task(self._deliver(leased, secrets))
            self._under_way.add(task)
            task.add_done_callback(self._over)
        return bool(batch)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._pace.poll_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _claim(self, room: int) -> list[tuple[Leased, list[Sealed[bytes]]]]:
        lease = timedelta(seconds=self._pace.lease_s)
        async with self._db.transaction() as conn:
            batch = await claim(conn, at_most=room, share=self._pace.share, lease=lease)
            secrets: dict[str, list[Sealed[bytes]]] = {}
            for endpoint_id in {leased.endpoint_id for leased in batch}:
                try:
                    secrets |= await secrets_of(conn, self._keys, [endpoint_id])
                except SealBroken:
                    log.error("a webhook's secret cannot be opened", extra={"endpoint_id": endpoint_id})
        return [(leased, secrets.get(leased.endpoint_id, [])) for leased in batch]

    async def _deliver(self, leased: Leased, secrets: list[Sealed[bytes]]) -> None:
        sent = await self._send(leased, secrets)
        about = {"delivery_id": leased.id, "endpoint_id": leased.endpoint_id, "attempt": leased.attempts}
        try:
            async with self._db.transaction() as conn:
                kept = await record(conn, leased, sent, jitter=self._jitter())
        except Exception as error:
            # Its lease runs out, and it is sent again.
            log.warning("outcome of a webhook not kept", extra=about | {"error": type(error).__name__})
            return
        if not kept:
            log.warning("lease was lost; somebody else sends this", extra=about)
        elif sent.error is not None:
            log.info("webhook not taken", extra=about | {"status": sent.status, "error": sent.error})

    async def _send(self, leased: Leased, secrets: list[Sealed[bytes]]) -> Sent:
        if not secrets:
            return Sent(status=None, answer=None, error="no_secret", duration_ms=0)
        body = leased.body.encode()
        signed = signed_headers(secrets, message_id=leased.message_id, timestamp_s=int(leased.now.timestamp()), body=body)
        return await self._outbound.post(leased.url, headers={"content-type": "application/json", **signed}, body=body)
