"""The addresses of a built site: every link and anchor in it leads somewhere, and every address that it ever had still does."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from utils.errors import CourseError
from utils.files import write_file

SHOWN = 20  # broken links in a message

REDIRECT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>This page has moved</title>
<link rel="canonical" href="{to}"><meta http-equiv="refresh" content="0; url={to}"></head>
<body><main><h1>This page has moved</h1><p>It is now <a href="{to}">{to}</a>.</p></main></body></html>
"""


def table(file: Path) -> dict[str, str | None]:
    """The addresses that the site has had, each with where its page went (None: it is still there). Raises CourseError for a line that
    is none."""
    found: dict[str, str | None] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 2 or words[0] in found or not all(re.fullmatch(r"[a-z0-9_/-]+", word) for word in words):
            raise CourseError(f"{file}:{number}: a line is an address, once, and where its page went if it went: old new")
        found[words[0]] = words[1] if len(words) == 2 else None
    return found


def keep(site: Path, file: Path, pages: list[str]) -> None:
    """Write a page for each address whose page went elsewhere. Raises CourseError if an address of the table leads
    nowhere, or a page is not in it."""
    known = table(file)
    gone = [a for a, to in known.items() if to is None and a not in pages]
    lost = [f"{a} {to}" for a, to in known.items() if to is not None and (known.get(to, a) is not None or a in pages)]
    new = [page for page in pages if page not in known]
    for what, found in (
        ("these pages are gone; say where they went (`old new`)", gone),
        ("these lines lead to no page, or away from one", lost),
        ("these pages are new; add a line for each, and it stays their address", new),
    ):
        if found:
            raise CourseError(f"{file}: {what}: {', '.join(found)}.")
    for address, to in known.items():
        if to is not None:
            up = "../" * address.count("/")
            write_file(site / f"{address}.html", REDIRECT.format(to=f"{up}{to}.html").encode())


def follow(site: Path) -> int:
    """Follow every link within a site; returns how many there are. Raises CourseError for those that lead nowhere."""
    site = site.resolve()
    files = [file for file in sorted(site.rglob("*.html")) if "_static" not in file.parts]  # a theme's templates lie there
    pages = {file: _Page(file.read_text("utf-8")) for file in files}
    followed, broken = 0, []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not to.is_file() or not to.is_relative_to(site):
                broken.append(f"{file.relative_to(site)}: {link} (no such file)")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].places:
                broken.append(f"{file.relative_to(site)}: {link} (no such place on that page)")
    if broken:
        more = f"; and {len(broken) - SHOWN} more" * (len(broken) > SHOWN)
        raise CourseError(f"Links that lead nowhere: {'; '.join(broken[:SHOWN])}{more}.")
    return followed


class _Page(HTMLParser):
    """The places that a page has, and the links in it."""

    def __init__(self, text: str):
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value and key == "id":
                self.places.add(value)
            elif value and key in ("href", "src") and value != "#" and not value.startswith(("data:", "mailto:")):
                self.links.append(value)
