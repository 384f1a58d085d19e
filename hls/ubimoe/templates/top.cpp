
void @top@(ap_uint<32> commands,
    @arguments@) {
#pragma HLS INTERFACE mode=s_axilite port=commands
#pragma HLS INTERFACE mode=s_axilite port=return
@interfaces@
    work(commands, @names@);
}
