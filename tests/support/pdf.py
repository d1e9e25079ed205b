"""PDF files as small as they can be, written by hand."""

from __future__ import annotations

from collections.abc import Sequence

_NO_KEY = b"<</Filter /Standard /V 1 /R 2 /P -4 /O <" + b"ab" * 32 + b"> /U <" + b"cd" * 32 + b">>>"


def pdf(pages: Sequence[str], *, title: str = "", encrypted: bool = False, fields: Sequence[str] = ()) -> bytes:
    """A PDF with a line of text for each line of each page; a page without text has a picture.

    Args:
        fields: what else the first page has, each the inside of an annotation.
    """
    first_field = 4 + 2 * len(pages)
    marks = " ".join(f"{first_field + number} 0 R" for number in range(len(fields)))
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        f"<</Type /Catalog /Pages 2 0 R{f' /AcroForm <</Fields [{marks}]>>' if fields else ''}>>".encode(),
        f"<</Type /Pages /Kids [{kids}] /Count {len(pages)}>>".encode(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    for number, page in enumerate(pages):
        lines = [line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in page.split("\n")]
        text = "BT /F1 12 Tf 14 TL 72 720 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
        content = (text if page else "72 72 200 200 re f").encode("latin-1")
        objects += [
            b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources <</Font <</F1 3 0 R>>>> "
            b"/Contents %d 0 R /Annots [%s]>>" % (5 + 2 * number, b"" if number else marks.encode()),
            b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content),
        ]
    objects += [f"<</Type /Annot /Rect [100 100 300 120] {inside}>>".encode("latin-1") for inside in fields]
    objects.append(b"<</Title <%s>>>" % ("\ufeff" + title).encode("utf-16-be").hex().encode())
    data, places = b"%PDF-1.4\n", list[int]()
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    more = b" /ID [<00> <00>] /Encrypt " + _NO_KEY if encrypted else b""
    data += b"trailer\n<</Size %d /Root 1 0 R /Info %d 0 R%s>>\n" % (len(objects) + 1, len(objects), more)
    return data + b"startxref\n%d\n%%%%EOF\n" % start
