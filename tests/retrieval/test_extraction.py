"""What is found in files, and what is said about those in which nothing can be found."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.pdf import pdf

from preheat import ExtractionError, MissingExtraError
from preheat.retrieval import extract, split
from preheat.storage.encoding import check_text

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>
  Kettles &amp; pots</title><style>h1 { color: red }</style></head>
<body>
<nav><ul><li><a href="/">Home</a></li></ul></nav>
<header><h1>Kettles<a class="headerlink" href="#kettles">¶</a></h1></header>
<script>document.write("<p>not this</p>")</script><!-- nor this -->
<p>A kettle   boils
a <b>litre</b> of&nbsp;water in <a href="https://example.com/minutes">three minutes</a>.<br>A pot takes five.</p>
<p hidden>Seen by nobody.</p><p aria-hidden="true">Read to nobody.</p>
<h2>How <em>to</em></h2>
<ul><li>Fill it
  <ol start="7"><li>with water</li><li><p>cold,</p><p>please</p></li></ol></li><li>Switch it on</li></ul>
<pre><code>def boil():
    return "steam"  # `hot`
</code></pre>
<blockquote><p>A watched pot</p><p>never boils.</p></blockquote>
<h3>What it takes</h3>
<table><caption>In minutes</caption><thead><tr><th>what</th><th>how long</th></tr></thead>
<tbody><tr><td>kettle</td><td><p>3</p></td></tr><tr><td>pot</td><td>5<br>or 6</td></tr></tbody></table>
<dl><dt>Steam</dt><dd>Hot water.</dd></dl>
<form><p>In a form.</p><button>Send</button></form>
<footer>© nobody</footer>
</body></html>
"""

AS_MARKDOWN = """# Kettles

A kettle boils a litre of water in three minutes.
A pot takes five.

## How to

- Fill it
  1. with water
  2. cold,

     please
- Switch it on

```
def boil():
    return "steam"  # `hot`
```

> A watched pot
>
> never boils.

### What it takes

In minutes

| what | how long |
| --- | --- |
| kettle | 3 |
| pot | 5 or 6 |

Steam

Hot water.

In a form."""


def html(body: str) -> str:
    return extract("a.html", body.encode()).text


# HTML


def test_a_page_becomes_markdown_without_what_is_around_its_text() -> None:
    found = extract("kettles.html", PAGE.encode())

    assert found.text == AS_MARKDOWN
    assert (found.key, found.format, found.metadata) == ("kettles.html", "markdown", {"title": "Kettles & pots"})


