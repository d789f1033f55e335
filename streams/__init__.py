"""Events in and out: Faust agents, and the relay from the outbox to Kafka.

Begin with ``streams.agents``, which lists the agents: what each reads, and its processor. What happens to a record then is
decided in ``streams.delivery``, in six numbered steps. ``streams.outbox_relay`` is the way out.
"""
