load common

setup() {
    seeds=$TREE/tests/fuzz/seeds
    cd "$BATS_TEST_TMPDIR" || return 1
    cp "$seeds/stream/three" "$seeds/stream/one" "$seeds/state/whole" .
}

@test "text: one line per record, one per tensor, offsets of the stream" {
    run -0 pipe "inspect one"
    [[ ${lines[0]} == '         0  HELLO version=[1,0] content="hidden" program="seed" '* ]]
    [ "${lines[1]}" = '       136  DOC doc=0 bytes=12 id="a.txt"' ]
    [ "${lines[3]}" = '    text u8 (11) "<<<<<<<<<<<"' ]
    [ "${lines[7]}" = '    hidden f32 (3,3) min 0.01148897 max 0.01148897 mean 0.011489 norm 0.0344669' ]
    [ "${lines[9]}" = '       468  END docs=1 errors=0' ]
}

@test "-n shows values, and says when there are more" {
    run -0 pipe "inspect -n 2 one"
    [[ $output == *$'\n        1010580540 1010580540 ...\n'* ]]
    run -0 pipe "inspect -n 3 one"
    [[ $output == *$'\n        1010580540 1010580540 1010580540\n'* ]]
}

@test "--json: every line is an object with the same facts" {
    run -0 pipe "inspect --json -n 1 one | python3 -c '
import json, sys
lines = [json.loads(line) for line in sys.stdin]
assert [l[\"kind\"] for l in lines] == [\"statepipe\", \"DOC\", \"TEXT\", \"CHUNK\", \"DOCEND\", \"END\"]
assert [l[\"at\"] for l in lines] == [0, 136, 164, 225, 446, 468]
hidden = lines[3][\"tensors\"][\"hidden\"]
assert hidden[\"shape\"] == [3, 3] and hidden[\"nan\"] == 0 and len(hidden[\"values\"]) == 1
assert abs(hidden[\"norm\"] - 3 * hidden[\"mean\"]) < 1e-8
assert lines[2][\"tensors\"][\"text\"][\"text\"] == \"<\" * 11
print(\"fine\")'"
    [ "$output" = fine ]
}

@test "NaN and infinity are counted, and are null in JSON" {
    # hidden's first two values: its elements begin 9 * 4 bytes before DOCEND's offset, padded to 8
    cp one odd
    printf '\0\0\xc0\x7f\0\0\x80\x7f' | dd of=odd bs=1 seek=$((446 - 40)) conv=notrunc status=none
    run -0 pipe "inspect odd"
    [[ $output == *"norm 0.030397 NaN 1 inf 1"* ]]
    run -0 pipe "inspect -j -n 3 odd"
    [[ $output == *'"nan":1,"inf":1,"values":[null,null,0.0114889704]'* ]]
    run -0 --separate-stderr pipe "inspect --tee odd | cmp - odd"
    [[ $stderr == *"hidden: rms 0.011489, largest 0.011489, NaN 1, inf 1"* ]]
}

@test "--tee passes every byte on and reports on stderr" {
    run -1 --separate-stderr pipe "inspect --tee three >copy"
    cmp three copy
    [[ ${stderr_lines[0]} =~ ^'inspect: 3 documents, 10 tokens in '[0-9.]+' s ('[0-9]+' tokens/s)'$ ]]
    [ "${stderr_lines[1]}" = 'inspect: hidden: rms 0.011489, largest 0.011489, NaN 0, inf 0' ]
}

@test "--tee of a cut stream ends in an ERR for those downstream" {
    head -c 300 three >cut
    run -65 --separate-stderr pipe "inspect --tee cut | inspect"
    [[ ${lines[-1]} == *'ERR stage="inspect" code="data" message="cut ends in the middle of a '*' exit=65' ]]
}

@test "state files, several files, standard input" {
    run -0 pipe "inspect whole - <one"
    [[ $output == *'STATE model='*'last=true id=0 sum='* ]]
    [[ $output == *'    conv f32 (3,4) min 0 '* ]]
    [ "$(grep -c ' END ' <<<"$output")" = 2 ]
}

@test "strings cannot write to the terminal" {
    # a document's id with an escape sequence and an invalid byte
    LC_ALL=C sed 's/a\.txt/\x1b[2J\xff/' one >evil
    run -0 pipe "inspect evil"
    [[ $output == *'id="\u001b[2J\ufffd"'* ]]
    ! LC_ALL=C grep -q $'\x1b' <<<"$output"
}

@test "exit status: failed documents 1, a fatal ERR its own" {
    run -1 pipe "inspect three"
    run -65 pipe "inspect '$seeds/stream/fatal'"
}

@test "errors: no file, a directory, a full disk, wrong usage" {
    run -66 pipe "inspect nothere"
    [ "$output" = "inspect: cannot open nothere: No such file or directory" ]
    run -66 pipe "inspect ."
    [ "$output" = "inspect: . is a directory" ]
    run -74 pipe "inspect one >/dev/full"
    [ "$output" = "inspect: writing standard output: No space left on device" ]
    run -74 pipe "inspect --tee one >/dev/full"
    [[ $output == *"inspect: writing standard output: No space left on device"* ]]
    run -2 pipe "inspect --tee --json one"
    run -2 pipe "inspect -n x one"
    run -65 pipe "inspect </dev/null"
    [[ $output == "inspect: standard input is empty, where a statepipe stream was expected"* ]]
}

@test "a reader that goes away ends it quietly" {
    for _ in {1..2000}; do cat three; done >long
    run -0 --separate-stderr bash -c "PATH=$STATEPIPE_BUILD/bin:\$PATH; inspect long | sed -n 1q"
    [ -z "$stderr" ]
}

@test "binary is not written to a terminal" {
    command -v script >/dev/null || skip "no script(1)"
    run script -qec "PATH=$STATEPIPE_BUILD/bin:$PATH inspect --tee one" /dev/null
    [[ $output == *"standard output is a terminal"* ]]
}

@test "the man page and --help name the same options" {
    for o in $(pipe "inspect --help" | grep -o -- '--[a-z]*'); do
        grep -q -- "-${o#--}\b" "$TREE/man/inspect.1"
    done
    [ "$(pipe "inspect --help" | wc -l)" -le 24 ]
}