def test_a_page_is_cut_at_its_headings() -> None:
    found = extract("a.html", "".join(f"<h2>Part {n}</h2><p>{'word ' * 90}</p>" for n in range(4)).encode())

    pieces = split(found.text, format=found.format)
    assert [piece.text.split("\n")[0] for piece in pieces] == [f"## Part {n}" for n in range(4)]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<div>before<main><p>the text</main>after</div>", "the text"),
        ("<div>before<div role=main>the text</div>after</div>", "the text"),
        ("<p>before</p><main> </main>", "before"),
        ("<main>one</main><main>two</main>", "one\n\ntwo"),
        ("<table><tr><td>left<td><p>right</table>", "| left | right |\n| --- | --- |"),
        ("<table><tr><td>a<td>b<tr><td>1<td></table>", "| a | b |\n| --- | --- |\n| 1 |  |"),
        (
            "<table><caption>c</caption><thead>\n<tr><td>a</td></tr>\n</thead><tbody><tr><td>b</td></tr></tbody>"
            "<tfoot><tr><td>d</td></tr></tfoot></table>",
            "c\n\n| a |\n| --- |\n| b |\n| d |",
        ),
        ("<table><tr><td colspan=²>a<td colspan=999999999>b</table>", "| a | b |\n| --- | --- |"),
        ("<ol start=½><li>a<li>b</ol>", "1. a\n2. b"),
        ("<address>a</address><address>b</address><details><summary>c</summary>d</details>", "a\n\nb\n\nc\n\nd"),
        ("<p>a <code>b_c</code> *<img src=d alt=e>* <a href=f>g</a>", "a `b_c` ** g"),
        ("<h2>a <a href=#a>#</a></h2>", "## a"),
        ("http://example.com/", "http://example.com/"),
        ("<title>t</title><nav>n</nav><section>a</section><footer>f</footer>b", "a\n\nb"),
        ("<table></table><table><tr></tr></table>x", "x"),
        ("<h1><div>One</div><div>heading</div></h1>text", "# One heading\n\ntext"),
        ("<h2></h2><h1><svg><title>Logo</title></svg></h1>text", "text"),
        ("<nav><main>no</main><h2>menu</h2></nav><p>text", "text"),
        ("<soup>a</soup> <list>b</list>", "a b"),
        ("<pre>\n\n  a\n   b<br>c\n</pre>", "```\n  a\n   b\nc\n```"),
        ("<pre> </pre>x", "x"),
        ("<ul><li><pre>a\n\nb</pre></ul>", "- ```\n  a\n\n  b\n  ```"),
        ("<li>alone</li>", "- alone"),
        ("</ul></li></blockquote></table>text</p>", "text"),
        ("<p>a<p>b<div>c</div>d", "a\n\nb\n\nc\n\nd"),
        ("Zw\u00adeck\u200b <wbr>los", "Zweck los"),
        ("a\0b &#0; &#xD800; &#1; c", None),
        ("<p>1 &lt; 2 &amp;&amp; <i>3</i>>2", "1 < 2 && 3>2"),
    ],
)
def test_what_is_written_for(body: str, text: str | None) -> None:
    found = html(body)

    check_text("text", found)
    assert text is None or found == text


@pytest.mark.parametrize(
    "data",
    [
        "<p>Straße, 東京".encode(),
        b"\xef\xbb\xbf" + "<meta charset=latin1><p>Straße, 東京".encode(),
        "\ufeff<p>Straße, 東京".encode("utf-16-le"),
        "\ufeff<p>Straße, 東京".encode("utf-16-be"),
        '<?xml version="1.0" encoding="utf-8"?><html><body>Straße, 東京</body></html>'.encode(),
        '<meta charset="gb18030"><p>Straße, 東京'.encode("gb18030"),
        "<meta http-equiv=Content-Type content='text/html; charset=UTF-16'><p>Straße, 東京".encode(),
        "<meta charset=rot13><p>Straße, 東京".encode(),
        "<meta charset=unicode_escape><p>Straße, 東京".encode(),
        "<meta charset=punycode><p>Straße, 東京".encode(),
        "<meta charset=idna><p>Straße, 東京".encode(),
        "<meta charset=undefined><p>Straße, 東京".encode(),
        "<meta charset=raw_unicode_escape><p>Straße, 東京".encode(),
        "<meta charset='a\0b'><p>Straße, 東京".encode(),
    ],
)
def test_a_page_is_decoded_as_it_says(data: bytes) -> None:
    assert extract("a.html", data).text == "Straße, 東京"


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("iso-8859-1", "windows-1252", "“Straße” – 5 €"),
        ("windows-1251", "windows-1251", "чайник"),
        ("KOI8-R", "koi8-r", "чайник"),
        ("Shift_JIS", "cp932", "やかん①"),
        ("euc-jp", "euc-jp", "やかん"),
        ("euc-kr", "cp949", "주전자"),
        ("big5", "big5", "水壺"),
        ("iso-8859-15", "iso-8859-15", "5 €"),
        ("nonsense", "windows-1252", "“Straße” – 5 €"),
    ],
)
def test_an_old_encoding_is_read_as_browsers_read_it(charset: str, codec: str, text: str) -> None:
    page = f'<html><head><meta http-equiv="Content-Type" content="text/html; charset={charset}"></head><p>{text}'

    assert extract("a.html", page.encode(codec)).text == text


def test_a_page_that_says_nothing_of_its_encoding_is_utf_8_or_windows() -> None:
    assert html("<p>Straße") == "Straße"
    assert extract("a.html", "<p>Straße – 5 €".encode("windows-1252")).text == "Straße – 5 €"


