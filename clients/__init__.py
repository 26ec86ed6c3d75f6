"""Clients of a `stems.v1` server: python/ (a package of its own), web/ (TypeScript) and bench/ (latency and load).

None of them imports the server, its models or its streaming core: all they know is the protocol (docs/protocol.md).
"""
