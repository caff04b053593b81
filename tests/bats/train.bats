load common

# Documents of letters in which what stands between @ and a space is a degree.
documents() {
    awk -v n="$1" -v seed="${2:-1}" 'BEGIN {
        srand(seed)
        for (i = 0; i < n; i++) {
            text = ""; spans = ""
            for (k = 0; k < 12; k++) {
                word = substr("abcdefghijklmnopqrstuvwxyz", 1 + int(rand() * 22), 2 + int(rand() * 3))
                if (rand() < 0.4) {
                    start = length(text) + 1
                    spans = spans (spans ? "," : "") "[" start "," start + length(word) ",\"degree\",[" k "]]"
                    word = "@" word
                }
                text = text word " "
            }
            printf "{\"id\":\"%d\",\"text\":\"%s\",\"spans\":[%s]}\n", i, text, spans
        }
    }'
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    cat >config.json <<'END'
{"model_type": "mamba", "architectures": ["MambaForCausalLM"], "hidden_size": 16, "num_hidden_layers": 1,
 "state_size": 4, "conv_kernel": 4, "intermediate_size": 32, "time_step_rank": 1, "vocab_size": 264,
 "layer_norm_epsilon": 1e-5, "use_bias": false, "use_conv_bias": true, "tie_word_embeddings": true,
 "statepipe": {"format": 1, "tokenizer": "bytes", "default_head": "tags", "passes": 1, "delay": 1, "heads": {
  "tags": {"type": "tag", "labels": ["O", "N-degree", "I-degree"]},
  "kind": {"type": "class", "labels": ["cv", "letter"]}, "lm": {"type": "lm"}}}}
END
    options='--config config.json --batch 512 --lr 2e-2 --warmup 5 -j 2'
}

tokens() { # N [SEED]
    documents "$@" | "$STATEPIPE_BUILD/bin/tokenize" -m bytes --pad 1 --jsonl
}

# In the background: its own process, so that $pid can be sent a signal.
start() {
    # shellcheck disable=SC2086
    "$STATEPIPE_BUILD/bin/train" $options "$@" 2>log 3>&- &
    pid=$!
}
when_at() { # STEP
    while ! grep -qs "step $1 " log; do
        kill -0 $pid
        sleep 0.02
    done
}

@test "a tagger learns from a pipe, and the pipe finds what it learned" {
    tokens 700 >s
    run -0 --separate-stderr pipe "cat s | train $options --steps 60 --holdout 20 --eval-docs 10 -o out"
    [ -z "$output" ]
    grep -q 'step 60 .* eval .* right' <<<"$stderr"
    [ "$(ls out)" = $'config.json\nmodel.safetensors' ]
    run -0 pipe "printf 'abc @defg hijk @pq r' | tokenize -m out | embed -m out | mamba-layer -m out |
        head -m out | extract -o tsv | cut -f 3"
    [ "$output" = $'defg\npq' ]
}

@test "a run that is killed goes on and ends with the same bytes" {
    tokens 300 >s
    run -0 pipe "train $options --steps 40 -o whole s"
    start --steps 40 --checkpoint-minutes 0.0001 -v -o killed s
    when_at 12
    kill -9 $pid
    run wait $pid
    [ -e killed/checkpoint ]
    run -0 --separate-stderr pipe "train $options --steps 40 --checkpoint-minutes 0.0001 -o killed s"
    grep -q 'going on after step' <<<"$stderr"
    cmp whole/model.safetensors killed/model.safetensors
    [ ! -e killed/checkpoint ]
}

