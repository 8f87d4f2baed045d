"""The ledger: where every event ended, and what can be done about it.

`names` are those of the counts and of the streams in which those events are kept that went astray; `balance` computes
and checks the balances; `letter` is a dead letter, `deadletters` are all of them and what was done about them;
`resets` have a key begin anew; `rejection` is the trace of a refused event; `trace` follows one event's way; `scan`
reads streams.
"""

from millstream.ledger.balance import Equation, equations
from millstream.ledger.letter import RESEND_OF, Letter
from millstream.ledger.names import DEAD_LETTERS, REJECTIONS, RESOLVED
from millstream.ledger.resets import is_reset

__all__ = [
    "DEAD_LETTERS",
    "REJECTIONS",
    "RESEND_OF",
    "RESOLVED",
    "Equation",
    "Letter",
    "equations",
    "is_reset",
]
