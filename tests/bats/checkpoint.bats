# mamba-layer --checkpoint: whenever a run is killed, the same command ends with the same bytes.
load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny STATEPIPE_JOBS=1
    cd "$BATS_TEST_TMPDIR"
    # Open documents, short ones, one that goes on, one that is longer than all the others.
    "$stream" tokens --open o --open p o=700 3000 5 p=64 >first
    "$stream" tokens --seed 2 --cont o o=900 9000 257 0 >second
    pipe "embed first second >hidden; mamba-layer --emit-state hidden >want"
}

resumable() { pipe "mamba-layer --emit-state --checkpoint F --every 500 -o OUT $*"; }

@test "an undisturbed run writes what it writes without" {
    run -0 resumable hidden
    [ "$output" = "" ]
    cmp OUT want
    [ ! -e F ]
}

@test "killed at random moments" {
    run -0 "$BATS_TEST_DIRNAME/crash.py" 1 15 want "$STATEPIPE_BUILD/bin/mamba-layer" \
        --emit-state --checkpoint F --every 500 -o OUT hidden
    [[ "$output" == "15 kills in "*": nothing lost" ]]
}

@test "killed in every call that writes, syncs, renames, cuts or removes" {
    if ldd "$STATEPIPE_BUILD/bin/mamba-layer" | grep -q libasan; then skip "a sanitizer is linked in"; fi
    [ -e "$STATEPIPE_BUILD/inject.so" ] || make -s -C "$TREE" BUILD="$STATEPIPE_BUILD" "$STATEPIPE_BUILD/inject.so"
    pipe "mamba-layer --checkpoint F --every 2000 -o OUT hidden"
    mv OUT plain
    n=1
    while :; do
        rm -f OUT F F.tmp hit
        for again in 1 2; do # the second kill is in the run that goes on
            run pipe "INJECT=kill:$n INJECT_LOG=$PWD/hit LD_PRELOAD=$STATEPIPE_BUILD/inject.so \
                mamba-layer --checkpoint F --every 2000 -o OUT hidden"
            [ "$status" = 137 ] || [ "$status" = 0 ]
            [ "$again" = 2 ] || [ -e hit ] || break 2
        done
        run -0 pipe "mamba-layer --checkpoint F --every 2000 -o OUT hidden"
        cmp OUT plain
        [ ! -e F ] && [ ! -e F.tmp ]
        n=$((n + 1))
    done
    [ "$n" -gt 40 ]
}

@test "writes, syncs and renames that fail: an error, and the next run mends it" {
    if ldd "$STATEPIPE_BUILD/bin/mamba-layer" | grep -q libasan; then skip "a sanitizer is linked in"; fi
    for kind in write sync; do
        n=1
        while :; do
            rm -f OUT F hit
            run pipe "INJECT=$kind:$n INJECT_LOG=$PWD/hit LD_PRELOAD=$STATEPIPE_BUILD/inject.so \
                mamba-layer --emit-state --checkpoint F --every 3000 -o OUT hidden"
            [ -e hit ] || break
            [ "$status" = 74 ]
            run -0 pipe "mamba-layer --emit-state --checkpoint F --every 3000 -o OUT hidden"
            cmp OUT want
            n=$((n < 12 ? n + 1 : n + n / 3))
        done
        [ "$n" -gt 4 ]
    done
}

# A run whose input was cut off, as if all its pipe had been killed.
cut_run() {
    run -65 pipe "python3 -c 'import sys; sys.stdout.buffer.write(open(\"hidden\", \"rb\").read()[:1200000])' |
        mamba-layer --emit-state --checkpoint F --every 500 -o OUT $*"
    [ -e F ]
}

@test "the input ended early: the same command with all of it goes on, and says so" {
    cut_run
    run -0 --separate-stderr resumable -v hidden
    [[ "$stderr" == *"mamba-layer: goes on behind the first "*" tokens, at byte "*" of the output"* ]]
    cmp OUT want
}

@test "failed documents are counted once, and not told again" {
    python3 - <<'END'
import struct
b = open("hidden", "rb").read()
at = b.find(b"\x93\xa6DOCEND") - 40 # among the first document's hidden states
open("bad", "wb").write(b[:at] + struct.pack("<f", float("nan")) * 4 + b[at + 16:])
END
    run -1 pipe "mamba-layer bad 2>/dev/null >want"
    run -65 pipe "python3 -c 'import sys; sys.stdout.buffer.write(open(\"bad\", \"rb\").read()[:400000])' |
        mamba-layer --checkpoint F --every 500 -o OUT"
    run -1 --separate-stderr pipe "mamba-layer --checkpoint F --every 500 -o OUT bad"
    # Document o could not be gone on with; the first error was told by the run before.
    [ "${#stderr_lines[@]}" = 1 ]
    [[ "$stderr" == *"it goes on with a document that was not left open"* ]]
    cmp OUT want
}

@test "the exit status tells of documents that failed in a file before" {
    "$TREE/tests/bats/damage.py" poison "$STATEPIPE_MODEL" 90 model # a Z
    export STATEPIPE_MODEL=$PWD/model
    printf 'abcZ' >a
    seq 2000 | tr -d Z >b
    pipe "tokenize a | embed >a.hidden; tokenize b | embed >b.hidden"
    run -1 --separate-stderr pipe "mamba-layer a.hidden b.hidden >want"
    [ "$stderr" = "mamba-layer: document 'a': layers 0-1 give NaN or infinity" ]
    head -c 600000 b.hidden >cut
    run -65 pipe "mamba-layer --checkpoint F --every 500 -o OUT a.hidden cut"
    [ -e F ]
    run -1 --separate-stderr pipe "mamba-layer --checkpoint F --every 500 -o OUT a.hidden b.hidden"
    [ -z "$stderr" ] # told by the run before
    cmp OUT want
}

