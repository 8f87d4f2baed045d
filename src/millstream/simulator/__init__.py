"""Simulated devices: real MQTT clients that register themselves, report, answer, and fail now and then.

`profile` is what they measure and how they fail, `device` is one of them, `fleet` all of them.
"""

from millstream.simulator.device import Counts, Site
from millstream.simulator.fleet import Fleet
from millstream.simulator.profile import Faults, Profile, Signal, read_profile

__all__ = ["Counts", "Faults", "Fleet", "Profile", "Signal", "Site", "read_profile"]
