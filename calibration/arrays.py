"""Reads .npz files of arrays with a JSON text `about` them, without unpickling anything."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]


def read_arrays(path: Path, parse: Callable[[Any, Arrays], T]) -> T:
    """`parse(about, arrays)` of a file; ValueError with the reason where the file or its contents are not usable."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not an .npz file")  # numpy's own error suggests unpickling
        with path.open("rb") as file, np.load(file) as arrays:
            return parse(json.loads(str(arrays["about"])), arrays)
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
