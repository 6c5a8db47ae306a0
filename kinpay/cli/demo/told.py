"""The demo's output: what happened, who was told, what the money did; in Chinese or English, a hundred columns wide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

Lang = Literal["zh", "en"]
WIDTH: Final = 100
_NAME: Final = 9
_NUMERALS: Final = ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二", "十三", "十四", "十五")
_NOT_FIRST: Final = frozenset("，。；：、！？）」”…,.;:!?)")
_PIECES: Final = re.compile(r"[!-~¥−]+|\s+|.", re.DOTALL)


def money(minor: int) -> str:
    """An amount as people write it: `1,234.50`."""
    sign = "−" if minor < 0 else ""
    return f"{sign}{abs(minor) // 100:,}.{abs(minor) % 100:02d}"


def _console() -> Console:
    made = Console(highlight=False, emoji=False)
    # Written to a file there is no width to respect, and 80 columns would only be rich's guess.
    return made if made.is_terminal else Console(highlight=False, emoji=False, width=WIDTH)


class Teller:
    """Writes acts, steps, notices and money to a console."""

    def __init__(self, lang: Lang, console: Console | None = None) -> None:
        self.lang = lang
        self.console = console or _console()
        self._width = min(WIDTH, self.console.width)
        self._act = 0

    def say(self, zh: str, en: str) -> str:
        """The text in the chosen language."""
        return zh if self.lang == "zh" else en

    def line(self, text: str | Text = "", style: str = "") -> None:
        """A line of its own."""
        self.console.print(text, style=style or None, width=self._width, soft_wrap=False)

    def title(self, zh: str, en: str) -> None:
        """The headline of the whole."""
        self.line()
        self.line(Text(self.say(zh, en), style="bold"))

    def act(self, zh: str, en: str) -> None:
        """A new act."""
        self._act += 1
        number = self.say(_NUMERALS[self._act], str(self._act))
        heading = Text(f"{number} · {self.say(zh, en)}", style="bold cyan")
        self.line()
        self.console.print(Rule(heading, align="left", style="cyan", characters="─"), width=self._width)

    def step(self, text: str) -> None:
        """Something happened, and everything that had to be so was so."""
        self._row(Text("✓", style="bold green"), Text(text), indent=1)

    def heard(self, name: str, text: str) -> None:
        """Somebody was told something."""
        self._row(Text("✉", style="yellow"), Text(text, style="dim"), indent=4, name=name)

    def shown(self, name: str, text: str) -> None:
        """A device showed something."""
        self._row(Text("▣", style="blue"), Text(text, style="blue"), indent=4, name=name)

    def moved(self, moves: Sequence[tuple[str, int, int]]) -> None:
        """Money moved at the bank: (name, before, after)."""
        for name, before, after in moves:
            change = f"{'+' if after > before else ''}{money(after - before)}"
            said = Text.assemble((f"{change}", "bold magenta"), (f"   {money(before)} → {money(after)}", "magenta"))
            self._row(Text("¥", style="bold magenta"), said, indent=4, name=name)

    def nothing_moved(self) -> None:
        """No money moved at the bank, where one might think it did."""
        self._row(Text("¥", style="magenta"), Text(self.say("没有扣款", "no money moved"), style="magenta"), indent=4)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 2, last_bold: bool = False) -> None:
        """A small table; all columns but the first `texts` are numbers."""
        made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for number, name in enumerate(header):
            made.add_column(name, justify="left" if number < texts else "right")
        for row in rows:
            made.add_row(*row, style="bold" if last_bold and row is rows[-1] else "")
        grid = Table.grid()
        grid.add_column(width=4)
        grid.add_column()
        grid.add_row("", made)
        self.console.print(grid, width=self._width)

    def broken(self, text: str) -> None:
        """The story did not go as it is told."""
        self.line()
        self._row(Text("✗", style="bold red"), Text(text, style="red"), indent=1)

    def _row(self, mark: Text, text: Text, *, indent: int, name: str | None = None) -> None:
        grid = Table.grid(padding=0)
        grid.add_column(width=indent + 1)
        grid.add_column(width=2)
        cells: list[Text | str] = ["", mark]
        if name is not None:
            grid.add_column(width=_NAME if self.lang == "zh" else _NAME + 5, no_wrap=True, overflow="ellipsis")
            cells.append(Text(name))
            taken = indent + 3 + (_NAME if self.lang == "zh" else _NAME + 5)
        else:
            taken = indent + 3
        grid.add_column()
        grid.add_row(*cells, text if text.spans else Text("\n".join(folded(text.plain, self._width - taken - 2)), text.style))
        self.console.print(grid, width=self._width)


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns: broken at spaces and between Chinese characters, never before a closing mark."""
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if cell_len(line + piece) <= width or piece in _NOT_FIRST:
            line += piece
        else:
            lines.append(line.rstrip())
            line = piece.lstrip()
    return [*lines, line]
