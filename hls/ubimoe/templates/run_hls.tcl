# Simulate, synthesise and export UbiMoE's kernels: vitis_hls -f run_hls.tcl
# Vitis 2022.1 or newer, from any working directory. For some of them only, name these:
# vitis_hls -f run_hls.tcl -tclargs layer_norm gate

set here [file dirname [file normalize [info script]]]
set kernels {@kernels@}
set chosen {}
foreach word $argv {
    if {$word in $kernels} {
        lappend chosen $word
    }
}
if {[llength $chosen] > 0} {
    set kernels $chosen
}

foreach kernel $kernels {
    set folder [file join $here $kernel]
    open_project -reset [file join $folder project]
    set_top $kernel
    add_files [file join $folder src $kernel.cpp] -cflags "-std=c++14"
    add_files -tb [file join $folder tb testbench.cpp] -cflags "-std=c++14"
    add_files -tb [file join $folder tb vectors.txt]

    open_solution -reset solution -flow_target vivado
    set_part @part@
    create_clock -period @period_ns@ -name default

    csim_design
    csynth_design
    cosim_design -rtl verilog
    export_design -format ip_catalog -output [file join $folder $kernel.zip]
    close_project
}
exit
