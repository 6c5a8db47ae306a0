"""What the cells say, as ratios within one round, so that a slow hour of the machine slows both sides; then the median."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from bench import inprocess, naive, statements, through_http, tpcb
from bench.cell import Cell

AT_LEAST: Final = {"inprocess_vs_tpcb": 2.0, "http_vs_tpcb": 1.2, "growth_rate_1m_vs_1k": 0.9}
"""The bars."""

Round = Sequence[Cell]


class Missing(Exception):
    """A cell that a ratio needs was not measured."""


def _cell(cells: Round, party: str, callers: int, shape: str = "") -> Cell:
    for cell in cells:
        if (cell.party, cell.callers, cell.shape) == (party, callers, shape):
            return cell
    raise Missing(f"{party} {shape} {callers}")


def _best(cells: Round, party: str) -> float:
    rates = [cell.per_s for cell in cells if cell.party == party]
    if not rates:
        raise Missing(party)
    return max(rates)


def _inside(shape: str = "spread", callers: int = 64) -> Callable[[Round], float]:
    return lambda cells: _cell(cells, inprocess.PARTY, callers, shape).per_s / _best(cells, tpcb.PARTY)


def _months(cells: Round, shape: str) -> float:
    return _cell(cells, statements.PARTY, 1, shape).per_s


def _http(shape: str) -> Callable[[Round], float]:
    return lambda cells: _cell(cells, through_http.PARTY, 64, shape).per_s / _best(cells, tpcb.PARTY)


def _p99(party: str, shape: str, callers: int) -> Callable[[Round], float]:
    return lambda cells: _cell(cells, party, callers, shape).p99_ms / _cell(cells, tpcb.PARTY, callers).p99_ms


def _growth(value: Callable[[Cell], float]) -> Callable[[Round], float]:
    def ratio(cells: Round) -> float:
        few, many = (_cell(cells, inprocess.PARTY, 64, shape) for shape in ("few past", "many past"))
        return value(many) / value(few)

    return ratio


_HTTP = (through_http.PARTY, "1 process")
_IN = (inprocess.PARTY, "spread")
WITHIN_A_ROUND: Final[dict[str, Callable[[Round], float]]] = {
    "inprocess_vs_tpcb": _inside(),
    "http_vs_tpcb_1_process": _http("1 process"),
    "http_vs_tpcb_2_processes": _http("2 processes"),
    "contended_vs_tpcb": _inside("contended"),
    "pooled_vs_tpcb": _inside("pooled"),
    "vs_naive": lambda cells: _cell(cells, *_IN[:1], 64, _IN[1]).per_s / _best(cells, naive.PARTY),
    "p99_vs_tpcb_1": _p99(*_HTTP, 1),
    "p99_vs_tpcb_8": _p99(*_HTTP, 8),
    "p99_vs_tpcb_64": _p99(*_HTTP, 64),
    "p99_inprocess_vs_tpcb_1": _p99(*_IN, 1),
    "p99_inprocess_vs_tpcb_8": _p99(*_IN, 8),
    "p99_inprocess_vs_tpcb_64": _p99(*_IN, 64),
    "growth_rate_1m_vs_1k": _growth(lambda cell: cell.per_s),
    "growth_p99_1m_vs_1k": _growth(lambda cell: cell.p99_ms),
    "growth_server_us_1m_vs_1k": _growth(lambda cell: cell.server_us),
    "rollup_vs_authorise": lambda cells: _cell(cells, *_IN[:1], 64, _IN[1]).per_s / _months(cells, "summing up"),
    "statement_many_vs_few": lambda cells: _months(cells, "many a day") / _months(cells, "few a day"),
}


def each_round(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """Every ratio in every round; those whose cells were not asked for are left out."""
    found: dict[str, list[float]] = {}
    for name, ratio in WITHIN_A_ROUND.items():
        try:
            found[name] = [ratio(cells) for cells in rounds]
        except Missing:
            continue
    return found


def medians(values: dict[str, list[float]]) -> dict[str, float]:
    """The median of each. `http_vs_tpcb` is the better of one and two server processes, as TPC-B has its best client count."""
    found = {name: median(of_rounds) for name, of_rounds in values.items()}
    served = [found[name] for name in ("http_vs_tpcb_1_process", "http_vs_tpcb_2_processes") if name in found]
    if served:
        found["http_vs_tpcb"] = max(served)
    return found
