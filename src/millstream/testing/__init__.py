"""The test kit: an app with the real engine around it, in memory, on a virtual clock; and a pytest plugin.

`plant` is what a test holds, `script` what can happen to it as data. `rig` is the engine inside, with `instance` and
`line`: a worker that can be killed. `rest` and `calls` are how it knows that nothing is left to do, `record` is what
asserts see, `failures` how errors get into the test, `plugin` what pytest finds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millstream.testing.failures import EscapedError
    from millstream.testing.plant import Plant
    from millstream.testing.rig import RestlessError
    from millstream.testing.script import Crash, Pause, Publish, Shuffled, Step
    from millstream.worker import Failure

__all__ = ["Crash", "EscapedError", "Failure", "Pause", "Plant", "Publish", "RestlessError", "Shuffled", "Step"]

# Loaded when first asked for: pytest imports this package for the plugin, in every run of every project.
_HOMES = {
    "EscapedError": "millstream.testing.failures",
    "Failure": "millstream.worker",
    "Plant": "millstream.testing.plant",
    "RestlessError": "millstream.testing.rig",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "millstream.testing.script")), name)
