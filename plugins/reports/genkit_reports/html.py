"""Parts of offline pages: a document with its style, tables, pictures, sections."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

CSS = Path(__file__).with_name("report.css")


def document(title: str, body: str, style: str = "", script: str = "", pictures: str = "data:") -> str:
    """A whole page that opens offline and loads nothing: its own style and, if one is given, its own script.

    Args:
        pictures: Where pictures may be, as a content security policy says it: in the page itself.
    """
    runs = " script-src 'unsafe-inline';" if script else ""
    policy = f"default-src 'none'; style-src 'unsafe-inline';{runs} img-src {pictures}"
    script = f"<script>{script}</script>" if script else ""
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name=viewport content="width=device-width, initial-scale=1"><meta name=color-scheme content="light dark">
<title>{escape(title)}</title><style>{CSS.read_text("utf-8")}{style}</style></head>
<body><main>{body}</main>{script}</body></html>
"""


def section(title: str, body: str, look: str = "") -> str:
    """A titled part of a page; nothing where there is nothing to show."""
    return f'<section class="{look}"><h2>{title}</h2><div class=body>{body}</div></section>' if body else ""


def table(rows: Iterable[list[str]], caption: str = "") -> str:
    """A table whose first row and first column are headers; on a narrow screen each row is a list with its headers."""
    head, *body = [[escape(cell) for cell in row] for row in rows]

    def line(row: list[str]) -> str:
        cells = (f'<td data-of="{of}">{cell}</td>' for of, cell in zip(head[1:], row[1:], strict=True))
        return f"<tr><th scope=row>{row[0]}</th>{''.join(cells)}</tr>"

    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    caption = f"<caption>{caption}</caption>" if caption else ""
    lines = "".join(map(line, body))
    return f"<div class=wide><table>{caption}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def picture(path: Path, alt: str, caption: str) -> str:
    """A picture inside the page, enlarged by a whole number; empty while it is not all written."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG") or b"IEND" not in data[-12:]:
        return ""
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    wide = width * max(1, round(480 / max(width, 1)))
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    image = f'<img src="{source}" alt="{escape(alt)}" width={width} height={height} style="--wide:{wide}px">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
