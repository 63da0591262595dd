"""The frame of every page: one self-contained file that makes no request and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources


def asset(name: str) -> str:
    """A file of ``report/page``."""
    return (resources.files("dovetail.report") / "page" / name).read_text(encoding="utf-8")


def document(
    title: str, styles: Sequence[str], parts: Sequence[str], footer: str, *, data: str = "", script: str = ""
) -> str:
    """A whole page as text, to be written as UTF-8.

    Args:
        title: not escaped yet.
        styles: names of style sheets in ``report/page``.
        parts: HTML, from top to bottom.
        footer: HTML.
        data: what the script reads, as text that needs no escaping (base64).
        script: the one script that the content security policy allows; "" for none.
    """
    allowed = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed = f" script-src 'sha256-{digest}';"
    policy = f"default-src 'none'; style-src 'unsafe-inline';{allowed} img-src data:"
    tail = ""
    if script:
        tail = (
            f'<script id="data" type="application/octet-stream">{data}</script>\n<script>{script}</script>\n'
        )
    main = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="dovetail">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{"".join(map(asset, styles))}</style>
</head>
<body>
<main>
{main}
</main>
<footer>{footer}</footer>
{tail}</body>
</html>
"""
