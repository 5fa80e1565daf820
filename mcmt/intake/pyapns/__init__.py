"""The door for clients of pyapns: XML-RPC, with its methods, its shapes and its faults.

The folder by what it knows: xmlrpc (the protocol), notifications (what notify is given, as parts of messages),
provisioning (the apps that clients have set up), certificate (what they are set up with), door (the methods).
"""

from mcmt.intake.pyapns.door import Make, PyapnsDoor
from mcmt.intake.pyapns.provisioning import Provisioning

__all__ = ["Make", "Provisioning", "PyapnsDoor"]
