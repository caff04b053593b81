load common

# What STATEPIPE_DEVICE (emu) gives against the CPU's results, and what is said when a device fails.
# --device $dev is the CUDA backend's source on an emulated runtime (tests/emu/runtime.cc, which says
# what $STATEPIPE_EMU can ask for); tests/gpu-check runs this suite on a GPU.
setup() {
    dev=${STATEPIPE_DEVICE:-emu}
    [ -e "$STATEPIPE_BUILD/plugin/$dev.so" ] || skip "there is no C++ compiler: no emulator"
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    stream=$TREE/tests/bats/stream.py
    cd "$BATS_TEST_TMPDIR"
    unset STATEPIPE_EMU
}

needs_emulator() { [ "$dev" = emu ] || skip "errors are provoked in the emulator only"; }

# both TENSOR LIMIT 'PIPE with @': the tensor of its output on the device and on the CPU.
both() {
    pipe "${3//@/--device $dev}" >here
    pipe "${3//@/--device cpu}" >cpu
    run -0 "$stream" close "$1" here cpu "$2"
    echo "$3: $output"
}

@test "embeddings, layers and heads are the CPU's; several documents, tails, one token" {
    "$stream" tokens 300 1 2 17 64 >tokens
    both hidden 0 'embed @ tokens'
    cp cpu hidden
    both hidden 2e-6 'mamba-layer @ hidden'
    both hidden 0.02 'mamba-layer --dtype bf16 @ hidden'
    both scores 2e-6 'mamba-layer @ hidden | head @'
    both scores 2e-6 'mamba-layer @ hidden | head @ --head lm'
    "$stream" tokens --chunk random 90 3 40 >tokens
    both scores 2e-6 'embed @ tokens | mamba-layer @ | head @'
}

@test "layers reversed in windows, forward ones above and below them, their states" {
    for layer in 0 1; do
        rm -rf model
        cp -r "$TREE/tests/golden/tiny" model
        sed -i '/"lm": {/,/},/d; s/"format": 1/"format": 2/; s/"delay": 0,/"delay": 0, "reverse": 32, "reverse_layers": ['$layer'],/' \
            model/config.json
        export STATEPIPE_MODEL=$PWD/model
        "$stream" tokens 300 1 2 17 64 >tokens
        both hidden 2e-6 'embed @ tokens | mamba-layer @'
        both hidden 0.02 'embed @ tokens | mamba-layer @ --dtype bf16'
        both scores 2e-6 'embed @ tokens | mamba-layer @ -l 0 | mamba-layer @ -l 1 | head @'
        "$stream" tokens 96 | pipe "embed | mamba-layer --device $dev --dump-state s >/dev/null"
        both hidden 2e-6 'embed @ tokens | mamba-layer @ --load-state s'
    done
}

@test "batches overlap with reading and writing, and stay what they are" {
    "$stream" tokens 700 1 1 3 500 >tokens
    pipe "embed tokens >hidden"
    both hidden 2e-6 'mamba-layer @ hidden'
    "$stream" rows hidden <here >rows
    pipe "(command -p head -c 100000 hidden; sleep 0.2; tail -c +100001 hidden) | mamba-layer --device $dev" |
        "$stream" rows hidden | cmp - rows
    # States that are looked at on the way: a cut keeps the rows but for rounding.
    mkdir cache
    pipe "mamba-layer --device $dev --cache cache hidden >cached"
    run -0 "$stream" close hidden cached cpu 2e-6
}

@test "a long document is scanned in segments where the GPU has room; bits do not show what had come" {
    STATEPIPE_MODEL=$TREE/tests/golden/choices # its rows are aligned: a short end takes other tiles
    local n sms at
    for n in 266 530 40; do
        "$stream" tokens --vocab 60 $n >tokens
        pipe "embed tokens >hidden"
        both hidden 2e-6 'mamba-layer @ hidden'
        for sms in 16 1; do # beside d_inner: the second has no room
            export STATEPIPE_EMU=sms=$sms
            pipe "mamba-layer --device $dev hidden >whole.$sms"
            run -0 "$stream" close hidden whole.$sms cpu 2e-6
            # The last chunk comes later.
            at=$(($(grep -abo CHUNK hidden | tail -n 1 | cut -d: -f1) - 2))
            pipe "(command -p head -c $at hidden; sleep 0.3; tail -c +$((at + 1)) hidden) | mamba-layer --device $dev >slow"
            cmp slow whole.$sms
        done
        unset STATEPIPE_EMU
        [ "$dev" = cuda ] || [ $n != 530 ] || run ! cmp -s whole.16 whole.1
    done
}

