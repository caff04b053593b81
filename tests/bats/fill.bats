load common

# Three language models are trained here, in seconds, on text whose answers are known.
#   letters (bytes), lines of three kinds and one more:
#     =ab =ab =ab   two letters, again and again: what a document says
#     @ab @ac @ad   1 in 5 each, @ef 2 in 5: the first letter misleads
#     #x0 #x1 #y1   63, 7 and 30 of 100: what follows x or y decides
#     %x-? %y-m     60 of 100 x, and then any of four letters; y, and then always m
#   words (BPE, the shipped model's tokenizer): who is what
#   pieces (WordPiece, without case): the same in fewer words, each text a line
setup_file() {
    cd "$BATS_FILE_TMPDIR" || return
    cat >config.json <<'END'
{"model_type": "mamba", "hidden_size": 24, "num_hidden_layers": 1, "state_size": 4, "conv_kernel": 4,
 "intermediate_size": 48, "time_step_rank": 2, "vocab_size": 264,
 "statepipe": {"format": 1, "tokenizer": "bytes", "heads": {"lm": {"type": "lm"}}}}
END
    awk 'function letter() { return substr("abcdefghijklmnop", 1 + int(rand() * 16), 1) }
        BEGIN { srand(1); for (i = 0; i < 3000; i++) { text = ""; for (k = 0; k < 12; k++) {
            kind = rand(); r = rand()
            if (kind < 0.3) { w = "=" letter() letter() "\\n"; text = text w w w }
            else if (kind < 0.55) text = text "@" (r < 0.2 ? "ab" : r < 0.4 ? "ac" : r < 0.6 ? "ad" : "ef") "\\n"
            else if (kind < 0.8) text = text "#" (r < 0.63 ? "x0" : r < 0.7 ? "x1" : "y1") "\\n"
            else text = text "%" (r < 0.6 ? "x-" substr("ijkl", 1 + int(rand() * 4), 1) : "y-m") "\\n"
        } printf "{\"text\":\"%s\"}\n", text } }' >letters.jsonl
    pipe "tokenize -m bytes --jsonl letters.jsonl | train --config config.json --task lm --batch 512 --lr 3e-2 \
        --steps 500 --warmup 20 --shuffle 64 -j 1 -o letters" 2>/dev/null
    mkdir start && cp "$TREE/share/model/tokenizer.json" start
    sed 's/264/8192/; s/"tokenizer": "bytes", //' config.json >start/config.json
    awk 'BEGIN { srand(1); for (i = 0; i < 1500; i++) { text = ""; for (k = 0; k < 6; k++) {
            r = rand()
            text = text (r < 0.3 ? "Jane is a professor of physics" : r < 0.5 ? "Jane is a student in Bern" : \
                r < 0.6 ? "Jane is a professor in Rome" : r < 0.8 ? "Omar is an engineer" : "Omar is a Ph.D. student") "\\n"
        } printf "{\"text\":\"%s\"}\n", text } }' >words.jsonl
    pipe "tokenize -m start/tokenizer.json --jsonl words.jsonl | train --config start/config.json --task lm --batch 512 --lr 3e-2 \
        --steps 150 --warmup 20 --shuffle 64 -j 1 -o words" 2>/dev/null
    mkdir pieced && cp "$TREE/tests/golden/tokens/wordpiece.json" pieced/tokenizer.json
    sed 's/264/1536, "eos_token_id": 3/; s/"tokenizer": "bytes", //' config.json >pieced/config.json # 3: [SEP]
    awk 'BEGIN { srand(1); for (i = 0; i < 1500; i++) { r = rand()
            printf "{\"text\":\"%s\"}\n", r < 0.55 ? "Jane is a cook in Rome" : r < 0.7 ? "Jane is a poet in Bern" : "Omar is an actor"
        } }' >pieces.jsonl
    pipe "tokenize -m pieced/tokenizer.json --jsonl pieces.jsonl | train --config pieced/config.json --task lm --batch 512 --lr 3e-2 \
        --steps 100 --warmup 20 --shuffle 64 -j 1 -o pieces" 2>/dev/null
}

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    letters=$BATS_FILE_TMPDIR/letters words=$BATS_FILE_TMPDIR/words pieces=$BATS_FILE_TMPDIR/pieces
    printf '=kd\n' >doc
    pipe "tokenize -m $letters --open doc | embed -m $letters |
        mamba-layer -m $letters --dump-state doc.state >/dev/null"
}

