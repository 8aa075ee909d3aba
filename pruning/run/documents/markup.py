"""HTML that is escaped by construction: what isn't Markup is text."""

from __future__ import annotations

import html

VOID = frozenset(("br", "img", "meta"))


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


Content = str | Markup


def element(tag: str, *content: Content, **attributes: object) -> Markup:
    """An element with its attributes; `cls` is class, an underscore stands for a dash.

    Attributes that are None or False are left out.
    """
    written = "".join(
        f' {_named(name)}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    inside = joined(*content)
    return Markup(f"<{tag}{written}>" + ("" if tag in VOID else f"{inside}</{tag}>"))


def joined(*content: Content) -> Markup:
    """One piece after the other, texts escaped."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(c) for c in content))


def _named(name: str) -> str:
    return "class" if name == "cls" else name.replace("_", "-")
