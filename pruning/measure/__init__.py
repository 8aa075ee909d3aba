"""Costs, latencies and metrics of networks."""