fill() { "$STATEPIPE_BUILD/bin/fill" "$@"; }
# The answers without their probabilities, on one line.
answers() { fill "$@" | cut -f 2- | paste -sd ' '; }
# The first answer's p is in [A, B].
between() { awk -v a="$1" -v b="$2" 'NR == 1 { p = $1 } END { exit !(NR && p >= a && p <= b) }'; }

@test "what the document says is copied: greedy, and with a beam" {
    [ "$(answers -m "$letters" --doc doc -q '=?__' -n 1 --beam 1)" = kd ]
    [ "$(answers -m "$letters" --doc doc -q '=?__' -n 1)" = kd ]
    printf '=od\n' >other
    [ "$(answers -m "$letters" --doc other -q '=?__' -n 1)" = od ]
    fill -m "$letters" --doc doc -q '=?__' -n 1 | between 0.6 1
}

@test "greedy takes the likelier letter, the beam the likelier answer, with its probability" {
    run -0 answers -m "$letters" --doc doc -q '@?__' -n 1 --beam 1
    [[ $output == a[bcd] ]]
    run -0 answers -m "$letters" --doc doc -q '@?__' -n 1
    [ "$output" = ef ]
    fill -m "$letters" --doc doc -q '@?__' | between 0.3 0.5
    fill -m "$letters" --doc doc -q '@?__' -n 4 >four
    [ "$(cut -f 2 four | sort | paste -sd ' ')" = "ab ac ad ef" ]
}

@test "words behind the slot change the answer" {
    [ "$(answers -m "$letters" --doc doc -q '#?__' -n 2)" = "x0 y1" ]
    [ "$(answers -m "$letters" --doc doc -q '#?__1' -n 2)" = "y x" ]
    [ "$(answers -m "$letters" --doc doc -q '#?__0' -n 1)" = x ]
    # y where 1 follows: 30 of 37
    fill -m "$letters" --doc doc -q '#?__1' | between 0.65 0.92
    fill -m "$letters" --doc doc -q '#?__0' | between 0.97 1
}

@test "several slots are filled jointly: the second decides on the first" {
    [ "$(answers -m "$letters" --doc doc -q '%?__-' -n 1)" = x ]
    run -0 fill -m "$letters" --doc doc -q '%?__-?__' -n 1
    [[ $output == *$'\ty\tm' ]]
    run -0 fill -m "$letters" --doc doc -q '%?__-?__' -n 1 -o jsonl
    [[ $output == '{"id": "doc", "query": "%?__-?__", "answers": [{"text": "y\tm", "p": 0.'*', "slots": ["y", "m"]}]}' ]]
    # one hypothesis cannot take back what it said
    run -0 fill -m "$letters" --doc doc -q '%?__-?__' -n 1 --beam 1
    [[ $output == *$'\tx\t'[ijkl] ]]
    run -0 fill -m "$letters" --doc doc -q $'#?__1\n@?__\n' -o filled
    [ "$output" = $'#y1\n@ef' ]
}

