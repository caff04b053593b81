load common

# tests/golden/tiny: random weights, bytes as tokens, 0 ends a text.
setup() {
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR"
    printf 'Once upon a time\n' >prompt.txt
}

# The plain filters in a loop, as man 1 statepipe-generate shows it. In $status the pipeline's.
loop() {
    rm -f loop
    mkfifo loop
    pipe "(tokenize --open prompt.txt; cat loop) | embed | mamba-layer $layers |
        head --head lm --sample $* | tee loop | detokenize"
}

@test "greedy: what the head of the pipe finds best, token after token" {
    pipe "generate -n 5 <prompt.txt >five"
    cp prompt.txt so_far
    for i in 1 2 3 4 5; do
        pipe "tokenize so_far | embed | mamba-layer | head --head lm --top 1 >best"
        "$BATS_TEST_DIRNAME/stream.py" rows top_id <best | tail -n 1 |
            python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read())[:1])' >>so_far
    done
    run -0 cmp <(cat prompt.txt five) so_far
    [ "$(wc -c <five)" -eq 5 ]
}

@test "the filters in a loop write the same bytes, for every way to choose" {
    local how
    for how in "" "-s 3" "-t 1.7 -s 5" "-s 1 --top-k 7" "-s 2 --top-p 0.8" "-s 4 --min-p 0.05" \
        "--repetition-penalty 1.4" "-s 6 -t 1.2 --top-k 50 --top-p 0.95 --min-p 0.01 --repetition-penalty 1.1"; do
        echo "how: $how"
        run -0 timeout 60 bash -c "$(declare -f loop pipe); loop -n 60 $how >looped"
        pipe "generate -n 60 $how <prompt.txt >generated"
        [ "$(wc -c <generated)" -gt 3 ]
        cmp looped generated
    done
}

@test "the loop ends cleanly after one token, at the end of text, and after none" {
    run -0 --separate-stderr timeout 60 bash -c "$(declare -f loop pipe); loop -n 1 | wc -c"
    [[ "$output" == 1 && -z "$stderr" ]]
    run -0 --separate-stderr timeout 60 bash -c "$(declare -f loop pipe); loop -n 0 | wc -c"
    [[ "$output" == 0 && -z "$stderr" ]]
    # Of 264 tokens that are drawn nearly alike, 0 comes soon.
    run -0 --separate-stderr timeout 60 bash -c "$(declare -f loop pipe); loop -n 5000 -t 50 >looped"
    [ -z "$stderr" ]
    [ "$(wc -c <looped)" -lt 5000 ]
    pipe "generate -n 5000 -t 50 <prompt.txt" | cmp - looped
}

@test "the loop over layers in two processes, and from a state" {
    pipe "generate -n 40 -s 9 <prompt.txt >whole"
    layers="-l 0-0 | mamba-layer" run -0 timeout 60 bash -c "$(declare -f loop pipe); loop -n 40 -s 9 >looped"
    cmp looped whole
    printf 'Once upon' >first
    printf ' a time\n' >prompt.txt
    pipe "tokenize --open first | embed | mamba-layer --dump-state s >/dev/null"
    pipe "generate -n 40 -s 9 --load-state s <prompt.txt >whole"
    layers="--load-state s" run -0 timeout 60 bash -c "$(declare -f loop pipe); loop -n 40 -s 9 >looped"
    cmp looped whole
    layers="--load-state s --dump-state looped.state" run -0 timeout 60 bash -c "$(declare -f loop pipe); loop -n 10 >looped"
    pipe "generate -n 10 --load-state s --dump-state whole.state <prompt.txt >whole"
    cmp looped whole
    cmp looped.state whole.state
    : >prompt.txt
    pipe "generate -n 40 --load-state s <prompt.txt >whole"
    layers="--load-state s" run -0 timeout 60 bash -c "$(declare -f loop pipe); loop -n 40 >looped"
    cmp looped whole
}

@test "a document that is not left open ends the loop with an error, not with silence" {
    run -1 --separate-stderr timeout 60 bash -c "$(declare -f pipe); mkfifo loop; pipe '(tokenize prompt.txt; cat loop) |
        embed | mamba-layer | head --head lm --sample | tee loop | detokenize'"
    [[ -z "$output" && "$stderr" == *"it is not left open"*"--open"* ]]
}

@test "two documents in a loop, one of which ends before the other" {
    printf 'Another prompt' >other.txt
    pipe "(generate -n 30 <prompt.txt; generate -n 30 <other.txt) >both"
    mkfifo loop
    run -0 timeout 60 bash -c "$(declare -f pipe); pipe '(tokenize --open prompt.txt; tokenize --open other.txt; cat loop) |
        embed | mamba-layer | head --head lm --sample -n 30 | tee loop >tokens'"
    pipe "inspect -o json tokens" >seen || pipe "inspect tokens" >seen
    [ "$(wc -c <both)" -eq 60 ]
    python3 - "$BATS_TEST_DIRNAME/stream.py" <<'END'
import io, runpy, sys
path = sys.argv[1]
sys.argv = [path, "records"]
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
m = runpy.run_path(path)
texts, current = {}, None
for kind, fields, tensors in m["records"](open("tokens", "rb").read()):
    if kind == "DOC":
        current = fields["id"]
        assert fields["cont"]
    if kind == "CHUNK":
        texts[current] = texts.get(current, b"") + bytes([tensors["ids"][2][0]])
assert texts["prompt.txt"] + texts["other.txt"] == open("both", "rb").read(), texts
END
}