@test "whether the next chunk had come already does not show, whatever its length" {
    "$stream" tokens --chunk 20 110 >tokens
    pipe "embed tokens >hidden; mamba-layer --device $dev hidden >whole"
    local size
    for size in 3000 9000; do
        pipe "(command -p head -c $size hidden; sleep 0.3; tail -c +$((size + 1)) hidden) | mamba-layer --device $dev >slow"
        cmp slow whole
    done
}

@test "other shapes: Falcon-Mamba, biases, odd sizes, weights in bf16" {
    local odd
    for odd in mamba-odd mamba-bias mamba-deep mamba-bf16 falcon-odd falcon-tied; do
        STATEPIPE_MODEL=$TREE/tests/golden/$odd
        "$stream" tokens --vocab 60 70 5 1 >tokens
        pipe "embed tokens >hidden"
        both hidden 4e-6 'mamba-layer @ hidden'
        "$stream" tokens --vocab 60 --chunk 1 6 3 >tokens
        pipe "embed tokens >hidden"
        both hidden 4e-6 'mamba-layer @ hidden'
        both hidden 0.02 'mamba-layer --dtype bf16 @ hidden'
    done
}

@test "a document's bits are its own: packing, layers over processes, order of the threads" {
    "$stream" tokens 300 1 33 64 >tokens
    pipe "embed tokens >hidden; mamba-layer --device $dev hidden >whole"
    "$stream" rows hidden <whole >rows
    pipe "mamba-layer --device $dev -l 0-0 hidden | mamba-layer --device $dev" | "$stream" rows hidden | cmp - rows
    local first=0 n
    for n in 300 1 33 64; do
        echo "document d$first of $n"
        "$stream" tokens --first $first $n >one
        pipe "embed one | mamba-layer --device $dev" | "$stream" rows hidden >alone
        awk -v d="d$first" '$1 == "document" { on = $2 == d } on' rows | cmp - alone
        first=$((first + 1))
    done
    for n in 1 2 3; do # that the emulator chooses
        STATEPIPE_EMU=seed=$n pipe "mamba-layer --device $dev hidden >seeded"
        cmp seeded whole
    done
}

@test "states go from one device to the other, and a restored one is exact" {
    "$stream" tokens --open a a=80 >first
    "$stream" tokens --first 1 b=40 >second
    "$stream" tokens --open a --chunk 20 a=80 >pieces
    local device other
    for device in $dev cpu; do
        pipe "embed first | mamba-layer --device $device --dump-state $device.state >/dev/null"
        for other in $dev cpu; do
            pipe "embed second | mamba-layer --device $other --load-state $device.state >$device-$other"
            run -0 "$stream" close hidden $device-$other $dev-$dev 4e-6
        done
    done
    pipe "embed second | cat $dev.state - | mamba-layer --device $dev" | "$stream" rows hidden >rows
    "$stream" rows hidden <$dev-$dev | cmp - rows
    pipe "embed second | mamba-layer --device $dev --load-state $dev.state --dump-state again.state >/dev/null"
    pipe "embed second | mamba-layer --device $dev --load-state $dev.state --dump-state more.state >/dev/null"
    cmp again.state more.state
    pipe "embed pieces | mamba-layer --device $dev --dump-state pieces.state >/dev/null"
    pipe "state verify $dev.state pieces.state >/dev/null"
}

