#undef HEADRACE_UBIMOE_SIZES_H
#undef HEADRACE_UBIMOE_NARROW_H
#undef HEADRACE_UBIMOE_FIELDS_H
#undef HEADRACE_UBIMOE_KERNEL_H
namespace @part@ {
#include "@part@/@part@.cpp"
}

