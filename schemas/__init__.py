"""The events' wire form: Avro schemas, the codec, the registry client and the check that old events stay readable."""
