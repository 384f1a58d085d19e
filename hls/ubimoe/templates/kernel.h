// Top function; docs/ubimoe-kernels.md has the ports. It works through `commands` commands and
// returns when the last result is written.
#ifndef HEADRACE_UBIMOE_KERNEL_H
#define HEADRACE_UBIMOE_KERNEL_H

#include "sizes.h"  // first: it sets the widest ap_int

#include <hls_stream.h>

void @top@(ap_uint<32> commands,
    @arguments@);

#endif
