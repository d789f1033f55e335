"""Side-by-side measurements: ``python -m benchmarks``. No part of the product."""
