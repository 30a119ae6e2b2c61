"""The folder `.grading` beside the gradebook: the secret that check inputs come from, and what the
batch has graded so far. Deleting it loses no mark; it only makes the next batch grade all anew."""

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from circuits.chapters import Chapter
from circuits.grading.grader import Graded
from circuits.grading.submissions import Cell
from utils.files import write_file

FOLDER = ".grading"


def read_secret(root: Path) -> bytes:
    """The course's secret, made at the first use. It never enters a sandbox."""
    file = root / FOLDER / "secret"
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = file.with_name(f"secret.{os.getpid()}.part")
        part.write_text(secrets.token_hex(32))
        part.chmod(0o600)
        with suppress(FileExistsError):
            os.link(part, file)  # of two that come at once, the first wins
        part.unlink()
    return file.read_text().strip().encode()


def fingerprint(chapter: Chapter, cells: Sequence[Cell]) -> str:
    """What a mark depends on: the answers, and the chapter's source, checks and mistakes."""
    digest = hashlib.sha256(json.dumps(cells, sort_keys=True).encode())
    for file in (chapter.source, chapter.checks_file, chapter.mistakes_file):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass
class Record:
    """What is known of one submission: graded, and then entered in the gradebook."""

    fingerprint: str
    graded: Graded
    entered: str | None = None  # if it was, under which terms: see batch._Gradebook.terms


class Records:
    """The records of one chapter, a file a student: written whole or not at all."""

    def __init__(self, root: Path, chapter: str):
        self.folder = root / FOLDER / chapter

    def read(self, student: str) -> Record | None:
        """None also for a record that cannot be read: it is then graded again."""
        try:
            found = json.loads((self.folder / f"{student}.json").read_text("utf-8"))
            return Record(found["fingerprint"], Graded.from_dict(found["graded"]), found["entered"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, student: str, record: Record) -> None:
        write_file(self.folder / f"{student}.json", json.dumps(asdict(record)).encode())
