"""The doors for clients of older push servers that speak HTTP/1.1: what they share.

door: what is spoken, and what it is given; connection: octets, deadlines, the end; listener: the addresses. What is
said is each door's own: mcmt/intake/pyapns/, mcmt/intake/propeller.py. No library serves here: these clients send one
small request with a Content-Length, and the engine needs nothing more installed for them.
"""