@test "together or alone, in any batch, with any number of threads: the same texts" {
    for i in $(seq 1 20); do printf 'Line %d, %s\n' "$i" "$(head -c $((i * 7)) /dev/zero | tr '\0' x)"; done >lines
    pipe "generate -l -0 -n 30 -s 5 <lines >all"
    pipe "generate -l -0 -n 30 -s 5 --batch 1 <lines | cmp - all"
    pipe "generate -l -0 -n 30 -s 5 --batch 3 -j 3 <lines | cmp - all"
    pipe "generate -0 -n 30 -s 5 $(sed "s/.*/'&'/" lines | tr '\n' ' ') | cmp - all"
    [ "$(tr -cd '\0' <all | wc -c)" -eq 20 ]
    # Greedy texts do not depend on the number of the prompt either.
    pipe "generate -l -0 -n 30 <lines >all"
    while IFS= read -r line; do pipe "generate -n 30 '$line'"; printf '\0'; done <lines | cmp - all
}

@test "texts of lines that are written while the input is still open" {
    mkfifo in
    pipe "generate -l -n 4 <in | cat >out" &
    exec 7>in
    echo hello >&7
    timeout 20 bash -c 'until [ "$(wc -l <out)" -ge 1 ]; do sleep 0.02; done'
    exec 7>&-
    wait $!
}

@test "jsonl: a line for each prompt, with what ended it" {
    pipe "generate -n 12 one two '' -o jsonl" >out || [ $? -eq 1 ]
    python3 - <<'END'
import json
rows = [json.loads(line) for line in open("out")]
assert [r["id"] for r in rows] == ["1", "2", "3"]
assert [r["end"] for r in rows] == ["length", "length", "empty"], rows
assert [r["n_tok"] for r in rows] == [12, 12, 0] and rows[2]["text"] == ""
END
    pipe "generate -n 5000 -t 50 one -o jsonl" | grep -q '"end": "eos"}$'
}

@test "stop: ends before it, wherever tokens begin; the first one to be complete" {
    printf 'hello world' >prompt.txt
    pipe "generate -n 60 -s 8 -t 3 <prompt.txt >all"
    python3 - <<'END'
import subprocess
prompt, full = open("prompt.txt", "rb").read(), open("all", "rb").read()
def run(*stops):
    args = ["generate", "-n", "60", "-s", "8", "-t", "3"]
    for s in stops: args += ["--stop", s]
    import os
    path = os.environ["STATEPIPE_BUILD"] + "/bin/generate"
    return subprocess.run([path] + args[1:], input=prompt, capture_output=True, check=True).stdout
tried = 0
for i in range(len(full) - 4):
    for n in (1, 2, 3):
        s = full[i:i + n]
        if 0 in s: continue
        if tried % 7 == 0:
            assert run(s) == full[:full.index(s)], (i, n)
        tried += 1
assert tried > 50
assert run(b"\xff\xfe nowhere") == full
a, b = full[10:13], full[11:12]
assert run(a, b) == run(b, a)
END
}

@test "states: dumped, loaded, the same as the pipe's; going on gives the text of one run" {
    pipe "generate -n 0 --dump-state g <prompt.txt; tokenize --open prompt.txt | embed | mamba-layer --dump-state p >/dev/null"
    cmp g p
    # Chunks of every path, and around their borders.
    for n in 1 2 7 8 9 255 256 257 258 264 600; do
        head -c "$n" /dev/zero | tr '\0' 'y' >long
        pipe "generate -n 0 --dump-state g <long; tokenize --open long | embed | mamba-layer --dump-state p >/dev/null"
        cmp g p
    done
    pipe "generate -n 10 --dump-state ten <prompt.txt >first"
    pipe "generate -n 10 --load-state ten '' >second"
    pipe "generate -n 20 <prompt.txt" | cmp - <(cat first second)
    pipe "state info ten" | grep -q "$(($(wc -c <prompt.txt) + 10)) tokens"
    pipe "generate -n 2 --dump-state 'of-%i.%n' a b >/dev/null"
    [[ -s of-1.0 && -s of-2.1 ]]
    run -2 --separate-stderr pipe "generate -n 2 --dump-state one a b"
    [ "$stderr" = "generate: --dump-state one: a second document would overwrite the first one's state; use %i (its id) or %n (its number) in the name" ]
    [ -z "$output" ] && [ ! -e one ] # before anything is computed
    run -2 --separate-stderr pipe "printf 'a\nb\n' | generate -l -n 2 --dump-state one"
    [[ "$stderr" == *"a second document would overwrite"* ]] && [ ! -e one ]
    run -0 pipe "echo a | generate -l -n 2 --dump-state one"
    run -2 --separate-stderr pipe "generate --dump-state %q a"
    [ "$stderr" = "generate: --dump-state: the file's name %q: %q is not one of %i (the id), %n (the number), %%" ]
}

