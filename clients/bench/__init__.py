"""Measurements from the outside, over the same WebSocket that every client uses. Needs `rivulet-client` (clients/python)."""
