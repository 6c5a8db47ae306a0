"""What the stories look at, in the words in which they are told."""

from __future__ import annotations

from typing import Any

from kinpay.cli.demo.cast import Device, Player

PER_DAY = ("amount", "day")
PER_DAY_COUNT = ("count", "day")
PER_MONTH = ("amount", "month")


def limit(metric: str, window: str, at_most: int, **chosen: list[str]) -> dict[str, Any]:
    """One limit in canonical form; `mccs` or `payees` filter what it counts."""
    return {"metric": metric, "window": window, "at_most": at_most, "filter": chosen}


def terms(*limits: dict[str, Any], conditions: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """Terms in yuan, in canonical form."""
    return {"currency": "CNY", "limits": list(limits), "conditions": conditions or [], **more}


async def left(payer: Player, mandate_id: str, which: tuple[str, str] = PER_DAY) -> int:
    """What remains of a mandate's unfiltered limits of that kind now, with what binds besides while something cools down."""
    return min(look["remaining"] for look in await _limits(payer, mandate_id, which))


async def used(payer: Player, mandate_id: str, which: tuple[str, str] = PER_DAY) -> int:
    """What is used of a mandate's unfiltered limit now."""
    (amount,) = {int(look["used"]) for look in await _limits(payer, mandate_id, which)}
    return amount


async def _limits(payer: Player, mandate_id: str, which: tuple[str, str]) -> list[dict[str, Any]]:
    mandate = await payer.mandate(mandate_id)
    every = [mandate["limits"], *(cooling["limits"] for cooling in mandate["cooling"])]
    found: list[dict[str, Any]] = [look for looks in every for look in looks if _is(look["limit"], which)]
    assert found, f"no such limit: {which}"
    return found


def _is(asked: dict[str, Any], which: tuple[str, str]) -> bool:
    return (asked["metric"], asked["window"]) == which and not any(asked["filter"].values())


async def pool_left(payer: Player, circle_id: str) -> int:
    """What remains of the payer's only pool in the circle."""
    (pool,) = (await payer.get(f"/v1/circles/{circle_id}/pools"))["pools"]
    (look,) = pool["limits"]
    return int(look["remaining"])


def reasons(charge: Any) -> list[str]:
    """Why a charge was refused, the primary reason first."""
    assert charge["state"] == "refused", charge
    return [reason["code"] for reason in charge["refusal"]["reasons"]]


def possible_now(charge: Any) -> int:
    """What would pass instead, now."""
    return int(charge["refusal"]["possible_now_minor"])


async def by_phone(till: Device, spender: Player, circle_id: str, amount_minor: int, **how: Any) -> Any:
    """The spender shows a fresh code, the till charges it."""
    return await till.charge(await spender.pay_code(circle_id), amount_minor, **how)


async def bound_by_app(spender: Player, payer: Player, *, limits: dict[str, Any], circle: Any) -> dict[str, Any]:
    """Order C to its end; signs at the bank where there is something to be signed."""
    asked = await spender.request("C", payer=payer.account)
    yes = await payer.approve(asked["registration_id"], number=asked["match_number"], terms=limits, circle=circle)
    if yes["agreement"]["sign_url"] is not None:
        await payer.sign(yes["agreement"]["sign_url"])
    return await spender.bound(asked["registration_id"])