@test "convolutions of 5 and 8 taps: training, layers, states and decoding are the CPU's" {
    printf '{"text": "a text of %d, and %d"}\n' 10 2222 3 44444 5 66 >lines
    pipe "tokenize --jsonl lines >learn"
    local taps device
    for taps in 5 8; do
        sed 's/"conv_kernel": 4/"conv_kernel": '$taps'/' "$TREE/tests/golden/tiny/config.json" >config.json
        for device in cpu $dev; do
            pipe "train --device $device --config config.json --task lm --batch 64 --steps 3 --seed 2 -v \
                -o $device-$taps learn 2>&1" | grep -o 'loss [0-9.]*\|norm [0-9.]*' >$device.log
        done
        [ "$(wc -l <cpu.log)" -ge 6 ]
        cmp cpu.log $dev.log
        STATEPIPE_MODEL=$PWD/cpu-$taps
        "$stream" tokens 70 5 1 33 >tokens
        pipe "embed tokens >hidden"
        both hidden 4e-6 'mamba-layer @ hidden'
        both hidden 0.02 'mamba-layer --dtype bf16 @ hidden'
        "$stream" tokens --chunk 1 12 3 >tokens
        pipe "embed tokens >hidden"
        both hidden 4e-6 'mamba-layer @ hidden'
        "$stream" tokens --open a a=80 >first
        "$stream" tokens --first 1 b=40 >second
        for device in cpu $dev; do
            pipe "embed first | mamba-layer --device $device --dump-state $device.state >/dev/null"
            pipe "embed second | mamba-layer --device $dev --load-state $device.state >from-$device"
            pipe "generate --device $device -n 12 'Once upon' a >text-$device"
        done
        run -0 "$stream" close hidden from-cpu from-$dev 4e-6
        [ -s text-cpu ]
        cmp text-cpu text-$dev
    done
}

@test "generate and fill write what they write on the CPU; decode is replayed" {
    local how n
    for how in "" "-s 1 -t 0.8" "--beam 3"; do
        for device in cpu $dev; do
            pipe "generate --device $device -n 12 $how 'Once upon' 'a time' >$device"
        done
        [ -s cpu ]
        cmp cpu $dev
    done
    for device in cpu $dev; do
        pipe "fill --device $device -o jsonl --choices 'cat,dog' -q 'The ?__ sat' >$device"
        sed -i 's/\("p":[^,}]*\.[0-9]\{3\}\)[0-9]*/\1/g' $device
    done
    [ -s cpu ]
    cmp cpu $dev
    [ $dev = emu ] || return 0
    # Calls of the runtime for each token more: without replay, each layer's launches.
    for n in 20 40; do
        STATEPIPE_EMU=trace pipe "generate --device $dev -n $n x 2>calls.$n >/dev/null"
    done
    n=$((($(grep -o '[0-9]* calls' calls.40 | cut -d' ' -f1) - $(grep -o '[0-9]* calls' calls.20 | cut -d' ' -f1)) / 20))
    echo "$n calls a token"
    [ "$n" -gt 5 ] && [ "$n" -lt 45 ]
}

@test "train: loss, norm and evaluation are the CPU's; checkpoints go over" {
    awk 'BEGIN { srand(1); for (i = 0; i < 40; i++) printf "{\"text\": \"%d-%d %d\"}\n", i, i * i, rand() * 1e6 }' >lines
    pipe "tokenize --pad 0 --jsonl lines >tokens"
    for device in cpu $dev; do
        pipe "train --device $device --init '$STATEPIPE_MODEL' --task lm --batch 64 --steps 4 --holdout 8 \
            --eval-every 4 --seed 2 -v -o $device tokens 2>&1" |
            grep -o 'loss [0-9.]*\|norm [0-9.]*\|eval [0-9.]*' >$device.log
    done
    cmp cpu.log $dev.log
    [ "$(wc -l <$dev.log)" -ge 9 ]
}