@test "a signal leaves a checkpoint and a model that can be used" {
    tokens 300 >s
    start --steps 100000 -v -o out s
    when_at 3
    # No handler, in no thread: its frame would be written where oneDNN's code works below the stack pointer.
    for status in /proc/$pid/task/*/status; do
        caught=$((0x$(awk '$1 == "SigCgt:" { print $2 }' "$status")))
        blocked=$((0x$(awk '$1 == "SigBlk:" { print $2 }' "$status")))
        [ $((caught & 0x4002)) -eq 0 ]
        [ $((blocked & 0x4002)) -eq $((0x4002)) ]
    done
    kill -TERM $pid
    wait $pid
    grep -q 'the same command goes on from out/checkpoint' log
    [ -e out/checkpoint ] && [ -e out/model.safetensors ]
}

@test "a signal that cuts the input off too: what is half read is read again" {
    tokens 300 >s
    run -0 pipe "cat s | train $options --steps 40 -o whole"
    mkfifo in
    { head -c $(($(wc -c <s) / 2 + 100)) s; exec sleep 100; } >in 3>&- &
    upstream=$!
    # shellcheck disable=SC2086
    "$STATEPIPE_BUILD/bin/train" $options --steps 40 -v -o cut <in 2>log 3>&- &
    pid=$!
    when_at 5
    kill -TERM $pid
    kill -TERM $upstream
    wait $pid
    grep -q 'the same command goes on from cut/checkpoint' log
    run -0 --separate-stderr pipe "cat s | train $options --steps 40 -o cut"
    grep -q 'going on after step' <<<"$stderr"
    cmp whole/model.safetensors cut/model.safetensors
}

@test "a file is read --epochs times, and the rate ends at its least" {
    tokens 40 >s
    run -0 --separate-stderr pipe "train $options --epochs 3 --shuffle 0 -v -o out s"
    grep -q '100 %' <<<"$stderr"
    steps=$(grep -c 'norm' <<<"$stderr")
    run -0 --separate-stderr pipe "train $options --epochs 1 --shuffle 0 -v --force -o out s"
    [ "$steps" -gt $((2 * $(grep -c 'norm' <<<"$stderr"))) ]
}

@test "language model and class; --init goes on, other heads stay" {
    tokens 200 >s
    documents 200 | sed 's/"spans":.*/"spans":[[0,3,"letter",[]]]}/' >letters
    run -0 --separate-stderr pipe "train $options --task lm --steps 30 --holdout 10 -o lm s"
    grep -Eq 'eval [0-3]\.' <<<"$stderr"
    run -0 --separate-stderr pipe "tokenize -m bytes --jsonl letters |
        train --init lm --task class --lr 2e-2 --warmup 1 --batch 512 --steps 20 -o class"
    grep -Eq 'loss 0\.[01]' <<<"$stderr"
    run -0 python3 - <<'END'
import json, struct
def tensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    return {k: data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]
            for k, v in head.items() if k != "__metadata__"}
a, b = tensors("lm/model.safetensors"), tensors("class/model.safetensors")
assert a["statepipe.tags.weight"] == b["statepipe.tags.weight"]
assert a["statepipe.kind.weight"] != b["statepipe.kind.weight"]
assert a["backbone.layers.0.mixer.A_log"] != b["backbone.layers.0.mixer.A_log"]
END
}

@test "spans with labels that the head has not teach nothing, and it is said" {
    documents 60 | sed 's/"degree"/"title"/; s/"spans":\[\]/"spans":[[0,1,"degree",[0]]]/' >mixed
    run -0 --separate-stderr pipe "tokenize -m bytes --pad 1 --jsonl mixed | train $options --steps 4 -o out"
    [[ ${stderr_lines[-1]} == "train: "*" tokens stand in spans with labels that the head has not; nothing was learnt there" ]]
    tokens 60 >s
    run -0 --separate-stderr pipe "train $options --steps 4 -o plain s"
    [[ $stderr != *"labels that the head"* ]]
}

@test "an input that ends before the steps or minutes asked for is said to have ended" {
    tokens 60 >s
    run -0 --separate-stderr pipe "cat s | train $options --steps 1000 -o piped"
    [[ ${stderr_lines[-1]} =~ ^"train: the input ended after "([0-9]+)" of 1000 steps"$ ]]
    steps=${BASH_REMATCH[1]}
    [[ ${stderr_lines[-2]} == "step $steps "* ]]
    [ -s piped/model.safetensors ] && [ ! -e piped/checkpoint ]
    run -0 --separate-stderr pipe "cat s | train $options --time 5 -o timed"
    [ "${stderr_lines[-1]}" = "train: the input ended after $steps steps, before the 5 minutes" ]
    for asked in "--steps $steps" "--epochs 1"; do # as much as there is, and what there is
        run -0 --separate-stderr pipe "train $options $asked -o enough --force s"
        [[ $stderr != *"input ended"* ]]
    done
}

@test "what was counted of the records of a model is not said of one that goes on from it" {
    tokens 60 >s
    pipe "train $options --steps 1 -o out s"
    sed 's/"N-degree", "I-degree"\]/&, "doubt": {"degree": 0.25}, "calibration": [0.5, -0.25]/' out/config.json >counted
    grep -q '"doubt".*"calibration"' counted && mv counted out/config.json
    for from in "--init out" "--config out/config.json" "--init out --config out/config.json"; do
        run -0 pipe "train $from --batch 512 --steps 1 -o more --force s"
        run -1 grep -e doubt -e calibration more/config.json
    done
}

