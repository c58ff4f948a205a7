# SPDX-License-Identifier: Apache-2.0
"""What may outlive the process, in a file of its own choosing: bindings, and the sequence numbers against replays."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from home_agent.cache import BindingCache, State
from home_agent.messages import BindingUpdate


class StateFileError(ValueError):
    """The state file cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class SavedBinding:
    """A registered binding. `lifetime` in seconds as granted; `expires` in epoch seconds."""

    update: BindingUpdate
    lifetime: int
    expires: float


@dataclass(frozen=True, slots=True)
class SavedState:
    sequences: dict[str, int]
    bindings: list[SavedBinding]


def save(path: Path, cache: BindingCache, monotonic: float, epoch: float) -> None:
    """Writes what the cache holds, all or nothing. Raises OSError."""
    bindings = [
        {"update": asdict(b.update) | {"authentication": None}, "lifetime": b.lifetime}
        | {"expires": round(epoch + b.due - monotonic, 3)}
        for b in cache
        if b.state is State.REGISTERED
    ]
    text = json.dumps({"sequences": dict(cache.sequences), "bindings": bindings}, indent=1)
    scratch = path.with_name(path.name + ".new")
    with scratch.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def load(path: Path) -> SavedState:
    """Reads it back; a file that is not there yet is an empty state. Raises StateFileError."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        bindings = [
            SavedBinding(BindingUpdate(**b["update"]), int(b["lifetime"]), float(b["expires"]))
            for b in data["bindings"]
        ]
        return SavedState({str(a): int(n) for a, n in data["sequences"].items()}, bindings)
    except FileNotFoundError:
        return SavedState({}, [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateFileError(f"{path}: not a state file of hoaflow-ha ({error}): move it away or repair it") from error
