"""Effects: sockets, threads, limits, clocks."""
