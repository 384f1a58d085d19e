"""Networks from configuration files and the exact reference kernels."""
