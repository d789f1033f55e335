"""What the use cases need from the world, as small Protocols by concern; ``runtime.wiring.site`` decides who provides them.

Rules that every adapter keeps: a call has a deadline; vendor errors arrive as ``domain.errors``; nothing is retried
silently for longer than that deadline (holding on through an outage is delivery's business, in ``streams.delivery``).
A port that one use case alone needs stands beside it.
"""
