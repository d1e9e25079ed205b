"""The text of files, and the errors for files without text."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.office import archive, docx, epub, notebook, paragraph, pptx, run, xlsx
from tests.support.pdf import pdf
from tests.support.tiers import slow_except

from preheat import ExtractionError, MissingExtraError
from preheat.retrieval import extract, split
from preheat.storage.validation import check_text

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>
  Kettles &amp; pots</title><style>h1 { color: red }</style></head>
<body>
<nav><ul><li><a href="/">Home</a></li></ul></nav>
<header><h1>Kettles<a class="headerlink" href="#kettles">¶</a></h1></header>
<script>document.write("<p>not this</p>")</script><!-- nor this -->
<p>A kettle   boils
a <b>liter</b> of&nbsp;water in <a href="https://example.com/minutes">three minutes</a>.<br>A pot takes five.</p>
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

A kettle boils a liter of water in three minutes.
A pot takes five.

## How to

- Fill it
  7. with water
  8. cold,

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
        ("<p>a <code>b_c</code> *<img src=d alt=e>* <a href=f>g</a>", "a `b_c` *e* g"),
        ("<h2>a <a href=#a>#</a></h2>", "## a"),
        ("http://example.com/", "http://example.com/"),
        ("<title>t</title><nav>n</nav><section>a</section><footer>f</footer>b", "a\n\nb"),
        ("<table></table><table><tr></tr></table>x", "x"),
        ("<h1><div>One</div><div>heading</div></h1>text", "# One heading\n\ntext"),
        ("<h2></h2><h1><svg><path/></svg></h1>text", "text"),
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
def test_html_becomes_markdown(body: str, text: str | None) -> None:
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
def test_a_page_is_decoded_as_it_declares(data: bytes) -> None:
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


def test_a_page_without_a_declared_encoding_is_utf_8_or_windows_1252() -> None:
    assert html("<p>Straße") == "Straße"
    assert extract("a.html", "<p>Straße – 5 €".encode("windows-1252")).text == "Straße – 5 €"


def test_an_encoding_is_never_guessed() -> None:
    cyrillic = ("чайник и заварка " * 20).encode("windows-1251")

    assert extract("a.html", b"<p>" + cyrillic).text == cyrillic.decode("windows-1252").strip()


def test_invalid_bytes_are_replaced() -> None:
    page = "<meta charset=utf-8><p>Straße".encode()

    assert extract("a.html", page + b"\xff!").text == "Straße\ufffd!"


@pytest.mark.parametrize("body", ["<div id=app></div><script>start()</script>", "<!-- -->", "<title>only</title>"])
def test_a_page_without_text_is_an_error(body: str) -> None:
    with pytest.raises(ExtractionError, match=r"^a\.html is an HTML page without text; if a script"):
        html(body)


def test_an_empty_file_is_an_empty_text() -> None:
    assert [extract(name, b"").text for name in ("a.html", "a.md", "a.txt", "a")] == [""] * 4


@pytest.mark.parametrize(
    "element",
    slow_except(("div", "ul"), ("div", "b", "ul", "ol", "blockquote", "pre", "table", "h1", "code", "ruby", "main")),
)
def test_a_deeply_nested_page_is_read(element: str) -> None:
    for depth in (300, 20_000):
        found = html("<p>begin</p>" + f"<{element}>" * depth + "<p>end")
        assert found.startswith("begin") or element == "main"
        assert "end" in found


def test_external_resources_of_a_page_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    where = (tmp_path / "secret").as_uri()
    page = f"<!DOCTYPE html SYSTEM '{where}' [<!ENTITY a SYSTEM '{where}'>]><p>&a;<iframe src='{where}'></iframe>x"

    assert "s3cret" not in html(page)


# Tables keep their columns


def rows(table: str) -> list[list[str]]:
    """The rows of a table in Markdown, without the line below its head."""
    lines = html(f"<table>{table}</table>").split("\n")
    assert set(lines.pop(1)) <= set("|- ")
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("<tr><th>Plan<th>Limit<tr><td rowspan=2>Basic<td>10<tr><td>20", ["Plan Limit", "Basic 10", "Basic 20"]),
        ("<tr><th colspan=2>Price<th>Note<tr><td>1<td>2<td>n", ["Price Price Note", "1 2 n"]),
        (
            "<tr><th rowspan=2>A<th colspan=2>B<th>C<tr><th>b<th>bb<th>c<tr><td>1<td>2<td>3<td>4",
            ["A B B C", "A b bb c", "1 2 3 4"],
        ),
        ("<tr><td>a<td>b<tr><td rowspan=2 colspan=2>x<td>1<tr><td>2", ["a b -", "x x 1", "x x 2"]),
        ("<tr><th>a<th>b<tr><td colspan=2>all<tr><td>1<td>2", ["a b", "all -", "1 2"]),
        ("<tr><td rowspan=0>a<td>1<tr><td>2<tr><td>3<tbody><tr><td>b<td>4", ["a 1", "a 2", "a 3", "b 4"]),
        ("<tr><td rowspan=9>a<td>1<tfoot><tr><td>c<td>3<tbody><tr><td>b<td>2", ["a 1", "b 2", "c 3"]),
        ("<tr><td rowspan=-1>a<td colspan=0>1<tr><td rowspan='2x'>b<td colspan=nine>2<tr><td>3", ["a 1", "b 2", "b 3"]),
        ("<tr><td>a<td aria-hidden=true>x<td>c<tr><td>1<td><del>2</del><td>3", ["a - c", "1 - 3"]),
        ("<tr><td>a<td style='visibility: hidden'>x<td>c<tr><td>1<td hidden>2<td>3", ["a - c", "1 3 -"]),
        ("<tr><td>a<form><td>b<tr><td>c<td>d</form>", ["a b", "c d"]),
        ("<td>a<td>b<tr><td>c", ["a b", "c -"]),
        ("<tr><th>a<th>b<tr><td>1<td><table><tr><td>x<tr><td>y</table>", ["a b", "1 x\u00a0y"]),
        (
            "<tr><th>a<tr><td>1<br>2<tr><td><p>3</p><p>4</p><tr><td><pre>5\n6</pre>",
            ["a", "1\u00a02", "3\u00a04", "`5\u00a06`"],
        ),
        ("<tr><th>a<tr><td>x|y<tr><td><code>x|y</code>", ["a", "x\\|y", "`x\\|y`"]),
    ],
)
def test_a_cell_stays_in_its_columns_and_rows(table: str, expected: list[str]) -> None:
    assert rows(table) == [
        [cell.replace("\u00a0", " ").removesuffix("-") for cell in row.split(" ")] for row in expected
    ]


def test_a_layout_table_is_written_as_text() -> None:
    inner = "<table><tr><th>a<tr><td>1</table>"
    written = "| a |\n| --- |\n| 1 |"

    assert html(f"<table><tr><td>menu<td>{inner}<p>x</table>") == f"menu\n\n{written}\n\nx"
    assert html("<table role=presentation><tr><td>a<td>b</table>") == "a\n\nb"
    assert html("<table><tr><td><h2>Head</h2><p>text<td>side</table>") == "## Head\n\ntext\n\nside"


@pytest.mark.slow
@pytest.mark.parametrize(
    "markup",
    [
        lambda n: "<ol>" + "<li>a" * n,
        lambda n: "<table><tr>" + "<th>a" * n + "<tr><td>x" * n,
        lambda n: "<table>" + "<tr><td rowspan=65534>x" * n,
        lambda n: "<table>" + "".join(f"<tr><td colspan={1 + row % 1000}>x<td>y" for row in range(n)),
        lambda n: "<table><tr><td rowspan=9 colspan=9>x<td>y</table>" * n,
        lambda n: "<table><tr><td rowspan=100>" + "word " * n + "<tr><td>y" * n,
        lambda n: "<blockquote>" * 1000 + "<p>a" * n,
    ],
)
def test_the_markdown_grows_linearly_with_the_page(markup: Any) -> None:
    small, large = (len(html(markup(n))) for n in (2_000, 8_000))

    assert large < 5 * small
    assert large < 30 * len(markup(8_000))


# Lists keep their numbers


@pytest.mark.parametrize(
    ("markup", "numbers"),
    [
        ("<ol start=5><li>x<li>x</ol>", "5. 6."),
        ("<ol reversed><li>x<li>x<li>x</ol>", "- - -"),
        ("<ol><li>x<li value=7>x<li>x</ol>", "1. 7. 8."),
        ("<ol start=-1><li>x<li>x<li>x</ol>", "-1. 0. 1."),
        ("<ol start='4 or so'><li>x<li value=ten>x</ol>", "4. 5."),
        (f"<ol start={'9' * 5000}><li>x</ol>", "999999999."),
        ("<ol><li>x<li hidden>x<li>x</ol>", "1. 2."),
        ("<ol type=a start=2><li>x<li>x</ol>", "2. 3."),
        ("<ol><li>x<li style='visibility:hidden'>x<li><s>x</s><li>x</ol>", "1. 4."),
    ],
)
def test_a_list_keeps_its_numbers(markup: str, numbers: str) -> None:
    assert html(markup) == "\n".join(f"{number} x" for number in numbers.split())


def test_nested_lists_keep_their_numbers() -> None:
    assert html("<ol start=2><li>a<ol start=5><li>b<li>c</ol><li>d<ul><li>e</ul></ol>") == (
        "2. a\n   5. b\n   6. c\n3. d\n   - e"
    )
    assert html("<table><tr><td><ol start=2><li>a<li>b</ol></table>").startswith("| 2. a 3. b |")


# What is hidden or struck out


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>no</p>",
        "<p hidden=until-you-see>no</p>",
        "<p style='display:none'>no</p>",
        "<p style='color: red; DISPLAY : None !important'>no<b style='display:block'>no</b></p>",
        "<p style='visibility:hidden'>no<b>no</b></p>",
        "<p style='visibility: collapse'>no</p>",
        "<p aria-hidden=true>no</p>",
        "<p popover>no</p>",
        "<dialog>no</dialog>",
        "<template>no</template>",
        "<noscript>no</noscript>",
        "<script>no</script><style>no</style>",
        "<input type=hidden value=no><input value=no><select><option>no</select><textarea>no</textarea>",
        "<del>no</del>",
        "<p><s>no</s> <strike>no</strike></p>",
        "<del><p>no</p><p>no</p></del>",
        "<p style='text-decoration: red line-through'>no</p>",
        "<span style='text-decoration-line:underline line-through'>no</span>",
        "<img alt=no hidden><p style='visibility:hidden'><img alt=no></p>",
        "<svg aria-hidden=true><title>no</title></svg>",
        "<ruby><rp>no</rp></ruby>",
    ],
)
def test_hidden_and_struck_out_text_is_left_out(hidden: str) -> None:
    assert html(f"<p>before {hidden} after").split() == ["before", "after"]


@pytest.mark.parametrize(
    "shown",
    [
        "<p hidden=until-found>yes</p>",
        "<p hidden style='display:block'>yes</p>",
        "<p style='display:none;display:block'>yes</p>",
        "<p style='visibility:hidden'><b style='visibility:visible'>yes</b></p>",
        "<p style='background: url(x?display:none)'>yes</p>",
        "<p aria-hidden=false>yes</p>",
        "<dialog open>yes</dialog>",
        "<details><summary></summary>yes</details>",
        "<ins>yes</ins>",
        "<embed src=x>yes",
        "<picture><source srcset=x></picture>yes",
        "<video><source src=x><track src=y></video>yes",
        "<p style='text-decoration: underline'>yes</p>",
        "<body style='display:none'>yes",
    ],
)
def test_visible_text_is_kept(shown: str) -> None:
    assert html(shown) == "yes"


# Alternative texts


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>See <img alt='the wiring  diagram' src=x>.", "See the wiring diagram."),
        ("<p>a<img alt=b>c", "a b c"),
        ("<img alt=a><img alt=b>", "a b"),
        ("<p>a <img alt='' title=b src=x> c", "a c"),
        ("<img title=a> <img aria-label=b>", "a b"),
        ("<picture><source srcset=x><img alt=a></picture>", "a"),
        ("<figure><img alt=a><figcaption>Figure 1: b</figcaption></figure>", "a\n\nFigure 1: b"),
        ("<map><area alt=North href=x><area alt=South href=y></map>", "North South"),
        ("<p><svg><title>Chart</title><desc>of sales</desc><text>1</text></svg>", "Chart of sales"),
        ("<p><svg aria-label=Warning><path/></svg> hot", "Warning hot"),
        ("<p>Yes: <i role=img aria-label=included></i>", "Yes: included"),
        ("<div role=img aria-label=Chart><svg><path/></svg></div>", "Chart"),
        ("<p><math alttext='x^2'><msup><mi>x</mi><mn>2</mn></msup></math>", "x^2"),
        ("<p><math><mi>x</mi><annotation encoding=tex>x</annotation></math>", "x"),
        ("<figure role=img aria-label=x><figcaption>Figure 1</figcaption></figure>", "Figure 1"),
        ("<h1><img alt=Acme></h1>", "# Acme"),
        ("<table><tr><td><img alt='a|b'></table>", "| a\\|b |\n| --- |"),
        ("<a href=x><img alt=Home></a>", "Home"),
    ],
)
def test_alternative_texts_of_pictures_are_kept(markup: str, text: str) -> None:
    assert html(markup) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>10<sup>6</sup> x<sup>n</sup> 1<sup>st</sup> H<sub>2</sub>O", "10^6 x^n 1st H2O"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp>字<rt>ji</rt></ruby>", "漢(kan)字(ji)"),
        ("<p>a<hr>b", "a\n\nb"),
        ("<p>a<br><br><br>b", "a\n\nb"),
        ("<p><code>a`b</code> <code>`c`</code>", "`` a`b `` `` `c` ``"),
        ("<pre>```\na</pre>", "````\n```\na\n````"),
        ("<code><pre>a\n b</pre></code>", "```\na\n b\n```"),
        ("<pre><div>a</div><div>b</div></pre>", "```\na\nb\n```"),
        ("<pre>a\n\n\n\nb</pre>", "```\na\n\n\n\nb\n```"),
        ("<ul><li>a<ul><li>b</ul>c</ul>", "- a\n  - b\n\n  c"),
    ],
)
def test_marks_that_change_the_meaning_are_kept(markup: str, text: str) -> None:
    assert html(markup) == text


def test_xhtml_with_self_closing_elements_is_read() -> None:
    page = (
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><script src='x'/><title>T</title></head>"
    )

    found = extract("a.xhtml", f"{page}<body><a id='x'/><h1>One</h1><p>two</p></body></html>".encode())
    assert (found.text, found.metadata) == ("# One\n\ntwo", {"title": "T"})
    assert extract("a.xhtml", f"{page}<body><p>1 & 2&nbsp;<br>3".encode()).text == "1 & 2\n3"
    typed = "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.1//EN' 'http://127.0.0.1:1/xhtml11.dtd'>"
    page = f"<?xml version='1.0'?>{typed}<html><body><p id='a'/><p>caf&eacute;&nbsp;&amp; &lt;tea&gt;</p></body></html>"
    assert extract("a.xhtml", page.encode()).text == "caf\u00e9 & <tea>"


@pytest.mark.parametrize(
    ("declared", "codec"), [("iso-8859-1", "utf-8"), ("utf-8", "windows-1252"), ("us-ascii", "utf-8")]
)
def test_a_page_that_declares_the_wrong_one_of_two_common_encodings_is_read(declared: str, codec: str) -> None:
    assert extract("a.html", f"<meta charset={declared}><p>Straße – 5 €".encode(codec)).text == "Straße – 5 €"


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
        (pdf(["", ""]), r"is a PDF without text, of pictures perhaps; have their text recognized \(OCR\) first"),
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


def test_values_of_pdf_forms_are_kept() -> None:
    fields = [
        "/Subtype /Widget /FT /Tx /T (name) /TU (Full name) /V (Ada \\(Countess\\) Lovelace)",
        "/Subtype /Widget /FT /Tx /T (city) /V <feff004dfc006e006300680065006e>".replace("4dfc", "4d00fc"),
        "/Subtype /Widget /FT /Tx /T (empty) /V ()",
        "/Subtype /Widget /FT /Tx /Ff 8192 /T (pin) /V (1234)",
        "/Subtype /Widget /FT /Tx /F 2 /T (hidden) /V (secret)",
        "/Subtype /Widget /FT /Btn /T (member) /V /Yes /AS /Yes /AP <</N <</Yes null /Off null>>>>",
        "/Subtype /Widget /FT /Btn /T (smoker) /V /Off /AS /Off /AP <</N <</Yes null /Off null>>>>",
        "/Subtype /Widget /FT /Ch /Ff 131072 /T (country) /Opt [(France) (Spain)] /V (Spain)",
        "/Subtype /Widget /FT /Ch /Ff 2097152 /T (colors) /Opt [(red) (green) (blue)] /V [(red) (blue)]",
        "/Subtype /FreeText /DA (/F1 12 Tf) /Contents (typed on the page)",
        "/Subtype /Text /Contents (a reviewer's remark)",
    ]
    found = extract("form.pdf", pdf(["Application", "Page two"], fields=fields))

    assert found.text == (
        "Application\n\nFull name: Ada (Countess) Lovelace\ncity: M\u00fcnchen\nmember: Yes\ncountry: Spain\n"
        "colors: red, blue\ntyped on the page\n\nPage two"
    )
    assert extract("scan.pdf", pdf([""], fields=fields[:1])).text == "Full name: Ada (Countess) Lovelace"


def test_pdfs_can_be_read_by_many_threads() -> None:
    files = [pdf([f"file {n} page {page}" for page in range(20)]) for n in range(16)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda data: extract("a.pdf", data), files))

    assert [each.text.split("\n")[0] for each in found] == [f"file {n} page 0" for n in range(16)]


# Documents of Office, books, notebooks


def test_struck_out_deleted_and_hidden_text_of_a_word_document_is_left_out() -> None:
    body = paragraph(run("Kettles"), style="H1")
    body += paragraph(
        run("A price of "),
        run("10", "strike"),
        "<w:del><w:r><w:delText>11</w:delText></w:r></w:del>",
        f"<w:ins>{run('12')}</w:ins>",
        run("13", "vanish"),
        run("14", "dstrike"),
        run(" euros."),
    )
    cell = "<w:tc><w:tcPr><w:gridSpan w:val='{}'/></w:tcPr>{}</w:tc>"
    table = [[(2, "Price"), (1, "Note")], [(1, "1"), (1, "2"), (1, "n")]]
    rows = ("".join(cell.format(width, paragraph(run(text))) for width, text in row) for row in table)
    body += f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"
    found = extract("a.DOCX", docx(body, title="Prices"))

    assert found.text == (
        "# Kettles\n\nA price of 12 euros.\n\n| Price | Price | Note |\n| --- | --- | --- |\n| 1 | 2 | n |"
    )
    assert (found.metadata, found.format) == ({"title": "Prices"}, "markdown")


def test_a_presentation_is_read_slide_by_slide_with_its_notes() -> None:
    found = extract("a.pptx", pptx())

    assert found.text == (
        "## How to boil\n\nFill it\n\nSwitch it on\n\nNotes: Mind the steam.\n\n"
        "| Price | Price | Note |\n| --- | --- | --- |\n| 1 | 2 | n \\| m |\n\na wiring diagram"
    )
    assert found.metadata == {"title": "Kettles at work"}


def test_a_workbook_is_read_sheet_by_sheet_without_hidden_cells() -> None:
    found = extract("a.xlsx", xlsx())

    assert found.text == (
        "## Limits\n\n| Plan | Limit | Since | Share | Sum |\n| --- | --- | --- | --- | --- |\n"
        "| Basic | 10 | 2026-01-31 | 12.5% | =B2+1 |\n| Basic | 20.5 | TRUE |  |  |"
    )
    assert found.metadata == {"title": "Plans"}


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    pages = {
        "b.xhtml": "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/></head><body><h1>Two</h1></body></html>",
        "a b.xhtml": "<h1>One</h1><p hidden>no</p>",
        "c.xhtml": "<p>not in the spine",
    }
    found = extract("a.epub", epub(pages, ["a b.xhtml", "b.xhtml"], title="Kettles"))

    assert (found.text, found.metadata) == ("# One\n\n# Two", {"title": "Kettles"})


def test_a_notebook_is_its_texts_and_its_code() -> None:
    found = extract(
        "a.ipynb", notebook(("markdown", ["# Tea\n", "It steeps."]), ("code", "print('```')"), ("raw", "end"))
    )

    assert (found.text, found.format) == ("# Tea\nIt steeps.\n\n````python\nprint('```')\n````\n\nend", "markdown")


OFFICE = ("docx", "pptx", "xlsx", "epub")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"is not an? .*, or a damaged one"),
        (b"PK\3\4 and no more", r"is not an? .*, or a damaged one"),
        (archive({"readme.txt": "x"}), r"is not an? .*, or a damaged one"),
        (pptx()[:-100], r"is not an? .*, or a damaged one"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "is a document of an old version of Office; save it as"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "is encrypted; save it without a password first",
        ),
        (archive({"word/document.xml": b"\0" * 40_000_000}), "unpacks to more than can be read safely"),
        (archive({"word/media/a.png": b"\0" * 90_000_000}), "unpacks to more than can be read safely"),
    ],
    ids=["empty", "not a zip", "other files", "cut off", "old Office", "encrypted", "big text", "big picture"],
)
@pytest.mark.parametrize("suffix", OFFICE)
def test_a_document_that_cannot_be_read_is_an_error(suffix: str, data: bytes, words: str) -> None:
    with pytest.raises(ExtractionError, match=rf"^my\.{suffix} {words}"):
        extract(f"my.{suffix}", data)


def test_external_entities_of_a_document_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    where = (tmp_path / "secret").as_uri()
    for begin in (f"<!DOCTYPE w [<!ENTITY a SYSTEM '{where}'>]>", f"<!DOCTYPE w SYSTEM '{where}'>"):
        page = f"<?xml version='1.0'?>{begin}<html xmlns='http://www.w3.org/1999/xhtml'><body>x&a;&nbsp;y</body></html>"
        assert extract("a.epub", epub({"a.xhtml": page}, ["a.xhtml"])).text.replace("&a;", "") == "x y"
    bomb = "<!DOCTYPE w [<!ENTITY a0 'x'>" + "".join(
        f"<!ENTITY a{number} '{f'&a{number - 1};' * 10}'>" for number in range(1, 10)
    )
    for begin in (bomb, f"<!DOCTYPE w [<!ENTITY a9 SYSTEM '{where}'>"):
        data = docx(paragraph(run("&a9;")), before=f"{begin}]>")
        with suppress(ExtractionError):
            assert "s3cret" not in extract("a.docx", data).text


def test_a_sheet_that_spreads_over_too_many_cells_is_an_error() -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active["XFD1048576"] = "far away"
    out = BytesIO()
    book.save(out)
    with pytest.raises(ExtractionError, match="has a sheet of more than 1,000,000 cells"):
        extract("a.xlsx", out.getvalue())
    sheet = Workbook()
    sheet.active.append(["x"])
    out = BytesIO()
    sheet.save(out)
    with ZipFile(BytesIO(out.getvalue())) as entries:
        parts = {name: entries.read(name) for name in entries.namelist()}
    merged = b"</sheetData><mergeCells><mergeCell ref='A1:XFD1048576'/></mergeCells>"
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"].replace(b"</sheetData>", merged)
    with pytest.raises(ExtractionError, match="has a sheet of more than 1,000,000 cells"):
        extract("a.xlsx", archive(parts))


def test_a_protected_book_is_an_error_but_obfuscated_fonts_are_not() -> None:
    for method, is_read in (
        ("http://www.idpf.org/2008/embedding", True),
        ("http://www.w3.org/2001/04/xmlenc#aes256-cbc", False),
    ):
        more = {
            "META-INF/encryption.xml": "<encryption xmlns='urn:oasis:names:tc:opendocument:xmlns:container'>"
            "<EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#'>"
            f"<EncryptionMethod Algorithm='{method}'/></EncryptedData></encryption>"
        }
        book = epub({"a.xhtml": "<p>text"}, ["a.xhtml"], more=more)
        if is_read:
            assert extract("a.epub", book).text == "text"
        else:
            with pytest.raises(ExtractionError, match="is protected against copying"):
                extract("a.epub", book)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"cells": 1}', b'{"cells": [1]}', b'{"cells": [{"source": [1]}]}', b"[" * 100_000],
)
def test_an_invalid_notebook_is_an_error(data: bytes) -> None:
    with pytest.raises(ExtractionError, match=r"^a\.ipynb is not a Jupyter notebook, or a damaged one"):
        extract("a.ipynb", data)


def test_a_document_without_text_is_an_error() -> None:
    for name, data in (("a.docx", docx("")), ("a.epub", epub({}, [])), ("a.ipynb", notebook())):
        with pytest.raises(ExtractionError, match="holds no text"):
            extract(name, data)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a", b"\x89PNG\r\n", "is a picture; have its text recognized"),
        ("a.md", b"\xff\xd8\xff\xe0", "is a picture; have its text recognized"),
        ("a", b"\x1f\x8b\x08", "is an archive; unpack it"),
        ("a", archive({"readme.txt": "x"}), "is an archive; unpack it"),
        ("a.zip", b"", "is an archive; unpack it"),
        ("a.mp3", b"x", "is a recording; have it transcribed"),
        ("a.MKV", b"x", "is a film; have it transcribed"),
        ("a.doc", b"x", "save it as .docx or PDF first"),
        ("a.rtf", b"{\\rtf1 x}", "save it as .docx or PDF first"),
        ("a.odt", b"x", "save it as .docx or PDF first"),
        ("a.xls", b"x", "save it as .xlsx or CSV first"),
        ("a.ppt", b"x", "save it as .pptx or PDF first"),
        ("a.mobi", b"x", "convert it to EPUB first"),
    ],
)
def test_an_unsupported_format_is_an_error_with_a_remedy(name: str, data: bytes, words: str) -> None:
    with pytest.raises(ExtractionError, match=words):
        extract(name, data)
    if b"\xff" not in data and b"\x8b" not in data and b"\x89" not in data and not data.startswith(b"PK"):
        assert extract(name, data, format="text").text == data.decode()


def test_a_document_on_standard_input_is_recognized_by_its_contents() -> None:
    assert extract("stdin", xlsx()).metadata == {"title": "Plans"}
    assert extract("stdin", docx(paragraph(run("text")))).text == "text"
    assert extract("stdin", epub({"a.html": "<p>text"}, ["a.html"])).text == "text"
    assert extract("stdin", pptx()).metadata == {"title": "Kettles at work"}


# Text and Markdown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_utf_8_or_has_a_byte_order_mark(encoding: str) -> None:
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
def test_invalid_text_is_an_error(data: bytes, words: str) -> None:
    with pytest.raises(ExtractionError, match=words):
        extract("a.txt", data)


# Which format


def test_the_first_bytes_decide_if_the_name_has_no_known_suffix() -> None:
    assert extract("stdin", pdf(["hello"])).metadata == {"pages": 1}
    assert extract("stdin", b"\n<!DOCTYPE HTML><p>hello").text == "hello"
    assert extract("stdin", b"<p>hello").text == "<p>hello"
    assert extract("a.txt", b"<html><p>hello").text == "<html><p>hello"


def test_an_explicit_format_is_used() -> None:
    assert extract("a.txt", b"<p>hello", format="html").text == "hello"
    assert extract("a.html", b"<p>hello", format="text").text == "<p>hello"
    assert extract("a.txt", b"hello", format="markdown").format == "markdown"


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("a.html", "bs4"),
        ("a.pdf", "pypdfium2"),
        ("a.docx", "mammoth"),
        ("a.pptx", "pptx"),
        ("a.xlsx", "openpyxl"),
        ("a.epub", "lxml"),
    ],
)
def test_a_missing_library_names_the_extra(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(MissingExtraError, match=r"pip install 'preheat\[documents\]'"):
        extract(name, b"x")
    assert extract("a.md", b"x").text == "x"


# Anything at all

NAMES = st.sampled_from(
    ["a.html", "a.pdf", "a.md", "a.txt", "a", "a.docx", "a.pptx", "a.xlsx", "a.epub", "a.ipynb", "a.doc"]
)
TAGS = """<p> </p> <ul> <ol> <li> </li> </ul> <blockquote> </blockquote> <table> <tr> <td> <th> <caption> </td> </table>
<pre> </pre> <h1> </h1> <br> <b> </b> <div> <script> </script> <!-- --> &#0; &#xd800; &amp & ¶ | ` # word
&nbsp; <a"""
HIDING = "<nav> <template> <svg> <main> </main> <title> <select> <frameset> <math> <![CDATA[ <?xml </html>"
MARKUP = st.lists(st.sampled_from([*TAGS.split(), *HIDING.split()]) | st.just("\n")).map("".join)
TEXTUAL = st.lists(st.sampled_from(TAGS.split()) | st.just("\n")).map("".join)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """A real file with a few bytes changed or missing."""
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
def test_any_bytes_give_a_text_or_an_error(name: str, data: bytes) -> None:
    """Any bytes under any name give a text that can be stored, or an error of one sentence."""
    assert_text_or_sentence(name, data)


@given(damaged(pdf(["One page", "Another\npage"], title="Title")))
def test_any_damaged_pdf_gives_a_text_or_an_error(data: bytes) -> None:
    """A PDF with any bytes changed gives a text or an error."""
    assert_text_or_sentence("a.pdf", data)


@given(
    st.one_of(
        damaged(docx(paragraph(run("text")))).map(lambda data: ("a.docx", data)),
        damaged(pptx()).map(lambda data: ("a.pptx", data)),
        damaged(xlsx()).map(lambda data: ("a.xlsx", data)),
        damaged(epub({"a.xhtml": "<p>text"}, ["a.xhtml"])).map(lambda data: ("a.epub", data)),
        damaged(notebook(("code", "text"))).map(lambda data: ("a.ipynb", data)),
    )
)
def test_any_damaged_document_gives_a_text_or_an_error(file: tuple[str, bytes]) -> None:
    """A document with any bytes changed gives a text or an error."""
    assert_text_or_sentence(*file)


@given(damaged(PAGE.encode()))
def test_any_damaged_page_gives_a_text_or_an_error(data: bytes) -> None:
    """A page with any bytes changed gives a text or an error."""
    assert_text_or_sentence("a.html", data)


@given(TEXTUAL)
def test_text_after_any_markup_is_kept(markup: str) -> None:
    """A word after any markup is in the text, once every element that hides text is closed."""
    assert "kept" in extract("a.html", f"{markup}--></script><p>kept".encode()).text


def test_a_program_called_html_can_read_html(tmp_path: Path) -> None:
    """The name of the program hides the package of the standard library that Beautiful Soup imports."""
    program = tmp_path / "html.py"
    program.write_text('from preheat.retrieval import extract\nprint(extract("a.html", b"<p>read").text)\n')
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("read\n", "")
