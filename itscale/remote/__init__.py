"""Rewards that are computed elsewhere: another environment on this machine, or a server."""
