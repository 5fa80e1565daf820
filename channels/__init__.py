"""The channels that come with mcmt: one file or folder a protocol, loaded by folder (mcmt/channel/plugins.py)."""
