// Kernel and test bench in one translation unit, for C simulation without Vitis.
#include "../src/@top@.cpp"
#include "../tb/testbench.cpp"