# Of the byte there, one bit.
flip() {
    python3 - "$@" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 1]))
END
}

@test "another input, other options, another output, a damaged checkpoint: refused" {
    cut_run
    "$stream" tokens --seed 3 --open o --open p o=700 3000 5 p=64 >other
    run -65 --separate-stderr pipe "embed other second | mamba-layer --emit-state --checkpoint F --every 500 -o OUT"
    [[ "$stderr" == "mamba-layer: this is not the input that the checkpoint F was made with: give the same, or remove it to start anew" ]]
    run -65 --separate-stderr pipe "embed first | mamba-layer --emit-state --checkpoint F --every 500 -o OUT"
    [[ "$stderr" == *"this is not the input that the checkpoint F was made with"* ]]
    run -65 --separate-stderr pipe "mamba-layer --checkpoint F --every 500 -o OUT hidden"
    [[ "$stderr" == *"F was made with another model, other layers, --dtype, --wire, --emit-state or --load-state"* ]]
    run -65 --separate-stderr resumable --dtype bf16 hidden
    cp OUT kept
    : >OUT
    run -65 --separate-stderr resumable hidden
    [[ "$stderr" == *"OUT is not the output that the checkpoint F was made with: it is shorter"* ]]
    cp kept OUT
    flip OUT 1000
    run -65 --separate-stderr resumable hidden
    [[ "$stderr" == "mamba-layer: OUT is not the output that the checkpoint F was made with: its first "*" bytes are others; remove the checkpoint to start anew" ]]
    cp kept OUT
    printf 'what a killed run has written behind it' >>OUT
    cp F good
    flip F $(($(stat -c %s F) / 2))
    run -65 --separate-stderr resumable hidden
    [[ "$stderr" == "mamba-layer: F"*"damaged"* ]]
    mamba_state=$BATS_TEST_TMPDIR/s
    pipe "embed other | mamba-layer --dump-state %n.state >/dev/null"
    cp 0.state F
    run -65 --separate-stderr resumable hidden
    [[ "$stderr" == "mamba-layer: F: it is a state, not a checkpoint" ]]
    run -65 pipe "state info good"
    # After all that, the right command still ends well.
    cp good F
    run -0 resumable hidden
    cmp OUT want
}

@test "one run at a time writes the output" {
    mkfifo in
    pipe "mamba-layer --checkpoint F -o OUT <in" 3>&- &
    exec 9>in
    for _ in {1..100}; do [ ! -e OUT ] || break; sleep 0.05; done
    sleep 0.1
    run -74 --separate-stderr resumable hidden
    [[ "$stderr" == "mamba-layer: OUT is being written by another run" ]]
    exec 9>&-
    wait || true
}

@test "inputs, output, checkpoint and state are different files; what is no checkpoint is told by name" {
    cp hidden h
    pipe "mamba-layer --dump-state %n.state h >/dev/null"
    mv 0.state s
    for f in "--checkpoint F -o h h" "--checkpoint h -o OUT h" "--dump-state h h" "--checkpoint F -o ./h h" \
        "--checkpoint F -o h <h"; do
        run -2 --separate-stderr pipe "mamba-layer $f >out"
        [ "$stderr" = "mamba-layer: the output would replace the input $([[ $f == *'<'* ]] && echo - || echo h): write to another file" ]
    done
    for f in "--checkpoint F -o F" "--checkpoint F -o OUT --dump-state F" "--checkpoint F -o OUT --dump-state OUT"; do
        run -2 --separate-stderr pipe "mamba-layer $f h >out"
        [[ "$stderr" == "mamba-layer: two things would be written to "[FO]* ]]
    done
    cmp h hidden
    [ ! -e F ] && [ ! -e OUT ]
    for f in s text none; do
        printf 'some notes\n' >text
        : >none
        cp $f h
        run -65 --separate-stderr pipe "mamba-layer --checkpoint h -o OUT hidden"
        cmp $f h
        case $f in
        s) [ "$stderr" = "mamba-layer: h: it is a state, not a checkpoint" ] ;;
        text) [ "$stderr" = "mamba-layer: h is not a checkpoint: it looks like text; give another name for it" ] ;;
        none) [ "$stderr" = "mamba-layer: h is empty, where a checkpoint was expected: remove it to start anew" ] ;;
        esac
    done
}

@test "options that belong together" {
    run -2 --separate-stderr pipe "mamba-layer --checkpoint F hidden"
    [[ "$stderr" == *"--checkpoint needs -o FILE"* ]]
    run -2 --separate-stderr pipe "mamba-layer -o OUT hidden"
    [[ "$stderr" == *"-o is for --checkpoint FILE; without it, redirect standard output"* ]]
    run -2 --separate-stderr pipe "mamba-layer --every 10 hidden >x"
    [[ "$stderr" == *"--every needs --checkpoint FILE"* ]]
    run -2 --separate-stderr pipe "mamba-layer --checkpoint F -o /dev/null hidden"
    [[ "$stderr" == *"-o /dev/null is not a regular file"* ]]
    run -74 --separate-stderr pipe "mamba-layer --checkpoint nowhere/F --every 500 -o OUT hidden"
    [[ "$stderr" == *"cannot create nowhere/F.tmp"* ]]
}
