// Sizes, and the words of the ports.
#ifndef HEADRACE_UBIMOE_SIZES_H
#define HEADRACE_UBIMOE_SIZES_H

#define AP_INT_MAX_W 4096  // words of a port may be wider than the default of 1024 bits

#include <ap_int.h>

@constants@

@types@

#endif
