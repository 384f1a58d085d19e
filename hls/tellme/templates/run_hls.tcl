# Simulate, synthesise and export the ternary matmul engine: vitis_hls -f run_hls.tcl
# Vitis 2022.1 or newer, from any working directory.

set here [file dirname [file normalize [info script]]]
set project [file join $here @project@]

open_project -reset $project
set_top @top@
add_files [file join $here src ternary_matmul.cpp] -cflags "-std=c++14"
add_files -tb [file join $here tb testbench.cpp] -cflags "-std=c++14"
add_files -tb [file join $here tb vectors.txt]

open_solution -reset solution -flow_target vivado
set_part @part@
create_clock -period @period_ns@ -name default

csim_design
csynth_design
cosim_design -rtl verilog
export_design -format ip_catalog -output [file join $here @archive@]
exit