@test "streams: each token is there before the next is made; characters are whole" {
    # It ends because nobody reads on, long before its last token.
    run -0 timeout 60 bash -c "PATH=$STATEPIPE_BUILD/bin:/usr/bin:/bin; generate -n 100000000 --repetition-penalty 1.001 x | /usr/bin/head -c 1 | wc -c"
    [ "$output" = 1 ]
}

@test "usage, and models and states that do not fit" {
    run -2 --separate-stderr pipe "generate -m '$TREE/share/model' x"
    [[ "$stderr" == "generate: $TREE/share/model is no language model: it has no head of type lm; name one with"* ]]
    run -2 --separate-stderr pipe "generate --lines x"
    run -2 --separate-stderr pipe "generate --stop '' x"
    run -2 --separate-stderr pipe "generate --top-p 2 x"
    run -1 --separate-stderr pipe "generate ''"
    [[ "$stderr" == "generate: prompt 1 is empty"* ]]
    run -66 --separate-stderr pipe "generate --load-state nowhere x"
    run -66 --separate-stderr pipe "generate -m nowhere x"
    pipe "generate -n 0 --dump-state s x"
    cp -r "$STATEPIPE_MODEL" other
    sed -i 's/"layer_norm_epsilon": 1e-05/"layer_norm_epsilon": 1e-04/' other/config.json
    run -65 --separate-stderr pipe "generate -m other --load-state s x"
    [[ "$stderr" == "generate: s: the state belongs to another model"* ]]
    head -c 500 s >cut
    run -65 --separate-stderr pipe "generate --load-state cut x"
    run -74 --separate-stderr pipe "generate x >/dev/full"
    run -0 --separate-stderr pipe "generate -v -n 3 x"
    [[ "${stderr_lines[0]}" == "generate: $STATEPIPE_MODEL, head 'lm', products in f32; cpu: kernels "* ]]
    [[ "${stderr_lines[1]}" == "generate: 1 texts, 3 tokens, "* ]]
}

# The log-probability of a text behind the prompt, from head --score.
logprob() {
    cat prompt.txt "$1" >joined
    pipe "tokenize joined | embed | mamba-layer | head --head lm --score >scores"
    "$BATS_TEST_DIRNAME/stream.py" rows logprob <scores | tail -n "$(wc -c <"$1")" |
        python3 -c 'import struct, sys
print(sum(struct.unpack("<f", bytes.fromhex(x))[0] for x in sys.stdin))'
}

@test "beams: one is greedy; more find what is more probable; batches and states do not show" {
    pipe "generate -n 25 <prompt.txt >greedy; generate -n 25 --beam 1 --length-penalty 0 <prompt.txt >one"
    cmp greedy one
    pipe "generate -n 25 --beam 8 <prompt.txt >eight"
    run -1 cmp -s greedy eight
    python3 -c 'import sys; print(*sys.argv[1:]); assert float(sys.argv[1]) > float(sys.argv[2]) + 0.01' \
        "$(logprob eight)" "$(logprob greedy)"
    for i in 1 2 3 4 5; do echo "Prompt $i"; done >lines
    pipe "generate -l -n 9 --beam 4 <lines >all; generate -l -n 9 --beam 4 --batch 1 <lines | cmp - all"
    pipe "generate -n 25 --beam 8 --dump-state b <prompt.txt >eight; cat prompt.txt eight >joined"
    pipe "state info b" | grep -q "$(wc -c <joined) tokens"
    pipe "generate -n 0 --dump-state a <prompt.txt; generate -n 25 --beam 8 --load-state a ''" | cmp - eight
}

@test "beams: stop texts end them; what they do not go with is refused" {
    pipe "generate -n 25 --beam 8 <prompt.txt >eight"
    python3 - <<'END'
import os, subprocess
text = open("eight", "rb").read()
stop = text[6:8]
run = lambda *a: subprocess.run([os.environ["STATEPIPE_BUILD"] + "/bin/generate", "-n", "25", "--beam", *a],
                                stdin=open("prompt.txt"), capture_output=True, check=True).stdout
assert stop not in run("8", "--stop", stop)
assert run("1", "--length-penalty", "0", "--stop", stop) == run("1", "--length-penalty", "0").split(stop)[0]
END
    run -2 --separate-stderr pipe "generate --beam 2 -s 1 x"
    [[ "$stderr" == *"--beam looks for the most probable text"* ]]
    run -2 --separate-stderr pipe "generate --beam 2 -n 1000000 x"
}
