load common

# --device emu is the CUDA backend's source on an emulated runtime: its results against the CPU's.
setup() {
    [ -e "$STATEPIPE_BUILD/plugin/emu.so" ] || skip "there is no C++ compiler: no emulator"
    model=$TREE/tests/golden/tiny
    stream=$TREE/tests/bats/stream.py
    cd "$BATS_TEST_TMPDIR"
    unset STATEPIPE_EMU
}

# both TENSOR LIMIT 'PIPE with @': the tensor of its output on emu and on the CPU.
both() {
    pipe "${3//@/--device emu}" >emu
    pipe "${3//@/--device cpu}" >cpu
    run -0 "$stream" close "$1" emu cpu "$2"
    echo "# $output" >&3
}

@test "layers and heads give what the CPU gives; several documents, tails, one token" {
    "$stream" tokens 300 1 2 17 64 >tokens
    pipe "embed -m '$model' tokens >hidden"
    both hidden 2e-6 'mamba-layer @ hidden'
    both hidden 0.01 'mamba-layer --dtype bf16 @ hidden'
    both scores 2e-6 'mamba-layer @ hidden | head @'
    "$stream" tokens --chunk random 90 3 40 >tokens
    pipe "embed -m '$model' tokens >hidden"
    both scores 2e-6 'mamba-layer @ hidden | head @'
    local odd
    for odd in mamba-odd mamba-bias falcon-odd mamba-bf16; do
        "$stream" tokens --vocab 60 70 5 1 >tokens
        pipe "embed -m '$TREE/tests/golden/$odd' tokens >hidden"
        both hidden 3e-6 'mamba-layer @ hidden'
    done
}
