"""A process from its start to its end: the database, the house, HTTP and the background work, and a calm way out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
import uvicorn

from kinpay.biometrics import gallery_store
from kinpay.database.migrate import SchemaMismatch, is_fit, migrate
from kinpay.primitives.errors import Busy
from kinpay.recovery.closed import closed_as_of
from kinpay.server.asgi import App
from kinpay.server.assemble import application, errands, tasks
from kinpay.server.backlog import Backlog
from kinpay.server.embedded import find_database
from kinpay.server.exposition import written
from kinpay.server.house import House, open_house
from kinpay.server.live import CHANNEL
from kinpay.server.metrics import metrics
from kinpay.server.metrics_port import MetricsPort
from kinpay.server.punctual import Punctual
from kinpay.server.settings import Settings, SettingsWrong
from kinpay.webhooks.send import WAKE_CHANNEL, Sender
from kinpay.worker.listen import Listener
from kinpay.worker.run import Worker
from kinpay.worker.schedule import Schedule

log = logging.getLogger(__name__)

CLOSED_LOOK_S: Final = 2.0
"""How often a process looks whether a database that was restored is open by now."""
GRACE_S: Final = 15
"""How long requests and messages under way may take to finish once the process is asked to stop."""


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Runs the server until SIGTERM or SIGINT; `announce` gets its address once it answers.

    Raises: SettingsWrong, SchemaMismatch, ClusterError, Busy, OSError (the port is taken).
    """
    _want_channel(settings)
    with _listening(settings) as (listening, url):
        async with _house(settings, public_url=settings.public_url or url) as house:
            server = _Server(application(house))
            _spare_the_collector()
            stopping = _on_signals(server.ask_to_exit, house.board.close)
            background = Background(house, work=settings.worker == "inside")
            async with _telling(house, background, server), asyncio.TaskGroup() as group:
                helping = group.create_task(background.run())
                group.create_task(_announce(server, f"kinpay ready on {url}", announce))
                await server.serve(sockets=[listening])
                stopping()
                background.stop()
                await _patiently(helping)


async def work(settings: Settings, announce: Callable[[str], None]) -> None:
    """Runs the background work alone until SIGTERM or SIGINT. Raises: as `serve`."""
    _want_channel(settings)
    async with _house(settings, public_url=settings.public_url or _default_url(settings.host, settings.port)) as house:
        background = Background(house, work=True)
        stopped = asyncio.Event()
        ignore = _on_signals(stopped.set)
        async with _telling(house, background, None), asyncio.TaskGroup() as group:
            helping = group.create_task(background.run())
            announce("kinpay worker ready")
            await stopped.wait()
            ignore()
            background.stop()
            await _patiently(helping)


@asynccontextmanager
async def _telling(house: House, background: Background, serving: _Server | None) -> AsyncIterator[None]:
    """Tells `/metrics` where that is configured, for as long as the block lasts. Raises: OSError (the port is taken)."""
    place = house.settings.metrics_listen
    if place is None:
        yield
        return
    backlog = Backlog(house.db)

    async def text() -> bytes:
        connections = None if serving is None else len(serving.server_state.connections)
        numbers = await backlog.read()
        worker, schedule = background.worker, background.schedule
        return written(metrics(house, numbers, worker=worker, schedule=schedule, connections=connections))

    server = _Server(MetricsPort(text, token=house.settings.metrics_token))
    with _bound(*place) as listening:
        telling = asyncio.create_task(server.serve(sockets=[listening]))
        log.info("telling metrics", extra={"port": listening.getsockname()[1]})
        try:
            yield
        finally:
            server.ask_to_exit()
            await _patiently(telling)


@asynccontextmanager
async def _house(settings: Settings, *, public_url: str) -> AsyncIterator[House]:
    async with located(settings) as url, open_house(settings, url, public_url=public_url) as house:
        yield house


@asynccontextmanager
async def located(settings: Settings) -> AsyncIterator[str]:
    """The address of a database with this program's schema. Our own is started and brought up to date, and stopped at the
    end if it did not run before; somebody else's is only looked at.

    Raises: ClusterError; SchemaMismatch, for which there is `kinpay migrate`; Busy.
    """
    place = await asyncio.to_thread(find_database, settings)
    try:
        if settings.embedded:
            for name in await migrate(place.url):
                log.info("migrated", extra={"migration": name})
        else:
            await _check_schema(place.url)
        yield place.url
    finally:
        await place.leave()


