"""The story of the Lins, act by act, from the first scan to the month's total."""

from __future__ import annotations

from kinpay.cli.demo.acts import closing, facing, mending, opening, paying, registering
from kinpay.cli.demo.play import Play
from kinpay.cli.demo.stage import Stage


async def tell(play: Play, stage: Stage) -> None:
    """Plays it to its end. Raises: StoryBroken with what did not happen as it is told; Problem; Unreachable."""
    play.faces = facing.at_hand()
    await opening.open_doors(play)
    await opening.gather(play)
    await registering.child_by_scan(play)
    await paying.child_spends(play)
    await facing.child_pays_by_face(play)
    await registering.grandmother_at_machine(play)
    await paying.grandmother_spends(play)
    await mending.unknown_outcome(play)
    await registering.father_from_app(play)
    await mending.fallback(play)
    await registering.self_payer(play)
    await paying.minds_change(play)
    await mending.removed_at_bank(play)
    await closing.month(play)
    await closing.books(play, stage)
