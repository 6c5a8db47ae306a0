"""A challenge: of this terminal, once, within its seconds, under its nonce."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest

from kinpay.primitives.actor import ActorKind
from kinpay.primitives.errors import Busy, KinpayError, NotFound
from kinpay.sittings.errors import FaceLocked, NonceWrong, SittingLate, SittingUsed
from kinpay.sittings.examine import Examined
from kinpay.sittings.examiner import Examiner
from kinpay.sittings.expire import expire_sittings
from kinpay.sittings.routes import PAYING
from kinpay.sittings.sitting import SITTING_LIFE, SittingState
from kinpay.sittings.take import take
from kinpay.terminals.authenticate import TerminalActor
from tests.sittings.stand import Stand, engine

PICTURE = base64.b64encode(bytes(600)).decode()


def frames(begun: Any, **other: Any) -> dict[str, Any]:
    """Frames that are no pictures, in the form of frames."""
    return {"nonce": begun["nonce"], "frames": [{"at_ms": 250 * n, "picture": PICTURE} for n in range(8)]} | other


async def took(stand: Stand, begun: Any, *, nonce: str | None = None, terminal_id: str | None = None) -> SittingState:
    """What `take` makes of frames for a challenge."""
    actor = TerminalActor(ActorKind.TERMINAL, terminal_id or stand.shop.terminal_id, stand.shop.operator_id, own_key=True)
    given = nonce or begun["nonce"]
    return (await take(stand.db, actor, sitting_id=begun["sitting_id"], nonce=given, purposes=PAYING)).state


def test_every_state_is_reached() -> None:
    assert SITTING_LIFE.reachable() == set(SittingState)


async def test_a_challenge_has_two_acts_a_nonce_and_thirty_seconds_and_says_what_to_do(stand: Stand) -> None:
    begun = await stand.begin()
    assert len(set(begun["acts"])) == 2
    assert len(begun["guidance"]) == 3
    assert all(sentence["zh"] and sentence["en"] for sentence in begun["guidance"])
    life = await stand.value("SELECT expires_at - asked_at FROM sitting WHERE id = $1", begun["sitting_id"])
    assert life == timedelta(seconds=30)
    others = [await stand.begin() for _ in range(12)]
    assert len({one["nonce"] for one in others}) == 12
    assert len({tuple(one["acts"]) for one in others}) > 1


async def test_frames_are_taken_once_whatever_comes_at_once(stand: Stand) -> None:
    begun = await stand.begin()
    came = await asyncio.gather(*(took(stand, begun) for _ in range(5)), return_exceptions=True)
    assert came.count(SittingState.TAKEN) == 1
    assert sum(isinstance(one, SittingUsed) for one in came) == 4


async def test_another_terminal_s_challenge_is_not_there(stand: Stand) -> None:
    begun = await stand.begin()
    with pytest.raises(NotFound):
        await took(stand, begun, terminal_id=await stand.second_terminal())
    assert await took(stand, begun) is SittingState.TAKEN


async def test_late_frames_are_refused_and_it_is_over(stand: Stand) -> None:
    begun = await stand.begin()
    await stand.later(timedelta(seconds=31))
    with pytest.raises(SittingLate):
        await took(stand, begun)
    assert await stand.state(begun["sitting_id"]) == "expired"
    with pytest.raises(SittingLate):
        await took(stand, begun)


async def test_a_stale_nonce_ends_the_challenge_and_counts(stand: Stand) -> None:
    stale = await stand.begin()
    begun = await stand.begin()
    with pytest.raises(SittingLate):
        await took(stand, stale)
    with pytest.raises(NonceWrong):
        await took(stand, begun, nonce=stale["nonce"])
    with pytest.raises(SittingLate):
        await took(stand, begun)
    assert await stand.value("SELECT in_a_row FROM face_lock WHERE subject_id = $1", stand.shop.terminal_id) == 1


async def test_injecting_stale_nonces_locks_the_terminal(stand: Stand) -> None:
    for _ in range(5):
        begun = await stand.begin()
        with pytest.raises(NonceWrong):
            await took(stand, begun, nonce="A" * 24)
    answer = await stand.ask("POST", "/v1/terminal/sittings", {"amount_minor": 100, "currency": "CNY"})
    assert (answer.status_code, answer.json()["code"]) == (429, "face-locked")
    assert 28 <= answer.json()["retry_after_s"] <= 30


async def test_a_terminal_has_one_sitting_at_a_time(stand: Stand) -> None:
    first, second = await stand.begin(), await stand.begin()
    assert await stand.state(first["sitting_id"]) == "expired"
    elsewhere = await stand.begin(terminal_id=await stand.second_terminal())
    assert await stand.state(second["sitting_id"]) == await stand.state(elsewhere["sitting_id"]) == "asked"


async def test_a_session_s_signature_does_not_do_for_frames_and_a_person_s_token_for_nothing(stand: Stand) -> None:
    begun = await stand.begin()
    path = f"/v1/terminal/sittings/{begun['sitting_id']}/frames"
    answer = await stand.ask("POST", path, frames(begun), x_terminal_session=stand.shop.terminal_id)
    assert (answer.status_code, answer.json()["code"]) == (401, "signature-invalid")
    answer = await stand.ask("POST", path, frames(begun), x_person=stand.shop.operator_id)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    answer = await stand.ask("POST", path, frames(begun), x_nobody="1")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert await stand.state(begun["sitting_id"]) == "asked"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"frames": [{"at_ms": 0, "picture": PICTURE}] * 3}, "frames_number"),
        ({"frames": [{"at_ms": 0, "picture": PICTURE}] * 8}, "frames_times"),
        ({"frames": [{"at_ms": 2000 * n, "picture": PICTURE} for n in range(8)]}, "frames_too_slow"),
        ({"frames": [{"at_ms": 200 * n, "picture": "A" * 262_148} for n in range(8)]}, None),
        ({"frames": [{"at_ms": 200 * n, "picture": "A" * 21} for n in range(8)]}, "not_base64"),
    ],
)
async def test_bad_frames_are_a_problem_and_use_nothing_up(stand: Stand, wrong: dict[str, Any], reason: str | None) -> None:
    begun = await stand.begin()
    answer = await stand.ask("POST", f"/v1/terminal/sittings/{begun['sitting_id']}/frames", frames(begun, **wrong))
    assert answer.status_code == 422
    assert answer.json().get("reason") == reason, answer.text
    assert await stand.state(begun["sitting_id"]) == "asked"


async def test_what_is_no_picture_is_a_problem_and_no_attempt(stand: Stand) -> None:
    begun = await stand.begin()
    answer = await stand.ask("POST", f"/v1/terminal/sittings/{begun['sitting_id']}/frames", frames(begun))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert await stand.state(begun["sitting_id"]) == "refused"
    assert await stand.value("SELECT in_a_row FROM face_lock WHERE subject_id = $1", stand.shop.terminal_id) == 0


async def test_the_schedule_ends_what_nobody_answered_and_forgets_it_after_an_hour(stand: Stand) -> None:
    begun = await stand.begin()
    assert await expire_sittings(stand.db) == 0
    await stand.later(timedelta(seconds=31))
    assert await expire_sittings(stand.db) == 1
    assert await stand.state(begun["sitting_id"]) == "expired"
    await stand.later(timedelta(hours=2))
    await expire_sittings(stand.db)
    assert await stand.value("SELECT count(*) FROM sitting") == 0
    kinds = await stand.value("SELECT array_agg(kind ORDER BY seq) FROM audit_event WHERE subject_id = $1", begun["sitting_id"])
    assert kinds == ["sitting.asked", "sitting.expire"]


async def test_beyond_a_short_queue_nobody_waits(stand: Stand) -> None:
    examiner = Examiner(engine, threads=1, queue=1)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_: Any) -> str:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return "done"

    running = [asyncio.create_task(examiner.run(slow)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await examiner.run(slow)
    with pytest.raises(Busy):
        examiner.require_room()
    gate.set()
    assert await asyncio.gather(*running) == ["done", "done"]
    assert await examiner.run(lambda _: "again") == "again"
    examiner.close()


async def test_no_more_attempts_pass_at_once_than_one_after_the_other(stand: Stand) -> None:
    """Twenty terminals' worth of frames for one terminal cannot be: it has one sitting, and each counts when it is taken."""
    came: list[KinpayError | None] = []
    for _ in range(7):
        try:
            begun = await stand.begin()
        except AssertionError:
            came.append(FaceLocked())
            continue
        await took(stand, begun)  # And is not answered yet: it is still being looked at.
        came.append(None)
    assert [one is None for one in came] == [True] * 5 + [False] * 2


async def test_frames_that_were_badly_taken_are_no_attempt(stand: Stand) -> None:
    for _ in range(6):
        concluded = await stand.answer(await stand.begin(), Examined(sample=None, reasons=("hold_still",), badly_taken=True))
        assert concluded.reasons == ("hold_still",)
    assert await stand.value("SELECT in_a_row FROM face_lock WHERE subject_id = $1", stand.shop.terminal_id) == 0