@test "choices: shares of 1, as a search has them; commas; a choice for each slot" {
    run -0 fill -m "$letters" --doc doc -q '@?__' --choices 'ab, ef,gh'
    [ "$(cut -f 2 <<<"$output" | paste -sd ' ')" = "ef ab gh" ]
    awk '{ s += $1 } END { exit s < 0.999 || s > 1.001 }' <<<"$output"
    # the same ratios as in the search, where nothing is left out
    fill -m "$letters" --doc doc -q '@?__' -n 8 -o jsonl >searched
    fill -m "$letters" --doc doc -q '@?__' --choices ab,ac,ad,ef -o jsonl >chosen
    run -0 python3 -c '
import json
s, c = [{a["text"]: a["p"] for a in json.load(open(f))["answers"]} for f in ("searched", "chosen")]
assert abs(sum(c.values()) - 1) < 1e-3 and sum(s.values()) <= 1.001, (s, c)
for t in ("ab", "ac", "ad"):
    assert abs(s[t] / s["ef"] - c[t] / c["ef"]) < 2e-3, (s, c)'
    fill -m "$letters" --doc doc -q '=?__' --choices 'a\,b , c\\,d\e' -o jsonl >commas
    python3 -c '
import json
assert {a["text"] for a in json.load(open("commas"))["answers"]} == {"a,b", "c\\", "d\\e"}'
    run -0 answers -m "$letters" --doc doc -q '%?__-?__' --choices x,y --choices m
    [ "$output" = $'y\tm x\tm' ]
    run -2 fill -m "$letters" -q '=?__' --choices 'a,,b'
    [[ $output == "fill: 'a,,b': a choice without text"* ]]
}

@test "a state answers as its document does" {
    fill -m "$letters" --doc doc -q '=?__' -q '#?__1' >by_doc
    fill -m "$letters" --load-state doc.state -q '=?__' -q '#?__1' | cmp - by_doc
    fill -m "$letters" -q '=?__' -q '#?__1' doc.state | cmp - by_doc
}

