"""The use cases of the pipeline, one module each, over the ports in ``processors.ports``."""
