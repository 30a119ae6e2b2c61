"""The course as a website (`make site`): chapters are run with their reference answers (`results.py`), written as pages for Sphinx
(`pages.py`), which makes HTML of them with some parts of ours (`sphinx_parts.py`); then every link is followed (`addresses.py`).
`build.py` does it all. None of it is needed in a notebook, and Sphinx is installed only by who makes it or tests it."""