@test "each thing that a machine can lack is said, with exit status 69" {
    needs_emulator
    "$stream" tokens 9 >tokens
    pipe "embed tokens >hidden"
    # refused WHAT THE-MESSAGE
    refused() {
        echo "$1"
        STATEPIPE_EMU=$1 run -69 --separate-stderr pipe "mamba-layer --device emu hidden >/dev/null"
        [[ $stderr == "mamba-layer: device emu: "*$2* ]] || { echo "$stderr"; return 1; }
        [ "$(wc -l <<<"$stderr")" = 1 ]
    }
    refused no-driver "no NVIDIA driver on this machine"
    refused old-driver "the NVIDIA driver is for CUDA 12.4, 13.0 is needed"
    refused no-device "there is no NVIDIA GPU"
    refused arch=70 "compute capability 7.0) is not supported: 7.5"
    refused no-image "was not built for emulator (compute capability 8.0"
    refused old-ptx "was not built for emulator (compute capability 8.0"
    refused memory=38000000 'too little memory: [0-9]*[0-9].[0-9] MiB more are needed, * of 36.2 MiB are free'
    for program in embed head generate fill train; do
        case $program in
        embed) line='embed @ tokens' ;;
        head) line='head @ hidden' ;;
        generate) line='generate @ x' ;;
        fill) line="fill @ -q 'a ?__ b'" ;;
        train) line='train @ --init "$STATEPIPE_MODEL" --steps 1 -o model tokens' ;;
        esac
        STATEPIPE_EMU=no-device run -69 pipe "${line//@/--device emu} >/dev/null"
        [[ $output == *"device emu: there is no NVIDIA GPU"* ]]
    done
}

@test "the most states: the CPU's loss, and on a GPU with too little shared memory a reason" {
    needs_emulator
    printf '{"text": "a text of %d"}\n' 10 2222 3 >lines
    pipe "tokenize --jsonl lines >tokens"
    sed 's/"state_size": [0-9]*/"state_size": 256/' "$STATEPIPE_MODEL/config.json" >config.json
    train() { pipe "train --device $1 --config config.json --task lm --batch 16 --steps 2 -v -o $1 tokens 2>&1"; }
    for device in cpu emu; do
        train $device | grep -o 'loss [0-9.]*' >$device.log
    done
    [ -s cpu.log ]
    cmp cpu.log emu.log
    rm -r emu
    STATEPIPE_EMU=arch=75 run -69 train emu
    [[ $output == *"train: device emu: training with a d_state of 256 takes more shared memory than the 64 KiB "* ]]
    [[ $output == *"on emulator (compute capability 7.5), which is enough for 248; use a GPU of "*"--device cpu"* ]]
    sed -i 's/"state_size": 256/"state_size": 248/' config.json
    STATEPIPE_EMU=arch=75 train emu >log
}

@test "a plugin that is absent, damaged, or of another version is refused" {
    needs_emulator
    "$stream" tokens 3 >tokens
    pipe "embed tokens >hidden"
    mkdir plugins
    export STATEPIPE_PLUGINS=$PWD/plugins
    run -69 pipe "mamba-layer --device cuda hidden"
    [[ $output == *"there is no plugin cuda.so"* ]]
    echo "no object" >plugins/cuda.so
    run -69 pipe "mamba-layer --device cuda hidden"
    [[ $output == *"mamba-layer: device cuda: "*"cuda.so"* ]]
    echo 'int nothing;' | ${CC:-cc} -shared -fPIC -x c -o plugins/cuda.so -
    run -69 pipe "mamba-layer --device cuda hidden"
    [[ $output == *"cuda.so is no plugin of statepipe's"* ]]
    echo 'const struct { int abi; void *open; } sp_plugin = {999, 0};' |
        ${CC:-cc} -shared -fPIC -x c -o plugins/cuda.so -
    run -69 pipe "mamba-layer --device cuda hidden"
    [[ $output == *"of another version of statepipe (plugin ABI 999, "* ]]
    run -69 pipe "mamba-layer --device emu hidden"
    [[ $output == *"there is no plugin emu.so"*"for tests only"* ]]
}

