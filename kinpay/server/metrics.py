"""`/metrics`: the numbers of this process, and of what is left to do, under the names that `docs/alerts.md` and dashboards use.

No person, no id and nothing that was sent is in a label; each label has a number of values that the program alone decides.
Every process tells its own counters; what comes from the tables (`kinpay_backlog_…`) is the same from all: take the maximum.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Final

from kinpay.charges.batch import BatchTally
from kinpay.database.migrate import migrations
from kinpay.primitives.tally import Timed
from kinpay.server import machine
from kinpay.server.backlog import Numbers
from kinpay.server.exposition import Metric
from kinpay.server.front import RequestTally
from kinpay.server.house import House
from kinpay.worker.run import Worker
from kinpay.worker.schedule import Schedule

BACKLOG: Final[Mapping[str, tuple[str, str]]] = {
    "outbox_open": ("outbox_open", "Messages of the outbox that are not delivered yet."),
    "outbox_oldest_s": ("outbox_oldest_seconds", "How long the message that is due longest has been due."),
    "messages_dead": ("messages_dead", "Messages of the outbox that were given up and are not looked after yet."),
    "webhooks_pending": ("webhooks_pending", "Events that endpoints have not taken yet."),
    "webhooks_overdue_s": ("webhooks_overdue_seconds", "For how long the next attempt at some endpoint has been due."),
    "webhooks_disabled": ("webhooks_disabled", "Endpoints that were disabled because they failed for days or said 410."),
    "inbox_open": ("inbox_open", "Callbacks of providers that were received and not applied yet."),
    "debits_unknown": ("debits_unknown", "Debits of which nobody knows yet whether they happened."),
    "debits_overdue_s": ("debits_overdue_seconds", "How long ago the provider should have been asked about a debit."),
    "refunds_open": ("refunds_open", "Refunds that the provider has not finished."),
    "charges_held": ("charges_held", "Charges that are reserved and neither captured nor given up."),
    "charges_due": ("charges_due", "Charges that wait to be debited with their day."),
    "arrears_open": ("arrears_open", "Charges that were delivered and could not be debited."),
    "breaks_open": ("breaks_open", "Differences from a provider's statement that nobody has resolved."),
    "statement_overdue_s": ("statement_overdue_seconds", "For how long the oldest unread statement should have been there."),
    "registrations_open": ("registrations_open", "Registrations under way."),
    "log_not_kept": ("log_not_kept", "Slots of `kinpay backup --wal` that nobody reads, or that the server gave up."),
    "log_held_back_bytes": ("log_held_back_bytes", "What the server keeps of its log for `kinpay backup --wal`."),
    "checkpoint_age_s": ("checkpoint_age_seconds", "How long ago the ends of all lanes were signed."),
}
"""Column of `backlog.LOOK` → name after `kinpay_backlog_`, meaning. Numbers of rows end at 10 000."""


def metrics(
    house: House, numbers: Numbers | None, *, worker: Worker | None, schedule: Schedule | None, connections: int | None
) -> Iterator[Metric]:
    """Everything there is to tell. `numbers` None: the database did not answer. `connections`: of HTTP, where it is served."""
    yield from _process()
    if connections is not None:
        yield Metric("kinpay_http_connections", "gauge", "Open HTTP connections.").add(connections)
        yield from _requests(house.requests)
        yield Metric("kinpay_live_streams", "gauge", "Open streams of notices.").add(house.board.streams)
        yield from _batches(house.batcher.tally, house.batcher.waiting)
    yield from _calls(house.providers.calls)
    yield from _database(house, numbers)
    if worker is not None:
        yield from _messages(worker.tally)
    if schedule is not None:
        yield from _errands(schedule)


def _process() -> Iterator[Metric]:
    build = Metric("kinpay_build_info", "gauge", "Always 1; which program this is.")
    yield build.add(1, version=version("kinpay"), python=platform.python_version(), schema=str(len(migrations())))
    began = "When the process began, in seconds since 1970."
    yield Metric("process_start_time_seconds", "gauge", began).add(machine.began_at())
    yield Metric("process_cpu_seconds_total", "counter", "Processor time taken.").add(machine.cpu_seconds())
    yield Metric("process_resident_memory_bytes", "gauge", "Memory in use.").add(machine.resident_bytes())
    yield Metric("process_open_fds", "gauge", "File descriptors in use.").add(machine.open_files())
    yield Metric("process_max_fds", "gauge", "File descriptors that there may be.").add(machine.most_files())


def _requests(tally: RequestTally) -> Iterator[Metric]:
    answered = Metric(
        "kinpay_http_requests_total", "counter", "Requests by method, template of the route, class of the status."
    )
    took = Metric("kinpay_http_request_seconds", "histogram", "How long requests took, by method and template of the route.")
    for (method, route), seen in sorted(tally.routes.items()):
        for hundreds, count in enumerate(seen.answers):
            if count:
                answered.add(count, method=method, route=route, status=f"{hundreds}xx" if hundreds else "none")
        took.add_histogram(seen.took, method=method, route=route)
    yield answered
    yield took


def _batches(tally: BatchTally, waiting: int) -> Iterator[Metric]:
    decided = Metric("kinpay_charges_decided_total", "counter", "Charges decided, by the state they were decided to.")
    for state, count in sorted(tally.decided.items()):
        decided.add(count, state=state)
    yield decided
    yield Metric("kinpay_orders_waiting", "gauge", "Orders waiting for their batch or for their circle.").add(waiting)
    yield Metric("kinpay_batch_size", "histogram", "Orders in a batch.").add_histogram(tally.size)
    yield Metric("kinpay_batch_seconds", "histogram", "How long a batch took.").add_histogram(tally.took)
    put_off = Metric("kinpay_orders_put_off_total", "counter", "Orders put into a later batch, as their circle was busy.")
    yield put_off.add(tally.put_off)
    again = Metric("kinpay_batches_again_total", "counter", "Batches decided again under locks, after something went wrong.")
    yield again.add(tally.again_with_locks)
    retried = Metric(
        "kinpay_batches_retried_total", "counter", "Batches begun anew, as the database was away or locks crossed."
    )
    yield retried.add(tally.retried)
    failed = Metric("kinpay_orders_failed_total", "counter", "Orders that nothing was decided about; they hear an error.")
    yield failed.add(tally.failed)


def _calls(calls: Mapping[tuple[str, str], Timed]) -> Iterator[Metric]:
    made = Metric(
        "kinpay_provider_calls_total",
        "counter",
        "Calls by provider, operation, outcome (ok, pending, refused, unknown, not_executed, not_known, misconfigured).",
    )
    took = Metric("kinpay_provider_call_seconds", "histogram", "How long calls took, by provider and operation.")
    for (provider, operation), timed in sorted(calls.items()):
        for outcome, count in sorted(timed.outcomes.items()):
            made.add(count, provider=provider, operation=operation, outcome=outcome)
        took.add_histogram(timed.took, provider=provider, operation=operation)
    yield made
    yield took


def _database(house: House, numbers: Numbers | None) -> Iterator[Metric]:
    up = Metric("kinpay_database_up", "gauge", "Whether the database answered this process within two seconds.")
    yield up.add(0 if numbers is None else 1)
    pools = [
        Metric("kinpay_database_connections_in_use", "gauge", "Database connections in use, by pool."),
        Metric("kinpay_database_connections_open", "gauge", "Database connections open, by pool."),
        Metric("kinpay_database_connections_max", "gauge", "Database connections that there may be, by pool."),
    ]
    for pool, db in (("common", house.db), ("charges", house.for_charges)):
        for metric, count in zip(pools, db.connections, strict=True):
            metric.add(count, pool=pool)
    yield from pools
    if numbers is not None:
        for column, (name, meaning) in BACKLOG.items():
            yield Metric(f"kinpay_backlog_{name}", "gauge", meaning).add(numbers[column])
        yield Metric("kinpay_notices_total", "counter", "Notices made, by all processes.").add(numbers["notices_made"])


def _messages(tally: Mapping[str, Timed]) -> Iterator[Metric]:
    tried = Metric(
        "kinpay_messages_total", "counter", "Messages of the outbox by topic and outcome (delivered, put_off, given_up)."
    )
    took = Metric("kinpay_message_seconds", "histogram", "How long a delivery took, by topic.")
    for topic, timed in sorted(tally.items()):
        for outcome, count in sorted(timed.outcomes.items()):
            tried.add(count, topic=topic, outcome=outcome)
        took.add_histogram(timed.took, topic=topic)
    yield tried
    yield took


def _errands(schedule: Schedule) -> Iterator[Metric]:
    every = Metric("kinpay_errand_interval_seconds", "gauge", "How often an errand is due.")
    runs = Metric("kinpay_errand_runs_total", "counter", "How often this process began an errand.")
    failures = Metric("kinpay_errand_failures_total", "counter", "How often an errand failed here.")
    seconds = Metric("kinpay_errand_seconds_total", "counter", "Time that an errand took here, together.")
    last = Metric(
        "kinpay_errand_last_success_timestamp_seconds", "gauge", "When an errand last ran through here; before that, the start."
    )
    for errand in schedule.errands:
        tally = schedule.tally[errand.name]
        every.add(errand.every_s, errand=errand.name)
        runs.add(tally.runs, errand=errand.name)
        failures.add(tally.failures, errand=errand.name)
        seconds.add(tally.seconds, errand=errand.name)
        last.add(tally.last_success_at, errand=errand.name)
    yield from (every, runs, failures, seconds, last)
