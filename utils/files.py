"""Files that are never found half-written."""

import os
from contextlib import suppress
from pathlib import Path


def write_file(file: Path, data: bytes) -> None:
    """Write a file, and its folder where there is none, in one go: a reader finds the old content
    or the new. Raises OSError if it cannot be done; the old file is then still there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
