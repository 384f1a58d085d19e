"""TeLLMe's ternary matmul engine in Amaranth."""