@test "each call of the device that fails is noticed, and nothing is left" {
    needs_emulator
    "$stream" tokens 20 3 >tokens
    pipe "embed tokens >hidden"
    STATEPIPE_EMU=trace pipe "mamba-layer --device emu hidden 2>calls >done"
    local n total
    total=$(grep -o '[0-9]* calls' calls | cut -d' ' -f1)
    [ "$total" -gt 100 ]
    for ((n = 1; n < total; n += 1 + total / 40)); do
        STATEPIPE_EMU=fail=$n run --separate-stderr pipe "mamba-layer --device emu hidden >out"
        echo "call $n of $total: exit $status, $stderr"
        [[ $stderr != *"never freed"* ]]
        [ "$status" = 69 ] || { [ "$status" = 0 ] && [ "$n" -gt $((total * 3 / 4)) ] && cmp out done; }
        [ "$status" = 0 ] || [[ $stderr == "mamba-layer: "*"device emu: "*"unknown error"* ]] ||
            [[ $stderr == *"failed to launch"* ]]
    done
    # Among the first calls is cuBLAS's first, whose status is no number of the runtime's.
    for n in {25..45}; do
        STATEPIPE_EMU=fail=$n run -69 pipe "mamba-layer --device emu hidden >out"
        echo "$output"
    done >said
    grep -F "starting cuBLAS: the function failed to launch on the GPU (cuBLAS status 13)" said
}

@test "gpu-check measures, says what is wrong, and counts it" {
    needs_emulator
    run -0 "$TREE/tests/gpu-check" --device emu --parts bench
    [ "$(grep -c '^  decode, *[0-9]* sequences  *[0-9.]* tokens/s$' <<<"$output")" = 16 ]
    [[ $output == *"gpu-check: all is well" ]]
    run -1 "$TREE/tests/gpu-check" --device emu --parts bench -m "$PWD/nowhere"
    [[ $output == *"FAILED  bench: emu, f32 (exit 66)"*"gpu-check: 4 parts failed" ]]
    STATEPIPE_EMU=no-device run -69 "$TREE/tests/gpu-check" --device emu --parts bench
    [[ $output == *"device emu: there is no NVIDIA GPU"* ]]
    run -2 "$TREE/tests/gpu-check" --device tpu
    run -2 "$TREE/tests/gpu-check" --what
    run -2 "$TREE/tests/gpu-check" --device emu --parts bench,kernel
    [[ $output == *"'kernel' is not one of build, kernels, pipe, bench"* ]]
    run -0 "$TREE/tests/gpu-check" --help
    [[ $output == *"--device cuda|emu"* ]]
}

@test "gpu-check runs the kernels' checks as on a GPU, and a kernel with a bug fails them" {
    needs_emulator
    [ "${SAN:-0}" = 0 ] || skip "its programs are not built with sanitizers"
    export EMU_SCHEDULE=random # fewer cases
    run -0 "$TREE/tests/gpu-check" --device emu --parts kernels
    [ "$(grep -c '^ok      kernels: cuda_' <<<"$output")" = 7 ]
    [[ $output == *"gpu-check: all is well" ]]
    EMU_PLANTED="code stale segment" run -1 "$TREE/tests/gpu-check" --device emu --parts kernels
    [[ $output == *"not ok"*"scan_split_cuda f32"*"FAILED  kernels: cuda_scan_fwd (exit 1)"*"2 parts failed" ]]
    EMU_PLANTED="code store past the tail" run -1 "$TREE/tests/gpu-check" --device emu --parts kernels
    [[ $output == *"FAILED  kernels: cuda_conv (exit 139)"* ]]
    STATEPIPE_EMU=no-managed run -1 "$TREE/tests/gpu-check" --device emu --parts kernels
    [[ $output == *"this system does not let host and GPU share memory"*"(exit 69)"*"7 parts failed" ]]
}

@test "doctor says what devices there are" {
    needs_emulator
    run -0 "$STATEPIPE_BUILD/bin/doctor"
    grep -q '^cuda  *[^ ]' <<<"$output"
    grep -q '^emu  *emu: emulator, compute capability 8.0, ' <<<"$output"
    STATEPIPE_EMU=no-device run -0 "$STATEPIPE_BUILD/bin/doctor"
    grep -q '^emu  *device emu: there is no NVIDIA GPU' <<<"$output"
}
