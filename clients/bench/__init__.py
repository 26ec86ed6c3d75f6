"""Measurements from the outside, over the WebSocket that every client uses. Needs `rivulet-client` (clients/python)."""
