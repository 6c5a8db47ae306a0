"""`kinpay doctor` says where faces are searched, and what is missing for it; each thing shown broken once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinpay.biometrics import renew
from kinpay.cli.doctor.examine import examine
from kinpay.cli.doctor.found import Found, Verdict
from kinpay.cli.doctor.galleries import judge_engine
from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.settings import Settings, read_settings
from tests.biometrics.enrolled import open_canteen
from tests.operating.test_doctor import in_order
from tests.server.test_serve import environment, home

__all__ = ["home", "in_order"]


def about(found: list[Found], what: str) -> list[tuple[Verdict, str]]:
    return [(line.verdict, line.says) for line in found if line.about == what]


def told(home: Path, **given: str) -> Settings:
    return read_settings(environment(home, **given))


def test_the_engine_in_use_is_named(home: Path) -> None:
    auto = told(home, KINPAY_GALLERY_LARGE="1000")
    assert judge_engine(auto, [3, 999], "0.8.6").says == (
        "searched by numpy in memory, exactly; 2 scopes, the largest has 999 templates"
    )
    assert judge_engine(auto, [3, 1000], "0.8.6").says.startswith("1 searched by pgvector 0.8.6, the others by numpy")
    assert judge_engine(auto, [3, 1000], None).verdict is Verdict.TOLD
    assert "numpy" in judge_engine(told(home, KINPAY_GALLERY="numpy"), [10**6], "0.8.6").says
    pgvector = told(home, KINPAY_GALLERY="pgvector")
    assert judge_engine(pgvector, [], "0.8.6").verdict is Verdict.OK
    assert judge_engine(pgvector, [], None).verdict is Verdict.WRONG


async def test_galleries_and_seeds_in_order_and_a_seed_that_is_missing(
    in_order: dict[str, str], db: Database, keys: ServerKeys, home: Path
) -> None:
    canteen = await open_canteen(db, keys, home / "keyring")
    await canteen.crowd(3)
    found = await examine(in_order, providers=False)
    assert about(found, "galleries") == [
        (Verdict.OK, "searched by numpy in memory, exactly; 2 scopes, the largest has 3 templates")
    ]
    assert about(found, "rotations") == [(Verdict.OK, "1 versions, and the seeds that are needed")]
    await renew.begin(db, canteen.rotations, canteen.place.operator_id)
    await renew.carry_on(db, canteen.keyring, canteen.rotations)
    await canteen.rotations.forget(canteen.place.operator_id, 1)
    assert about(await examine(in_order, providers=False), "rotations")[0][0] is Verdict.OK, "a retired one may be gone"
    await canteen.rotations.forget(canteen.place.operator_id, 2)
    found = await examine(in_order, providers=False)
    assert about(found, "rotations") == [(Verdict.WRONG, f"no seed of {canteen.place.operator_id} version 2")]


async def test_a_server_that_logs_parameters_is_named(in_order: dict[str, str], database_url: str, db: Database) -> None:
    async with db.connection() as conn:
        name = await conn.fetchval("SELECT current_database()")
        await conn.execute(f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
    found = await examine(in_order, providers=False)
    assert Verdict.WARNING in {verdict for verdict, _ in about(found, "galleries")}
    found = await examine({**in_order, "KINPAY_GALLERY": "numpy"}, providers=False)
    assert Verdict.WARNING not in {verdict for verdict, _ in about(found, "galleries")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KINPAY_FACE_BOUND", "0.5"), ("KINPAY_FACE_BOUND", "x"), ("KINPAY_FACE_REFERENCE", "CNY"), ("KINPAY_GALLERY", "faiss"),
        ("KINPAY_FACE_REFERENCE", "CNY:1,CNY:2"), ("KINPAY_FACE_REFERENCE", "XXX:5"), ("KINPAY_FACE_REFERENCE", "CNY:0"),
    ],
)  # fmt: skip
def test_settings_that_would_mean_nothing_are_refused(home: Path, name: str, text: str) -> None:
    with pytest.raises(Exception, match=name):
        told(home, **{name: text})
