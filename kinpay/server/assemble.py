"""Which routes, tasks and errands there are: three lists, to be read from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from fastapi import APIRouter

from kinpay.audit.checkpoint import make_checkpoint
from kinpay.biometrics import renew
from kinpay.biometrics.enrol import KEY_TASK, destroy_key, sweep_keys
from kinpay.charges import hot
from kinpay.charges.daily import close_days, debit_the_last, retry_days
from kinpay.charges.day_routes import router as day_routes
from kinpay.charges.hot import ChargeEndpoint, Doors, described
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds, retry_arrears
from kinpay.charges.routes import router as charge_routes
from kinpay.charges.void import void_run_out
from kinpay.database.pool import database_now
from kinpay.mandates.agreement_store import due_agreements
from kinpay.mandates.bind_spender import bind_spender_at_provider, unbind_spender_at_provider
from kinpay.mandates.counters import forget_trails
from kinpay.mandates.end_agreement import end_at_provider
from kinpay.mandates.pin import check_pin
from kinpay.mandates.routes import router as mandate_routes
from kinpay.mandates.sign_agreement import ACTIVE_TOPIC, CLOSED_TOPIC, END_TOPIC, refresh_agreement
from kinpay.mandates.spender_binding import BIND_TOPIC, BOUND_TOPIC, UNBIND_TOPIC
from kinpay.notifications.deliver import tasks as notice_tasks
from kinpay.notifications.routes import router as notice_routes
from kinpay.operators.api_key import authenticate_api_key
from kinpay.operators.api_key_routes import router as api_key_routes
from kinpay.operators.routes import router as operator_routes
from kinpay.people import code
from kinpay.people.channel import CodeNotSent, send_code
from kinpay.people.prune import prune
from kinpay.people.routes import router as people_routes
from kinpay.people.sign_in import authenticate_person
from kinpay.primitives.actor import Actor
from kinpay.primitives.apart import apart
from kinpay.reconciliation.reconcile_day import reconcile_due
from kinpay.reconciliation.routes import router as reconciliation_routes
from kinpay.recovery.gap import ask_again
from kinpay.registrations.authorize import carry_agreement
from kinpay.registrations.captured import command_finished
from kinpay.registrations.expire import expire_provisional, expire_registrations
from kinpay.registrations.face_routes import router as face_enrolling_routes
from kinpay.registrations.routes import router as registration_routes
from kinpay.server import callbacks, health, live
from kinpay.server.app import HotRoute, Parts, build
from kinpay.server.asgi import App
from kinpay.server.auth import Checks
from kinpay.server.house import House
from kinpay.settlements.close import close_settlements
from kinpay.settlements.routes import router as settlement_routes
from kinpay.sittings.expire import expire_sittings
from kinpay.sittings.routes import large_bodies
from kinpay.sittings.routes import router as sitting_routes
from kinpay.statements.close import close_months
from kinpay.statements.roll import roll_days
from kinpay.statements.routes import router as statement_routes
from kinpay.terminals.authenticate import SignedRequest, authenticate_terminal, check_signature
from kinpay.terminals.routes import router as terminal_routes
from kinpay.terminals.session import prune_sessions
from kinpay.terminals.signature import RequestParts
from kinpay.webhooks.announce import tasks as webhook_tasks
from kinpay.webhooks.routes import router as webhook_routes
from kinpay.webhooks.secret import seal_anew
from kinpay.webhooks.store import forget_events
from kinpay.worker.schedule import Errand
from kinpay.worker.tasks import Message, Task, Tasks

log = logging.getLogger(__name__)

AGREEMENTS_AT_ONCE = 50
KEYS_KEPT = timedelta(hours=1)
EVENTS_KEPT = timedelta(days=30)


def application(house: House) -> App:
    """The HTTP side."""

    async def person(token: str) -> Actor | None:
        return await authenticate_person(house.db, token)

    async def terminal(parts: RequestParts) -> Actor | None:
        return await authenticate_terminal(house.db, parts, sessions=house.sessions)

    async def api_key(token: str) -> Actor | None:
        return await authenticate_api_key(house.db, house.keys, token)

    operation, schemas = described()
    return build(
        Parts(
            routers=routers(house),
            checks=Checks(person=person, terminal=terminal, api_key=api_key),
            hot={("POST", hot.PATH): HotRoute(_charge_endpoint(house), operation, schemas)},
            unparsed=callbacks.is_callback,
            large=large_bodies,
            https=house.public_url.startswith("https:"),
            tally=house.requests,
        )
    )


def routers(house: House) -> Sequence[APIRouter]:
    """Every route but the hot one."""
    db, keys, codes = house.db, house.keys, house.codes

    async def person(token: str) -> Actor | None:
        return await authenticate_person(db, token)

    return [
        health.router(db),
        people_routes(db, keys=keys),
        operator_routes(db, keys=keys),
        api_key_routes(db, keys=keys),
        terminal_routes(db, keys=keys, codes=codes, public_url=house.public_url, finished=command_finished),
        mandate_routes(db, keys=keys, codes=codes, providers=house.providers, public_url=house.public_url),
        registration_routes(
            db,
            keys=keys,
            codes=codes,
            keyring=house.keyring,
            providers=house.providers,
            public_url=house.public_url,
            rules=house.rules,
        ),
        face_enrolling_routes(db, keyring=house.keyring, desk=house.desk, rules=house.rules),
        sitting_routes(db, codes=codes, keyring=house.keyring, desk=house.desk),
        charge_routes(db, keys=keys, adapters=house.providers),
        day_routes(db),
        reconciliation_routes(db),
        settlement_routes(db),
        callbacks.router(house.callbacks),
        statement_routes(db),
        notice_routes(db),
        webhook_routes(db, keys=keys, outbound=house.outbound),
        live.router(db, board=house.board, signed_in=person),
    ]


def _charge_endpoint(house: House) -> ChargeEndpoint:
    async def terminal(parts: RequestParts) -> SignedRequest:
        return await check_signature(parts, house.sessions)

    async def person(token: str) -> Actor | None:
        return await authenticate_person(house.db, token)

    async def pin(credential_id: str, given: str | None) -> None:
        await check_pin(house.db, house.keys, credential_id, given)

    doors = Doors(terminal=terminal, person=person, pin=pin)
    return ChargeEndpoint(house.db, house.batcher, keys=house.keys, codes=house.codes, adapters=house.providers, doors=doors)


def tasks(house: House) -> Tasks:
    """What each topic of the outbox asks for."""
    db, providers = house.db, house.providers

    async def send(message: Message) -> None:
        if house.channel is None:
            raise CodeNotSent("no channel is configured")
        async with db.connection() as conn:
            now = await database_now(conn)
        await send_code(message, house.channel, house.keys, now=now)

    async def destroy(message: Message) -> None:
        body = message.body
        await destroy_key(db, house.keyring, template_id=message.subject_id, key_id=body["key_id"], lane=body["lane"])

    async def carry(message: Message) -> None:
        await carry_agreement(db, house.keyring, agreement_id=message.subject_id)

    async def end(message: Message) -> None:
        await debit_the_last(db, providers, message.subject_id)
        await end_at_provider(db, providers, message.subject_id)

    async def bind(message: Message) -> None:
        await bind_spender_at_provider(db, providers, message.subject_id, message.body["spender_id"])

    async def unbind(message: Message) -> None:
        await unbind_spender_at_provider(db, providers, message.subject_id, message.body["spender_id"])

    every: dict[str, Task] = {
        **_both(notice_tasks(db), webhook_tasks(db)),
        code.TOPIC: send,
        KEY_TASK: destroy,
        ACTIVE_TOPIC: carry,
        CLOSED_TOPIC: carry,
        BOUND_TOPIC: carry,
        END_TOPIC: end,
        BIND_TOPIC: bind,
        UNBIND_TOPIC: unbind,
    }
    return every


def _both(people: Mapping[str, Task], machines: Mapping[str, Task]) -> dict[str, Task]:
    """What is told to people and to merchants' machines alike: one that goes wrong does not keep the other from it."""

    def one(topic: str) -> Task:
        async def tell(message: Message) -> None:
            try:
                await machines[topic](message)
            finally:
                await people[topic](message)

        return tell

    return {**people, **{topic: one(topic) for topic in machines}}


