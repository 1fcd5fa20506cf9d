"""What the commands of this folder share: arguments in, one JSON object out, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def command(
    kind: type[T],
    run: Callable[[T], dict[str, Any]],
    about: str | None,
    user_errors: tuple[type[Exception], ...],
    argv: Sequence[str] | None,
) -> int:
    """Run a command line that dataclass `kind` describes; `run`'s result is the last line of stdout.

    Returns the exit status: 0, 1 where the result says that something does not hold, 2 after an error that its user
    can mend.
    """
    try:
        result = run(tyro.cli(kind, args=argv, description=about))
    except user_errors as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0 if result.get("holds", True) else 1