@test "--save-dtype bf16: the same weights, rounded to nearest even" {
    tokens 200 >s
    run -0 pipe "train $options --steps 20 -o whole s"
    run -0 pipe "train $options --steps 20 --save-dtype bf16 -o half s"
    grep -q '"torch_dtype": "float32"' whole/config.json
    grep -q '"torch_dtype": "bfloat16"' half/config.json
    run -0 python3 - <<'END'
import json, struct
def tensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    return {k: (v["dtype"], len(v["shape"]),
                data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items() if k != "__metadata__"}
def rounded(bits):
    return bits + 0x7fff + (bits >> 16 & 1) >> 16
whole, half = tensors("whole/model.safetensors"), tensors("half/model.safetensors")
assert whole.keys() == half.keys()
for name, (dtype, rank, data) in whole.items():
    assert dtype == "F32"
    if rank < 2 or name.endswith(("A_log", ".trans")):
        assert half[name] == (dtype, rank, data), name
        continue
    bits = struct.unpack("<%dI" % (len(data) // 4), data)
    want = struct.pack("<%dH" % len(bits), *map(rounded, bits))
    assert half[name] == ("BF16", rank, want), name
END
    run -0 pipe "train --init half --lr 1e-3 --warmup 1 --batch 512 --steps 1 -o more s"
    grep -q '"torch_dtype": "float32"' more/config.json
    run -0 pipe "printf 'abc @defg' | tokenize -m half | embed -m half | mamba-layer -m half |
        head -m half | extract -o tsv"
}

@test "documents that failed upstream are left out, told, and end it with 1" {
    { documents 20; echo 'no JSON'; documents 20 2; echo 'nor this'; } >jsonl
    pipe "tokenize -m bytes --pad 1 --jsonl jsonl >s" || true
    run -1 --separate-stderr pipe "train $options --epochs 2 --shuffle 0 -o out s"
    [[ $stderr == *"2 documents of the input had failed"* ]]
    [ -e out/model.safetensors ] && [ ! -e out/checkpoint ]
}

@test "usage errors" {
    tokens 5 >s
    run -2 pipe "train --config config.json s"
    [[ $output == *"-o DIR"* ]]
    run -2 pipe "train -o out s"
    [[ $output == *"--config FILE"*"--init DIR"* ]]
    run -2 pipe "cat s | train $options -o out"
    [[ $output == *"--steps or --time"* ]]
    run -2 pipe "train $options --task class --head tags -o out s"
    [[ $output == *"no head tags of type class"* ]]
    run -2 pipe "train $options --max-len 1000 -o out s"
    [[ $output == *"--max-len"* ]]
    run -2 pipe "train $options --steps 2 -o out s s"
    run -2 pipe "train $options --steps 0 -o out s"
    run -2 pipe "train $options --eval s --holdout 3 --steps 2 -o out s"
    run -0 pipe "train $options --steps 2 -o out s"
    run -2 pipe "train $options --steps 2 -o out s"
    [[ $output == *"finished model"* ]]
    run -0 pipe "train $options --steps 2 --force -o out s"
}

@test "bad input" {
    tokens 5 >s
    # What it is, and what makes of it what train reads.
    documents 3 >jsonl
    run -65 pipe "train $options --steps 2 -o out jsonl"
    [ "$output" = 'train: jsonl is not a statepipe stream: it looks like JSON lines: run `tokenize --jsonl` first' ]
    run -65 pipe "tokenize -m bytes --pad 1 config.json | train $options --steps 2 -o out"
    [[ $output == 'train: document 0 has no gold spans to learn from: give `tokenize --jsonl` lines with "spans"'* ]]
    run -0 pipe "tokenize -m bytes --pad 1 config.json | train $options --task lm --steps 1 -o lm"
    run -65 pipe "embed -m lm s | train $options --steps 2 -o out"
    [[ $output == "train: the input is a stream of hidden; train reads the tokens"* ]]
    run -66 pipe "train $options --steps 2 -o out none"
    run -66 pipe "train --config none.json --steps 2 -o out s"
    run -65 pipe "train $options --steps 2 -o out </dev/null"
    run -65 pipe "printf 'plain text' | train $options --steps 2 -o out"
    command head -c 3000 s >cut
    run -65 pipe "train $options --steps 1000 -o out --force cut"
    run -65 pipe "tokenize -m bytes --jsonl /dev/null | train $options --steps 2 -o out"
    [[ $output == *"no document"* ]]
    documents 5 | "$STATEPIPE_BUILD/bin/tokenize" -m bytes --jsonl >unpadded
    run -65 pipe "train $options --steps 2 -o out --force unpadded"
    [[ $output == *"--pad 1"* ]]
    : >file
    run -74 pipe "train $options --steps 2 -o file/out s"
}

@test "a tagger goes on as a language model: with that head alone, and without the tagger's padding" {
    pipe "mkresume -n 60 | tokenize -m $TREE/share/model --jsonl | tee s |
        train --init $TREE/share/model --task lm --batch 1024 --steps 3 -o lm" 2>err
    run -0 python3 -c 'import json; c = json.load(open("lm/config.json"))["statepipe"]
print(c["default_head"], c["heads"], c["delay"])'
    [ "$output" = "lm {'lm': {'type': 'lm'}} 0" ]
    run -0 pipe "echo text | tokenize -m lm | embed | mamba-layer | head --score | inspect"
    [[ $output == *perplexity* ]]
    run -0 pipe "train --init lm --task lm --batch 1024 --steps 1 -o more s"
}
