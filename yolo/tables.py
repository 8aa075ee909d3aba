"""Tables as text."""

from collections.abc import Sequence

from terminaltables import AsciiTable


def table(rows: list[list[str]], title: str, numbers: Sequence[int] = ()) -> str:
    """Rows under a header row; the columns `numbers` are aligned to the right."""
    made = AsciiTable(rows, f" {title} " if title else "")
    for column in numbers:
        made.justify_columns[column] = "right"
    return str(made.table)