def test_an_encoding_is_never_guessed() -> None:
    cyrillic = ("чайник и заварка " * 20).encode("windows-1251")

    assert extract("a.html", b"<p>" + cyrillic).text == cyrillic.decode("windows-1252").strip()


def test_what_cannot_be_decoded_is_replaced() -> None:
    page = "<meta charset=utf-8><p>Straße".encode()

    assert extract("a.html", page + b"\xff!").text == "Straße\ufffd!"


@pytest.mark.parametrize("body", ["<div id=app></div><script>start()</script>", "<!-- -->", "<title>only</title>"])
def test_a_page_without_text_is_an_error(body: str) -> None:
    with pytest.raises(ExtractionError, match=r"^a\.html is an HTML page without text; if a script"):
        html(body)


def test_an_empty_file_is_an_empty_text() -> None:
    assert [extract(name, b"").text for name in ("a.html", "a.md", "a.txt", "a")] == [""] * 4


@pytest.mark.parametrize("element", ["div", "b", "li", "blockquote", "pre"])
def test_a_page_that_is_nested_deeply_is_read(element: str) -> None:
    assert "end" in html(f"<{element}>" * 150 + "end")


def test_a_page_that_is_nested_too_deeply_is_an_error_not_half_a_text() -> None:
    for depth in (300, 20_000):
        with pytest.raises(ExtractionError, match="too many elements within each other"):
            html("<p>begin</p>" + "<div>" * depth + "end")


def test_nothing_that_a_page_refers_to_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    where = (tmp_path / "secret").as_uri()
    page = f"<!DOCTYPE html SYSTEM '{where}' [<!ENTITY a SYSTEM '{where}'>]><p>&a;<iframe src='{where}'></iframe>x"

    assert "s3cret" not in html(page)


# PDF


def test_a_pdf_becomes_the_text_of_its_pages() -> None:
    found = extract("a.PDF", pdf(["Kettles\nand (pots)", "", "On page three"], title="Über  Kessel"))

    assert found.text == "Kettles\nand (pots)\n\nOn page three"
    assert found.metadata == {"title": "Über Kessel", "pages": 3}
    assert found.format == "text"
    assert extract("a.pdf", pdf(["x"])).metadata == {"pages": 1}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pdf(["secret"], encrypted=True), "is an encrypted PDF; save it without a password first"),
        (pdf(["", ""]), r"is a PDF without text, of pictures perhaps; have their text recognised \(OCR\) first"),
        (pdf(["text"])[:60], "is not a PDF, or a damaged one"),
        (
            pdf(["text"]).replace(b"/Catalog", b"/Cabinet").replace(b"/Pages", b"/Wages"),
            "is not a PDF, or a damaged one",
        ),
        (b"<html>", "is not a PDF, or a damaged one"),
        (b"", "is not a PDF, or a damaged one"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_an_error(data: bytes, words: str) -> None:
    with pytest.raises(ExtractionError, match=rf"^my\.pdf {words}$") as caught:
        extract("my.pdf", data)
    assert caught.value.name == "my.pdf"


def test_pdfs_can_be_read_by_many_threads() -> None:
    files = [pdf([f"file {n} page {page}" for page in range(20)]) for n in range(16)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda data: extract("a.pdf", data), files))

    assert [each.text.split("\n")[0] for each in found] == [f"file {n} page 0" for n in range(16)]


# Text and Markdown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_utf_8_or_what_its_byte_order_mark_says(encoding: str) -> None:
    found = extract("a.md", "# Straße\r\n東京\rx\n".encode(encoding))

    assert (found.text, found.format, found.metadata) == ("# Straße\n東京\nx\n", "markdown", {})
    assert extract("a.txt", "\ufeff東京".encode("utf-16-be")).text == "東京"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Stra\xdfe", r"is not UTF-8 text \(byte 4\)"),
        (b"\xff\xfea\0\0\xd8", r"is not UTF-16 text \(byte 4\)"),
        (b"a\0b", "holds a NUL character, so it is not text"),
    ],
)
def test_what_is_not_text_is_an_error(data: bytes, words: str) -> None:
    with pytest.raises(ExtractionError, match=words):
        extract("a.txt", data)


