"""Pure time: how a stream of samples becomes windows, and how separated windows become a stream again.

Standard library and numpy only. No torch, no sockets, no threads, no clocks; time is an integer sample count.
"""