@test "lines say which of several questions they answer, of which of several states" {
    fill -m "$letters" -n 2 --doc doc -q '=?__' >one
    fill -m "$letters" -n 2 --doc doc -q '#?__1' >other
    run -0 fill -m "$letters" -n 2 --doc doc -q '=?__' -q '#?__1'
    [ "$output" = "$(sed $'s/^/=?__\t/' one; sed $'s/^/#?__1\t/' other)" ]
    cp doc.state again.state
    run -0 fill -m "$letters" -n 2 -q '=?__' -q '#?__1' doc.state again.state
    [ "$output" = "$(for s in doc again; do sed "s/^/$s.state\t=?__\t/" one; sed "s/^/$s.state\t#?__1\t/" other; done)" ]
    # Columns stay columns, lines lines.
    run -0 fill -m "$letters" -n 1 --doc doc -q $'a\tb\n=?__' -q '=?__'
    [ "$(cut -f 1 <<<"$output" | paste -sd '|')" = "a b =?__|=?__" ]
}

@test "many states in one run: in order, to the byte as each alone" {
    local i letters_of=abcdefghijklmnop
    for i in {1..70}; do printf '=%s%s\n' "${letters_of:i%16:1}" "${letters_of:i*7%16:1}" >"$i.txt"; done
    pipe "tokenize -m $letters --open {1..70}.txt | embed -m $letters |
        mamba-layer -m $letters --dump-state '%n.state' >/dev/null"
    mapfile -t states < <(ls -v [0-9]*.state)
    [ "${#states[@]}" = 70 ]
    fill -m "$letters" -n 1 -q '=?__' "${states[@]}" >together
    [ "$(cut -f 1 together | paste -sd ' ')" = "${states[*]}" ]
    for i in "${states[@]}"; do fill -m "$letters" -n 1 -q '=?__' "$i"; done | cmp - <(cut -f 2- together)
    # nearly all of them are copied right
    [ "$(paste <(cut -f 3 together) <(cat {1..70}.txt) | awk '"=" $1 == $2' | wc -l)" -ge 60 ]
}

@test "thousands of states in one run: each as alone, and in no more memory" {
    local i letters_of=abcdefghijklmnop
    for i in {1..40}; do printf '=%s%s\n' "${letters_of:i%16:1}" "${letters_of:i*7%16:1}" >"$i.txt"; done
    pipe "tokenize -m $letters --open {1..40}.txt | embed -m $letters |
        mamba-layer -m $letters --dump-state '%n.state' >/dev/null"
    mkdir many
    for i in {0..2399}; do echo "$((i % 40)).state many/$i"; done | xargs -n 2 ln
    fill -m "$letters" -n 2 -q '=?__' {0..39}.state >alone
    fill -m "$letters" -n 2 -q '=?__' many/{0..2399} >together
    [ "$(wc -l <together)" = 4800 ]
    for i in {0..2399}; do printf 'many/%s\nmany/%s\n' $i $i; done | cmp - <(cut -f 1 together)
    for i in {1..60}; do cut -f 2- alone; done | cmp - <(cut -f 2- together)
    needs_plain_memory
    python3 - "$STATEPIPE_BUILD/bin/fill" "$letters" <<'END'
import os, subprocess, sys
def peak(n):
    p = subprocess.Popen([sys.argv[1], "-m", sys.argv[2], "-q", "=?__"] + [f"many/{i}" for i in range(n)],
                         stdout=subprocess.DEVNULL)
    return os.wait4(p.pid, 0)[2].ru_maxrss
few, many = peak(200), peak(2400)
print(few, many)
assert many < 1.02 * few + 256
END
}

@test "lines of JSON: documents, ids, states, what fails among them" {
    printf '%s\n' '{"id": "a", "doc": "=kd", "query": "=?__", "kind": "copy"}' '' \
        '{"id": 7, "doc": "=ao\n", "query": "=?__"}' '{"query": "#?__1"}' >questions
    run -0 fill -m "$letters" --jsonl -n 1 --doc doc questions
    [ "$(cut -f 1,3 <<<"$output")" = $'a\tkd\n7\tao\n4\ty' ]
    fill -m "$letters" --jsonl -o jsonl --doc doc <questions >out
    python3 -c '
import json
lines = [json.loads(l) for l in open("out")]
assert [l["id"] for l in lines] == ["a", "7", "4"]
for l in lines:
    assert list(l) == ["id", "query", "answers"] and len(l["answers"]) == 5
    p = [a["p"] for a in l["answers"]]
    assert p == sorted(p, reverse=True) and all(list(a) == ["text", "p"] for a in l["answers"])'
    printf '%s\n' '{"query": "=?__"}' '[1]' '{"doc": 3, "query": "a ?__"}' '{' '{"doc": " \n", "query": "=?__"}' \
        '{"doc": "=kd", "query": "none"}' '{"doc": "a\u0000b", "query": "=?__"}' '{"doc": "=kd", "query": "=?__"}' >mixed
    run -1 --separate-stderr fill -m "$letters" --jsonl -n 1 mixed
    echo "$output" "$stderr"
    [ "$(cut -f 1,3 <<<"$output" | tail -n 1)" = $'8\tkd' ]
    local said
    for said in 'mixed:2: not an object' 'mixed:3: not an object' 'mixed:4: ' '5: the document is empty' \
        '6: no slot in the text: write ?__ where the answer goes' '7: the document is binary'; do
        echo "$said"
        [[ $stderr == *"fill: $said"* ]]
    done
    run -0 fill -m "$letters" --jsonl /dev/null
    [ -z "$output" ]
}

@test "answers to lines come before the next line is there" {
    mkfifo in
    fill -m "$letters" --jsonl -n 1 <in >out 3>&- &
    exec 4>in
    printf '{"id": "a", "doc": "=kd", "query": "=?__"}\n' >&4
    for _ in {1..500}; do
        [ -s out ] && break
        sleep 0.02
    done
    [ "$(cut -f 1,3 out)" = $'a\tkd' ]
    exec 4>&-
    wait $!
}

@test "files and standard input are texts with slots" {
    printf 'see =kd\n=?__\n' >text
    [ "$(answers -m "$letters" -n 1 text)" = kd ]
    [ "$(answers -m "$letters" -n 1 <text)" = kd ]
    run -0 fill -m "$letters" -o filled - <text
    [ "$output" = $'see =kd\n=kd' ]
    run -0 fill -m "$letters" -n 1 text text
    [ "$(cut -f 1,3 <<<"$output")" = $'text\tkd\ntext\tkd' ]
}

@test "BPE: the space before the answer is its first token's; more tokens; words that follow" {
    [ "$(answers -m "$words" -q 'Omar is a ?__' -n 1)" = "Ph.D. student" ]
    [ "$(answers -m "$words" -q 'Omar is an ?__' -n 1)" = engineer ]
    # the border is where the words are, with the space or without
    fill -m "$words" -q 'Jane is a ?__' >with
    fill -m "$words" -q 'Jane is a?__' >without
    [ "$(head -n 1 with | cut -f 2)" = "$(head -n 1 without | cut -f 2)" ]
    head -n 1 with | between 0.3 0.7
    [ "$(answers -m "$words" -q 'Jane is a ?__ in Rome' -n 1)" = professor ]
    [ "$(answers -m "$words" -q 'Jane is a ?__ in Bern' -n 1)" = student ]
    [ "$(answers -m "$words" -q 'Jane is a ?__ in ?__' -n 1)" = $'student\tBern' ]
    # inside of a word
    [ "$(answers -m "$words" -q 'Jane is a prof?__ in Rome' -n 1)" = essor ]
    [ "$(answers -m "$words" -q 'Omar is an engin?__' -n 1)" = eer ]
}

@test "WordPiece: words of several pieces, words that follow, an end that is a token" {
    [ "$(answers -m "$pieces" -q 'Omar is an ?__' -n 1)" = actor ]
    [ "$(answers -m "$pieces" -q 'jane is a ?__ in rome' -n 1)" = cook ]
    [ "$(answers -m "$pieces" -q 'Jane is a ?__ in Bern' -n 1)" = poet ]
    [ "$(answers -m "$pieces" -q 'Jane is a ?__ in ?__' -n 1)" = $'cook\trome' ]
    [ "$(answers -m "$pieces" -q 'Jane is a ?__' --choices 'poet,actor' -n 1)" = poet ]
    fill -m "$pieces" -q 'Jane is a ?__' -n 1 >whole
    [ "$(cut -f 2 whole)" = "cook in rome" ] && between 0.6 0.95 <whole
    [ "$(fill -m "$pieces" -o filled -q 'Jane is a ?__ in Rome')" = "Jane is a cook in Rome" ]
    printf 'Omar is an' >omar
    pipe "tokenize -m $pieces --open omar | embed -m $pieces | mamba-layer -m $pieces --dump-state omar.state >/dev/null"
    [ "$(answers -m "$pieces" -q ' ?__' -n 1 omar.state)" = actor ]
}

@test "a CV in Markdown: it runs, whatever a model of so few words says" {
    printf 'Amara Lindqvist\n\n- 📍 Uppsala\n\n🎓 Education\n\n- 2021 – Present: Doctoral student, [Uppsala University](#)\n' >cv
    for model in "$letters" "$words" "$pieces"; do
        run -0 --separate-stderr fill -m "$model" --doc cv -q 'Amara Lindqvist is a ?__' -n 3
        [ -z "$stderr" ]
        [ "${#lines[@]}" -ge 1 ]
    done
}

@test "--until and --max-tokens end an answer, the latter at the end of a word" {
    [ "$(answers -m "$words" -q 'Jane is a ?__' -n 1 --until ' ')" = professor ]
    # professor has more tokens than one, and is not cut inside
    fill -m "$words" -q 'Jane is a ?__' -n 1 --max-tokens 1 >one
    [ "$(cut -f 2 one)" = student ]
    between 0.2 0.5 <one
    [ "$(answers -m "$letters" --doc doc -q '@?__' -n 1 --max-tokens 2)" = ef ]
    run -0 fill -m "$letters" --doc doc -q '@?__' -n 1 --max-tokens 1
    between 0 0.05 <<<"$output"
    run -2 fill -m "$words" -q 'x ?__' --until é
    [[ $output == *"ASCII characters only" ]]
}

@test "a CV of the samples, read and injected" {
    fill -m "$words" --doc "$TREE/share/samples/jane-doe.txt" -q 'Jane Doe is a ?__' >read
    pipe "tokenize -m $words --open '$TREE/share/samples/jane-doe.txt' | embed -m $words |
        mamba-layer -m $words --dump-state jane.state >/dev/null"
    fill -m "$words" --load-state jane.state -q 'Jane Doe is a ?__' >injected
    cmp read injected
    grep -q '[a-z]' <(cut -f 2 read)
    fill -m "$words" --load-state jane.state -q 'Jane Doe is a ?__' --choices 'professor,Ph.D. student,engineer' -j 2 >two
    [ "$(wc -l <two)" = 3 ]
    fill -m "$words" --load-state jane.state -q 'Jane Doe is a ?__' --choices 'professor,Ph.D. student,engineer' -j 1 |
        cmp - two
}

@test "a template puts document and question together, and may show the whole question" {
    cp -r "$letters" model
    sed -i 's/"format": 1/"format": 1, "fill_template": "{doc}\\n={query}"/' model/config.json
    printf '=kd' >unended
    [ "$(answers -m model --doc unended -q '?__' -n 1)" = kd ]
    sed -i 's/={query}/{query}\\n=kd\\n=kd\\n={answer}\\n/' model/config.json
    fill -m model --doc unended -q '#?__' -n 1 >one
    fill -m model --doc unended -q '=?__' -n 1 >other
    [ "$(cut -f 2 one other | paste -sd ' ')" = "kd kd" ]
    run -1 cmp -s one other # the question is read
    run -65 fill -m model --doc unended -q 'what ?__ is ?__'
    [[ $output == *"2 slots in the text: this model answers one at a time" ]]
    sed -i 's/{doc}/{dog}/' model/config.json
    run -65 fill -m model --doc unended -q '?__'
    [[ $output == *'"fill_template" is not {doc}'* ]]
}

@test "of equal answers the one of lower ids comes first, always" {
    cp -r "$letters" model
    python3 -c '
import json, struct
data = bytearray(open("model/model.safetensors", "rb").read())
n = struct.unpack("<Q", data[:8])[0]
e = json.loads(data[8:8 + n])["backbone.embeddings.weight"]
row = (e["data_offsets"][1] - e["data_offsets"][0]) // e["shape"][0]
at = 8 + n + e["data_offsets"][0]
for twin in b"ghi":
    data[at + twin * row:at + (twin + 1) * row] = data[at + ord("f") * row:at + (ord("f") + 1) * row]
open("model/model.safetensors", "wb").write(data)'
    fill -m model --doc doc -q '@e?__' -n 4 >four
    [ "$(cut -f 2 four | paste -sd ' ')" = "f g h i" ]
    [ "$(cut -f 1 four | sort -u | wc -l)" = 1 ]
    fill -m model --doc doc -q '@e?__' -n 2 -j 2 | cmp - <(head -n 2 four)
}

@test "bad input is refused with what to do" {
    refused() { # STATUS TEXT ARGUMENTS...
        run -"$1" --separate-stderr fill -m "$letters" "${@:3}"
        echo "$stderr"
        [[ -z $output && $stderr == *"$2"* ]]
    }
    refused 65 "fill: -q 'nothing here': no slot in the text: write ?__" -q 'nothing here'
    refused 65 "fill: -q 'nor here ?_': no slot in the text: write ?__" --doc doc -q 'nor here ?_'
    refused 65 "fill: -q 'nothing here': no slot in the text: write ?__" -q 'nothing here' doc.state
    refused 65 'the text is empty' -q ''
    refused 65 'nothing stands before the slot' -q '?__'
    refused 65 'two slots with nothing between' -q 'a ?__?__'
    refused 65 'more than 16 slots' -q "$(printf 'a ?__ %.0s' {1..17})"
    : >empty
    refused 65 'empty: the text is empty' empty
    refused 65 'empty: the document is empty' --doc empty -q '=?__'
    head -c 3000 "$STATEPIPE_BUILD/bin/fill" >binary
    refused 65 'binary: the text is binary' binary
    [ "${#stderr_lines[@]}" = 1 ] # and nothing of its encoding
    refused 65 'binary: the document is binary' --doc binary -q '=?__'
    [ "${#stderr_lines[@]}" = 1 ]
    refused 65 'doc.state: the document is binary' --doc doc.state -q '=?__'
    refused 65 'looks like text' -q '=?__' doc
    head -c 500 doc.state >cut.state
    refused 65 'cut.state ends in the middle' --load-state cut.state -q '=?__'
    refused 66 'nothere' -q '=?__' nothere
    refused 66 'nothere' --doc nothere -q '=?__'
    refused 2 '--doc is given twice' --doc doc --doc other -q '=?__'
    refused 2 'one of the two' --doc doc --load-state doc.state -q '=?__'
    refused 2 'FILEs are states' --doc doc -q '=?__' doc.state
    run -65 --separate-stderr fill -m "$words" --load-state doc.state -q '=?__'
    [[ $stderr == *"doc.state: the state belongs to another model"* ]]
    cp -r "$TREE/share/model" tagger && rm -r tagger/fill
    run -2 --separate-stderr fill -m tagger -q 'a ?__'
    [[ $stderr == *"is no language model"*"name one with -m DIR"* ]]
    # the good ones of several are answered
    run -1 --separate-stderr fill -m "$letters" -n 1 -q '=?__' doc.state cut.state nothere doc.state
    [ "$(cut -f 1,3 <<<"$output")" = $'doc.state\tkd\ndoc.state\tkd' ]
    [ "${#stderr_lines[@]}" = 2 ] # each file named once
    [[ ${stderr_lines[0]} == "fill: cut.state ends in the middle of "* ]]
    [ "${stderr_lines[1]}" = "fill: cannot open nothere: No such file or directory" ]
    cp doc.state bad.state
    printf 'Q' | dd of=bad.state bs=1 seek=150 conv=notrunc status=none
    run -65 --separate-stderr fill -m "$letters" -q '=?__' bad.state
    [ "$stderr" = "fill: bad.state: the checksum of a statepipe record does not match: it is damaged" ]
    run -74 bash -c "'$STATEPIPE_BUILD/bin/fill' -m '$letters' --doc doc -q '=?__' >/dev/full"
}

@test "invalid UTF-8, and long texts and documents" {
    printf '=kd\n\xff=?__\n' >text
    run -0 --separate-stderr fill -m "$letters" -n 1 -o jsonl text
    said="invalid UTF-8 at byte 4, replaced (1 time in all); of another encoding? iconv -f latin1 -t utf-8 (UTF-16: -f utf-16)"
    [ "$stderr" = "fill: text: $said" ]
    python3 -c 'import json, sys; assert json.loads(sys.argv[1])["query"].startswith("=kd\n\ufffd=")' "$output"
    run -0 --separate-stderr fill -m "$letters" --doc text -q '=?__' -n 1
    [ "$stderr" = "fill: text: $said" ]
    head -c 2000000 /dev/zero | tr '\0' a >long
    run -65 fill -m "$letters" long
    [[ $output == *"1048576"* ]]
    seq 20000 | sed 's/^.*$/=kd/' >long
    [ "$(answers -m "$letters" --doc long -q '=?__' -n 1)" = kd ]
}
