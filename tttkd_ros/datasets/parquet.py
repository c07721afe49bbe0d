"""Single rows of a parquet file of Waymo's, by frame and sensor, in little memory if they are read in order."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from pathlib import Path

import numpy as np

FRAME = "key.frame_timestamp_micros"
REMEDY = "fetch it again from the bucket of version 2"


def require_pyarrow() -> None:
    """Raise ValueError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError("Waymo's parquet files need the package pyarrow: pip install 'tttkd_ros[waymo]'") from error


class ParquetRows:
    """The rows of a component. A row group is decoded row by row: whole it may take gigabytes.

    component, columns: their names, "[component].column" in the file. sensor: the key that numbers the sensors, if
    there is one. stamped: whether there is a row for each frame. Raises ValueError if the file is missing or something
    else.
    """

    def __init__(self, path: Path, component: str, columns: list[str], sensor: str | None = None, *,
                 stamped: bool = True):
        import pyarrow.parquet

        self.path, self._damage = path, (pyarrow.ArrowException, ValueError, OSError)
        if not path.is_file():
            raise ValueError(f"{path} is missing: it is one of the components to fetch for each segment")
        self._columns = {f"[{component}].{name}": name for name in columns}
        keys = [FRAME] * stamped + ([f"key.{sensor}"] if sensor else [])
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
            if missing := ({*keys, *self._columns}) - set(self._file.schema_arrow.names):
                raise ValueError(f"it has no column {sorted(missing)[0]!r}")
            table = self._file.read(columns=keys)
            frames = table[FRAME].to_pylist() if stamped else [None] * len(table)
            sensors = table[f"key.{sensor}"].to_pylist() if sensor else [None] * len(table)
        except self._damage as error:
            raise ValueError(f"{path} is no parquet file of Waymo's {component} ({_short(error)}): {REMEDY}") from error
        self._rows: dict[int | None, dict[int | None, int]] = {}
        for row, (frame, number) in enumerate(zip(frames, sensors, strict=True)):
            self._rows.setdefault(frame, {})[number] = row
        counts = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *counts]).tolist()
        self._group, self._next, self._batches = -1, 0, iter(())

    @property
    def stamps(self) -> list[int]:
        """The times of all frames, microseconds, ascending."""
        return sorted(self._rows)

    def sensors(self, frame: int | None) -> list[int]:
        """The sensors that have a row for a frame, in the order of the rows."""
        return list(self._rows.get(frame, ()))

    def row(self, frame: int | None, sensor: int | None = None) -> dict[str, object]:
        """Column -> its value; arrays for lists, None for what is missing. Raises ValueError if there is no row."""
        number = self._rows.get(frame, {}).get(sensor)
        if number is None:
            what = "" if sensor is None else f" for sensor {sensor}"
            raise ValueError(f"{self.path} has no row of frame {frame}{what}: {REMEDY}")
        group = bisect_right(self._starts, number) - 1
        if group != self._group or number < self._next:
            self._group, self._next = group, self._starts[group]
            self._batches = self._file.iter_batches(1, row_groups=[group], columns=list(self._columns))
        try:
            batch = next(islice(self._batches, number - self._next, None))
        except (StopIteration, *self._damage) as error:
            self._group = -1
            raise ValueError(f"{self.path} is damaged at row {number} ({_short(error)}): {REMEDY}") from error
        self._next = number + 1
        return {name: _value(batch.column(column)[0]) for column, name in self._columns.items()}


def _value(scalar) -> object:
    if not scalar.is_valid:
        return None
    values = getattr(scalar, "values", None)  # of a list
    return scalar.as_py() if values is None else values.to_numpy(zero_copy_only=False)


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
