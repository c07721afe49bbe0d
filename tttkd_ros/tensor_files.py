"""Named tensors on disk: safetensors files whose metadata name their format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tttkd_ros.files import write_whole

MAX_SHOWN = 4  # mismatches in one message


def write_tensors(path: str | Path, file_format: str, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write a file of tensors atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(contiguous, {"format": file_format, **metadata}))


def read_tensors(path: str | Path, file_format: str, *, load: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata of an existing file, and its tensors by name, unless `load` is False.

    Raises ValueError if the file is damaged or has another format.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()} if load else {}  # noqa: SIM118 (no dict)
    if metadata.get("format") != file_format:
        raise ValueError(f"{path}: format {metadata.get('format')!r}, expected {file_format!r}; name another file")
    return metadata, tensors


def read_format(path: str | Path) -> str | None:
    """Read the format that an existing file names, if any. Raises ValueError if the file is damaged."""
    with _opened(path) as file:
        return (file.metadata() or {}).get("format")


@contextmanager
def _opened(path: str | Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); fetch or train it again") from error


def tensor_mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Compare names, shapes and types of tensors, and describe at most `MAX_SHOWN` differences."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape:
            lines.append(f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}")
        elif found[name].dtype != expected[name].dtype:
            lines.append(f"{name} is {found[name].dtype}, expected {expected[name].dtype}")
    shown = sorted(lines)[:MAX_SHOWN]
    return shown + [f"and {len(lines) - len(shown)} more"] * (len(lines) > len(shown))
