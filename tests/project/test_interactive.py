"""Attention patterns to point at: alive where scripts run, a picture where they do not, never a network."""

import pytest
import torch

from circuits.interactive import attention, load_circuitsvis

TOKENS = ["<|bos|>", "def", " area", "(", "self", "):", "\n   ", "</script>"]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, shell):
    """What a notebook holds after the two cells ran, as a page of its own."""
    patterns = torch.ones(2, len(TOKENS), len(TOKENS)).tril()
    figure = attention(TOKENS, patterns / patterns.sum(-1, keepdim=True), ["0.4", "1.6"], "Two heads")
    file = tmp_path_factory.mktemp("page") / "page.html"
    cells = [load_circuitsvis()._repr_mimebundle_(), figure._repr_mimebundle_()]
    file.write_text("<meta charset=utf-8>" + "".join(cell["text/html"] for cell in cells), "utf-8")
    return file


def opened(browser, file, **options):
    """The page in a browser without network, and the addresses it asked for all the same."""
    context = browser.new_context(offline=True, **options)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri(), wait_until="domcontentloaded")
    return page, asked


@pytest.mark.browser
def test_heads_can_be_pointed_at_without_a_network(page_file, browser):
    page, asked = opened(browser, page_file)
    page.wait_for_selector("div[id^=attention-] canvas, div[id^=attention-] svg")
    assert page.locator("div[id^=picture-of-] img").is_hidden()
    assert "1.6" in page.locator("div[id^=attention-]").inner_text()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.context.close()


@pytest.mark.browser
def test_a_picture_stands_in_where_no_script_may_run(page_file, browser):
    page, _ = opened(browser, page_file, java_script_enabled=False)
    picture = page.locator("div[id^=picture-of-] img")
    assert picture.is_visible() and picture.bounding_box()["width"] > 200
    page.context.close()


def test_what_cannot_show_html_gets_the_text():
    figure = attention(["a", "b"], torch.eye(2)[None], ["1.6"], "One head")
    data = figure._repr_mimebundle_()
    assert data["text/plain"] == "One head: attention of 1.6 over 2 tokens"
    assert len(data["text/html"]) < 100_000, "the script is loaded once, not with every figure"
