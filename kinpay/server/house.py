"""What a process holds open while it works: one of each, made here and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from kinpay.biometrics.galleries import Galleries
from kinpay.biometrics.keyring import FolderKeyring, Keyring
from kinpay.biometrics.matcher import Tolerance
from kinpay.biometrics.rotation import Rotations
from kinpay.charges.batch import CONNECTIONS, Batcher
from kinpay.database.pool import Database
from kinpay.faces.engine import open_engine
from kinpay.faces.registry import FACE_MODELS
from kinpay.people.channel import Channel
from kinpay.primitives.server_keys import ServerKeys
from kinpay.registrations.registration import Rules as RegistrationRules
from kinpay.server.callbacks import Callbacks
from kinpay.server.front import RequestTally
from kinpay.server.learn import Learner
from kinpay.server.live import NoticeBoard
from kinpay.server.provider_accounts import ProviderAccounts
from kinpay.server.secret_file import read_keys
from kinpay.server.settings import Settings, open_channel
from kinpay.sittings.desk import Desk
from kinpay.sittings.examiner import Examiner
from kinpay.terminals.codes import Codes
from kinpay.terminals.session import TerminalSessions
from kinpay.webhooks.address import Rules
from kinpay.webhooks.outbound import Outbound


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Everything that routes, tasks and commands stand on. `channel` is None where none was configured.

    `desk` is None where no face model is installed; `for_charges`: the connections that batches have to themselves.
    """

    settings: Settings
    public_url: str
    db: Database
    for_charges: Database
    keys: ServerKeys
    codes: Codes
    keyring: Keyring
    rotations: Rotations
    galleries: Galleries
    tolerance: Tolerance
    desk: Desk | None
    rules: RegistrationRules
    providers: ProviderAccounts
    sessions: TerminalSessions
    batcher: Batcher
    callbacks: Callbacks
    board: NoticeBoard
    requests: RequestTally
    channel: Channel | None
    outbound: Outbound


@asynccontextmanager
async def open_house(settings: Settings, database_url: str, *, public_url: str) -> AsyncIterator[House]:
    """Opens everything on a database whose schema is current, and closes it at the end.

    Raises: SettingsWrong for a missing or bad secret; Busy when the database cannot be reached.
    """
    keys = read_keys(settings.secret_file, may_create=settings.embedded)
    keyring = FolderKeyring.open(settings.keyring, keys)
    rotations = Rotations(settings.keyring, keys)
    for_charges = min(CONNECTIONS, settings.max_connections // 2)
    async with AsyncExitStack() as stack:
        db = await Database.open(database_url, max_connections=settings.max_connections - for_charges)
        stack.push_async_callback(db.close)
        hot = await Database.open(database_url, max_connections=for_charges, by_index=True)
        stack.push_async_callback(hot.close)
        galleries = Galleries(db, keyring, rotations, engine=settings.gallery, large=settings.gallery_large)
        stack.push_async_callback(galleries.close)
        tolerance = Tolerance(bound=settings.face_bound, reference=dict(settings.face_reference))
        examiner = _examiner(settings)
        stack.callback(examiner.close)
        desk = None
        if not FACE_MODELS[settings.face_model].missing(settings.models):
            desk = Desk(
                keys=keys,
                keyring=keyring,
                rotations=rotations,
                galleries=galleries,
                examiner=examiner,
                tolerance=tolerance,
            )
        providers = ProviderAccounts(db, keys, timeout_s=settings.provider_timeout_s)
        stack.push_async_callback(providers.close)
        outbound = Outbound(Rules(http=settings.webhook_http, networks=settings.webhook_networks))
        stack.push_async_callback(outbound.close)
        batcher = Batcher(hot)
        stack.push_async_callback(batcher.close)
        yield House(
            settings=settings,
            public_url=public_url,
            db=db,
            for_charges=hot,
            keys=keys,
            codes=Codes(keys),
            keyring=keyring,
            rotations=rotations,
            galleries=galleries,
            tolerance=tolerance,
            desk=desk,
            rules=RegistrationRules(terminal_templates=settings.terminal_templates),
            providers=providers,
            sessions=TerminalSessions(db, keys),
            batcher=batcher,
            callbacks=Callbacks(db, providers, Learner(db, providers, keyring).learn),
            board=NoticeBoard(),
            requests=RequestTally(),
            channel=_channel(settings),
            outbound=outbound,
        )


def _examiner(settings: Settings) -> Examiner:
    """Loads nothing yet."""
    return Examiner(lambda: open_engine(settings.models, settings.face_model), threads=settings.face_threads)


def _channel(settings: Settings) -> Channel | None:
    if settings.code_channel is None:
        return None
    return open_channel(settings.code_channel, demo=settings.demo, secret=settings.code_webhook_secret)
