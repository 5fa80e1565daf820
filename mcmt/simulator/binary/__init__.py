"""The simulator of the gateway that Apple has switched off: the binary protocol, and its feedback service.

    async with BinarySimulator(tls=make_credentials(folder)) as simulator:
        ...                                # send frames to 127.0.0.1, simulator.port

Source: Apple, "Binary Provider API". The folder by what it knows: frames (what a client sends), verdict (what becomes
of a notification), connection (one client), feedback (the other port), simulator (both ports).

It shares no protocol code with mcmt's own channel and door, so that they can disagree.
"""

from mcmt.simulator.binary.simulator import BinarySimulator

__all__ = ["BinarySimulator"]