def errands(house: House) -> Sequence[Errand]:
    """What is due by time alone."""
    db, providers, keyring = house.db, house.providers, house.keyring

    async def agreements() -> None:
        async with db.connection() as conn:
            due = await due_agreements(conn, limit=AGREEMENTS_AT_ONCE)
        for agreement_id in due:
            await apart(refresh_agreement(db, providers, agreement_id, public_url=house.public_url), agreement_id)

    async def stray_keys() -> None:
        async with db.connection() as conn:
            now = await database_now(conn)
        await sweep_keys(db, keyring, older_than=now - KEYS_KEPT)

    async def wrap_anew() -> None:
        # After a rotation of the secret; where there was none it only looks.
        if count := await keyring.rotate() + await house.rotations.wrap_anew():
            log.info("keys wrapped anew", extra={"count": count})

    async def renew_rotations() -> None:
        await renew.carry_on(db, keyring, house.rotations)

    async def old_seeds() -> None:
        await renew.forget_seeds(db, house.rotations)

    async def trails() -> None:
        async with db.transaction() as conn:
            await forget_trails(conn)

    async def seal_secrets() -> None:
        if count := await seal_anew(db, house.keys):
            log.info("webhook secrets sealed anew", extra={"count": count})

    async def restored_gap() -> None:
        if count := await ask_again(db, providers, public_url=house.public_url):
            log.warning("lost before the restore, booked now", extra={"count": count})

    async def checkpoint() -> None:
        async with db.transaction() as conn:
            await make_checkpoint(conn, house.keys, await database_now(conn))

    return [
        Errand(name="void what ran out", every_s=1, run=lambda: void_run_out(db)),
        Errand(name="ask about debits", every_s=2, run=lambda: reconcile_debits(db, providers)),
        Errand(name="ask about refunds", every_s=5, run=lambda: reconcile_refunds(db, providers)),
        Errand(name="apply callbacks", every_s=5, run=house.callbacks.catch_up),
        Errand(name="ask about agreements", every_s=5, run=agreements),
        Errand(name="expire registrations", every_s=10, run=lambda: expire_registrations(db, keyring)),
        Errand(name="end sittings", every_s=5, run=lambda: expire_sittings(db)),
        Errand(name="destroy provisional templates", every_s=10, run=lambda: expire_provisional(db, keyring)),
        Errand(name="retry what is owed", every_s=60, run=lambda: retry_arrears(db, providers)),
        Errand(name="debit days that are over", every_s=3, run=lambda: close_days(db, providers)),
        Errand(name="retry days that are owed", every_s=5, run=lambda: retry_days(db, providers)),
        Errand(name="sign a checkpoint", every_s=300, run=checkpoint),
        Errand(name="forget nonces", every_s=60, run=lambda: prune_sessions(db)),
        Errand(name="forget codes and sessions", every_s=3600, run=lambda: prune(db)),
        Errand(name="reconcile providers' days", every_s=600, run=lambda: reconcile_due(db, providers)),
        Errand(name="ask again about a restored gap", every_s=900, run=restored_gap),
        Errand(name="close merchants' days", every_s=60, run=lambda: close_settlements(db)),
        Errand(name="sum up days", every_s=60, run=lambda: roll_days(db)),
        Errand(name="close months", every_s=300, run=lambda: close_months(db)),
        Errand(name="forget old uses", every_s=3600, run=trails),
        Errand(name="wrap keys anew", every_s=21600, run=wrap_anew),
        Errand(name="renew rotations", every_s=60, run=renew_rotations),
        Errand(name="forget retired seeds", every_s=86400, run=old_seeds),
        Errand(name="seal webhook secrets anew", every_s=21600, run=seal_secrets),
        Errand(name="forget webhook events", every_s=600, run=lambda: forget_events(db, kept=EVENTS_KEPT)),
        Errand(name="destroy stray keys", every_s=3600, run=stray_keys),
    ]
