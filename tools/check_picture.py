"""Draw the README's other picture, docs/check.png: a check that names a mistake, as JupyterLab shows it.

It is the report on an answer that exchanges rows and columns, made by the checks themselves, and photographed in Chromium.
"""

import html
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from circuits.chapters import Chapter
from circuits.checking import Submission
from circuits.judging import run_checks
from circuits.report import Report

EXERCISE = "bigram_counts"
ANSWER = """\
def bigram_counts(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab, dtype=torch.long)
    for a, b in zip(tokens[:-1], tokens[1:]):
        counts[b, a] += 1
    return counts
"""
PAGE = """<body style="margin: 0"><div id="picture" style="width: 760px; padding: 16px 20px; background: #fff; color: #111;
  font: 15px/1.45 system-ui, 'DejaVu Sans', sans-serif; --jp-content-font-color1: #111">
<pre style="background: #f5f5f5; border: 1px solid #ddd; padding: 10px 12px; margin: 0 0 8px; font: 14px/1.45 'DejaVu Sans Mono',
  monospace">{answer}</pre>
<pre style="background: #f5f5f5; border: 1px solid #ddd; padding: 6px 12px; margin: 0 0 10px; font: 14px 'DejaVu Sans Mono',
  monospace">check("{exercise}")</pre>
{report}</div></body>"""

chapter = Chapter("1_bigrams")
namespace: dict = {}
exec(f"import torch\n{ANSWER}", namespace)
submission = Submission(namespace, like=chapter.stubs)
result = run_checks(chapter.checks(EXERCISE), submission, lambda: chapter.mistakes(EXERCISE))
assert result.hint, "the mistake is not known any more"
page = PAGE.format(answer=html.escape(ANSWER.rstrip()), exercise=EXERCISE, report=Report(result).html())

file = Path(__file__).parents[1] / "docs" / "check.png"
with sync_playwright() as p:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    tab = browser.new_page(device_scale_factor=1.5)
    tab.set_content(page)
    tab.locator("#picture").screenshot(path=file)
    browser.close()
print(f"wrote {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