async def _check_schema(url: str) -> None:
    try:
        conn = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as error:
        raise Busy(reason="database") from error
    try:
        if not await is_fit(conn):
            raise SchemaMismatch(reason="not_current")
    except asyncpg.UndefinedTableError:
        raise SchemaMismatch(reason="empty") from None
    finally:
        await conn.close()


class Background:
    """Listening for wake-ups, and, where this process does it, the outbox and the schedule."""

    def __init__(self, house: House, *, work: bool) -> None:
        self._db = house.db
        self._stopped = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None
        self._listener = Listener(house.db)
        self._listener.on(CHANNEL, house.board.heard)
        self._listener.on(gallery_store.CHANNEL, house.galleries.heard)
        self.worker = Worker(house.db, tasks(house)) if work else None
        self.schedule = Schedule(house.db, errands(house)) if work else None
        self._sender = Sender(house.db, house.keys, house.outbound) if work else None
        if self.worker is not None:
            self._listener.on("outbox", self.worker.wake)
        if self._sender is not None:
            self._listener.on(WAKE_CHANNEL, self._sender.wake)

    async def run(self) -> None:
        """Works until `stop`; in a database that is closed after a restore only once it is open."""
        async with asyncio.TaskGroup() as group:
            hearing = self._hearing = group.create_task(self._listener.run())
            if self._parts() and not await self._opens():
                hearing.cancel()
                return
            working = [group.create_task(part.run()) for part in self._parts()]
            if working:
                await asyncio.wait(working)
                hearing.cancel()

    async def _opens(self) -> bool:
        """Waits until the database is open; False if it is to stop before that."""
        while not self._stopped.is_set():
            with contextlib.suppress(Busy):
                async with self._db.connection() as conn:
                    point_at = await closed_as_of(conn)
                if point_at is None:
                    return True
                log.warning("restored and closed: nothing is done before `kinpay requery`")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSED_LOOK_S):
                    await self._stopped.wait()
        return False

    def _parts(self) -> list[Worker | Schedule | Sender]:
        return [part for part in (self.worker, self.schedule, self._sender) if part is not None]

    def stop(self) -> None:
        """Begins nothing more; what is under way is finished."""
        self._stopped.set()
        for part in self._parts():
            part.stop()
        if self.worker is None and self._hearing is not None:
            self._hearing.cancel()


class _Server(uvicorn.Server):
    """uvicorn with our way of stopping: it would raise the signal again after its own, before we have closed anything."""

    def __init__(self, app: App) -> None:
        config: Any = uvicorn.Config(
            app,
            http=Punctual,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
            backlog=2048,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to us."""
        yield

    def ask_to_exit(self) -> None:
        """Takes no new connections and finishes what is under way."""
        self.should_exit = True


async def _announce(server: _Server, text: str, announce: Callable[[str], None]) -> None:
    # uvicorn tells nobody when it is ready.
    while not server.started:
        if server.should_exit:
            return
        await asyncio.sleep(0.02)
    announce(text)


@contextmanager
def _listening(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """Takes the port before anything else, so that a port that is taken starts nothing."""
    with _bound(settings.host, settings.port) as listening:
        yield listening, _default_url(settings.host, listening.getsockname()[1])


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    try:
        yield listening
    finally:
        listening.close()


def _spare_the_collector() -> None:
    """Lets Python's cycle collector look seldom, and never again at what was loaded to start with.

    With hundreds of requests under way it would walk them all after every 700 new objects, which took a tenth of the process's
    time. Reference counts free nearly everything by themselves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def _default_url(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  compared with, not bound to
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _on_signals(*calls: Callable[[], None]) -> Callable[[], None]:
    """Calls them at the first SIGTERM or SIGINT; the returned function lets a second one end the process as usual."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        log.info("stopping")
        for call in calls:
            call()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)

    def ignore() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    return ignore


async def _patiently(task: asyncio.Task[None]) -> None:
    _, late = await asyncio.wait([task], timeout=GRACE_S)
    if late:
        log.warning("background work did not finish in time; its leases will run out")
        task.cancel()


def _want_channel(settings: Settings) -> None:
    if settings.code_channel is None:
        raise SettingsWrong(
            [
                "KINPAY_CODE_CHANNEL: nobody could sign in without one. Write command:PROGRAM, webhook:https://…, or, where "
                "nothing is real, KINPAY_DEMO=1 and file:/PATH."
            ]
        )
