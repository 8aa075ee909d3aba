"""HTML that is escaped by construction."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from pruning.run.documents.markup import Markup, element, joined


class Seen(HTMLParser):
    """What a parser that we didn't write finds in a text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# a parser makes one line end of two, and drops NUL
texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=("Cs",)))


@given(texts, texts)
def test_any_text_stays_text(text: str, attribute: str) -> None:
    seen = Seen(element("p", text, title=attribute))
    assert seen.tags == [("p", {"title": attribute})]
    assert seen.text == text


def test_markup_stays_markup() -> None:
    inner = element("b", "<i>")
    assert inner == "<b>&lt;i&gt;</b>"
    assert element("p", inner, "&") == "<p><b>&lt;i&gt;</b>&amp;</p>"
    assert joined(inner, "<") == "<b>&lt;i&gt;</b>&lt;"
    assert isinstance(joined("a"), Markup)


def test_attributes() -> None:
    assert element("i", cls="key", stroke_width=2, id=None, hidden=False) == (
        '<i class="key" stroke-width="2"></i>'
    )
    assert element("img", alt='"') == '<img alt="&quot;">'
