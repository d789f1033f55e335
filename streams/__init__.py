"""Events in and out: delivery to processors over Faust, and the relay from the outbox to Kafka."""
