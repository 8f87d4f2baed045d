"""Events that are sent again to one group, which the others that read their stream pass by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millstream.event import RESEND_GROUP, Batch
from millstream.ledger import RESEND_OF

_NAME = pa.scalar(RESEND_GROUP)


def to_others(batch: Batch, group: str) -> npt.NDArray[np.bool_] | None:
    """Which events of a batch are for another group; None where none is, which costs next to nothing."""
    headers = batch.events.column("headers")
    if headers.null_count == len(headers) or not pc.any(pc.equal(headers.keys, _NAME)).as_py():
        return None
    here = f"{batch.stream}:{batch.partition}:"
    found = [_is_to_another(dict(its or ()), here, group) for its in headers.to_pylist()]
    return np.array(found, np.bool_) if any(found) else None


def _is_to_another(headers: dict[str, str], here: str, group: str) -> bool:
    """Headers count only in the partition that they name: an event that was made of such a one is a new one."""
    return headers.get(RESEND_GROUP, group) != group and headers.get(RESEND_OF, "").startswith(here)
