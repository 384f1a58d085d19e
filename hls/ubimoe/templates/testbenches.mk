# Compile and run the test bench of every kernel, without Vitis:
#
#   make AP_TYPES=folder-of-ap_int.h
#
# One kernel alone: make AP_TYPES=... layer_norm. A test bench that finds a difference stops make.
CXX ?= g++
CXXFLAGS ?= -std=c++14 -O1 -w
KERNELS := @kernels@

.PHONY: all $(KERNELS)
all: $(KERNELS)

$(KERNELS):
	$(if $(AP_TYPES),,$(error AP_TYPES is the folder of ap_int.h: see README.md))
	@mkdir -p build
	$(CXX) $(CXXFLAGS) -Isim -isystem "$(AP_TYPES)" $@/src/$@.cpp $@/tb/testbench.cpp -o build/$@
	build/$@ $@/tb/vectors.txt
