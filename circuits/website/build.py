"""The website, from the course to a folder that can be served from anywhere, or opened as files."""

import io
import re
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import docutils_namespace, patch_docutils

from circuits.build import with_source
from circuits.chapters import ROOT
from circuits.website import addresses, launch, mentions, pages
from circuits.website.results import results
from utils.errors import CourseError

ADDRESSES = Path("docs", "addresses.txt")
NAVIGATION = 8  # entries in the bar at the top


def build(
    root: Path = ROOT,
    out: Path = ROOT / "dist" / "site",
    kept: Path = ROOT / ".cache" / "site",
    repository: str | None = None,
    run: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Build the site in the folder `out`, with results kept in `kept`; returns the folder. The site that was there stays until the new one
    is whole. Without `run`, pages show text and code alone.

    Raises CourseError, in a line, for whatever keeps the site from being good: a chapter that fails, a page that Sphinx
    complains of, a link that leads nowhere, an address that is gone."""
    begun = time.monotonic()
    site = pages.Site(root, _repository(root, repository), _commit(root), with_source(root))
    if not site.chapters:
        raise CourseError(f"There are no chapters in {root / 'solutions'}: a site is built in a clone of the course.")
    if out.exists() and any(out.iterdir()) and not (out / ".buildinfo").exists():
        raise CourseError(f"{out} holds something that is no site of the course: name another folder, or move it away.")
    shown = {name: found.outputs for name, found in results(site.chapters, kept, say).items()} if run else {}
    say("Writing the pages (a minute) ...")
    with tempfile.TemporaryDirectory(prefix="circuits-site-") as name:
        sources, built = Path(name, "pages"), Path(name, "site")
        names = pages.write(site, shown, sources)
        _sphinx(site, sources, built)
        if site.repository:
            launch.write(site, built)
        addresses.keep(built, root / ADDRESSES, names)
        links = addresses.follow(built)
        (built / ".nojekyll").touch()  # else a host of pages leaves out what begins with a _
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, out)
    say(f"{len(names)} pages, {links:,} links and anchors that hold, in {time.monotonic() - begun:.0f} s: {out / 'index.html'}")
    return out


def _repository(root: Path, given: str | None) -> str:
    """The repository's address, as given or as pyproject.toml has it; "" if there is none."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    address = given if given is not None else project.get("tool", {}).get("circuits", {}).get("repository", "")
    if address and not re.fullmatch(r"(https|file)://[\w./~+-]+", address):
        raise CourseError(f"{address!r} is no address of a repository: it begins with https://.")
    return address.removesuffix("/")


def _commit(root: Path) -> str:
    """The commit that the pages show; the name of the main branch where git does not know."""
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "main"


def _sphinx(site: pages.Site, sources: Path, built: Path) -> None:
    """Make HTML of the pages. Raises CourseError if Sphinx complains of anything."""
    static = sources / pages.STATIC
    static.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("style.css"), static / "course.css")
    complaints = io.StringIO()
    try:
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                sources, None, built, sources.with_name("doctrees"), "html", confoverrides=_settings(site, static),
                status=None, warning=complaints, freshenv=True,
            )  # fmt: skip
            app.build()
    except (SphinxError, OSError) as error:
        raise CourseError(f"Sphinx could not build the pages: {error}") from error
    found = [re.sub(r"\x1b\[[\d;]*m", "", line).replace(f"{sources}/", "") for line in complaints.getvalue().splitlines() if line.strip()]
    if found:
        more = f"; and {len(found) - 10} more" * (len(found) > 10)
        raise CourseError(f"Sphinx complains of the pages: {'; '.join(found[:10])}{more}.")


def _settings(site: pages.Site, static: Path) -> dict:
    docs = site.root / "docs"
    return {
        "project": "Circuits",
        "author": "the authors of Circuits",
        "copyright": "The authors of Circuits. Prose CC BY 4.0, code MIT",
        "extensions": ["myst_nb", "circuits.website.sphinx_parts"],
        "root_doc": "index",
        "nb_execution_mode": "off",
        "nb_output_stderr": "remove",
        "nb_merge_streams": True,
        "nb_render_markdown_format": "myst",
        "myst_enable_extensions": ["dollarmath"],
        "myst_dmath_double_inline": True,
        "myst_heading_anchors": 4,
        "myst_heading_slug_func": "docutils.nodes.make_id",
        "smartquotes": False,
        "html_math_renderer": "mathml",
        "circuits_words": mentions.words(docs / "glossary.md"),
        "circuits_papers": mentions.papers(docs / "references.md"),
        "html_title": "Circuits",
        "html_theme": "pydata_sphinx_theme",
        "html_theme_options": {
            "navbar_end": ["theme-switcher"],
            "secondary_sidebar_items": ["page-toc"],
            "header_links_before_dropdown": NAVIGATION,
            "show_toc_level": 1,
            "footer_start": ["copyright"],
            "footer_end": [],
            "search_bar_text": "Search the course",
        },
        "html_context": {"default_mode": "auto"},
        "html_static_path": [str(static)],
        "html_css_files": ["course.css"],
        "html_show_sourcelink": False,
        "html_copy_source": False,
        "html_domain_indices": False,
        "html_use_index": False,
        "language": "en",
    }
