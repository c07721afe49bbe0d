"""What is wrong with a bag, in one line with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from shlex import quote

REMEDIES = {
    ".mcap": "`mcap recover {0} -o recovered.mcap` saves what can be read",
    ".db3": "`sqlite3 {0} .recover | sqlite3 recovered.db3` saves what can be read",
    ".zstd": "copy it again, or unpack it with `zstd -d {0}`",
    ".zst": "copy it again, or unpack it with `zstd -d {0}`",
}


class BagError(ValueError):
    """Names the bag or its file, what is wrong, and what to do."""


@contextmanager
def damage_named(path: Path, where: str = "") -> Iterator[None]:
    """Raise BagError for whatever goes wrong inside.

    The parsers of a damaged file raise whatever their unpacking, decompressing and indexing raises, not only their own
    errors. Here all of them mean the same.

    Args:
        path: the file that is read.
        where: the part of it, for the error message.
    """
    try:
        yield
    except BagError:
        raise
    except OSError as error:
        remedy = ": set TMPDIR to a folder on a larger disk" if error.errno == ENOSPC else ""
        raise BagError(f"bag {path}{where} cannot be read: {error.strerror or error}{remedy}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        what = f"bag {path}{where} is damaged or cut short, or of an unknown kind ({reason})"
        raise BagError(what if where else with_remedy(what, path)) from error


def with_remedy(problem: str, path: Path) -> str:
    """Add to a problem the command that repairs a file of this kind."""
    return f"{problem}: {REMEDIES[path.suffix].format(quote(str(path)))}" if path.suffix in REMEDIES else problem