# Which format


def test_a_format_that_the_name_does_not_tell_is_told_by_the_beginning() -> None:
    assert extract("stdin", pdf(["hello"])).metadata == {"pages": 1}
    assert extract("stdin", b"\n<!DOCTYPE HTML><p>hello").text == "hello"
    assert extract("stdin", b"<p>hello").text == "<p>hello"
    assert extract("a.txt", b"<html><p>hello").text == "<html><p>hello"


def test_the_format_that_is_asked_for_is_taken() -> None:
    assert extract("a.txt", b"<p>hello", format="html").text == "hello"
    assert extract("a.html", b"<p>hello", format="text").text == "<p>hello"
    assert extract("a.txt", b"hello", format="markdown").format == "markdown"


@pytest.mark.parametrize(("name", "library"), [("a.html", "bs4"), ("a.html", "markdownify"), ("a.pdf", "pypdfium2")])
def test_a_missing_library_names_the_extra(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(MissingExtraError, match=r"pip install 'preheat\[documents\]'"):
        extract(name, b"x")
    assert extract("a.md", b"x").text == "x"


# Anything at all

NAMES = st.sampled_from(["a.html", "a.pdf", "a.md", "a.txt", "a"])
TAGS = """<p> </p> <ul> <ol> <li> </li> </ul> <blockquote> </blockquote> <table> <tr> <td> <th> <caption> </td> </table>
<pre> </pre> <h1> </h1> <br> <b> </b> <div> <script> </script> <!-- --> &#0; &#xd800; &amp & ¶ | ` # word
&nbsp; <a"""
HIDING = "<nav> <template> <svg> <main> </main> <title> <select> <frameset> <math> <![CDATA[ <?xml </html>"
MARKUP = st.lists(st.sampled_from([*TAGS.split(), *HIDING.split()]) | st.just("\n")).map("".join)
TEXTUAL = st.lists(st.sampled_from(TAGS.split()) | st.just("\n")).map("".join)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """A real file with a few bytes that are others, or missing."""
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=4)) + data[place + draw(st.integers(0, 30)) :]
    return data


def assert_text_or_sentence(name: str, data: bytes) -> None:
    try:
        found = extract(name, data)
    except ExtractionError as caught:
        error = caught
    else:
        check_text("text", found.text)
        check_text("title", found.metadata.get("title", ""))
        return
    assert str(error).startswith(f"{name} ")
    assert "\n" not in str(error)


@given(NAMES, st.binary() | MARKUP.map(str.encode))
@example("a.html", b"<?xml version='1.0'?><a/>")
@example("a.html", b"\0")
@example("a.html", b"<!DOCTYPE html SYSTEM 'http://127.0.0.1:1/x' [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><p>&a;")
def test_any_bytes_are_a_text_or_a_sentence(name: str, data: bytes) -> None:
    """Whatever a file holds and is called, there is a text that can be stored, or a sentence of why there is none."""
    assert_text_or_sentence(name, data)


@given(damaged(pdf(["One page", "Another\npage"], title="Title")))
def test_any_damage_to_a_pdf_is_a_text_or_a_sentence(data: bytes) -> None:
    """A PDF with any bytes of it changed is a text or a sentence."""
    assert_text_or_sentence("a.pdf", data)


@given(damaged(PAGE.encode()))
def test_any_damage_to_a_page_is_a_text_or_a_sentence(data: bytes) -> None:
    """A page with any bytes of it changed is a text or a sentence."""
    assert_text_or_sentence("a.html", data)


@given(TEXTUAL)
def test_the_words_of_a_page_are_never_lost(markup: str) -> None:
    """A word that follows any markup is in the text, once all that hides text is closed."""
    assert "kept" in extract("a.html", f"{markup}--></script><p>kept".encode()).text
