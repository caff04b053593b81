load common
load state_setup

@test "mix: a weighted sum, through a pipe, with what it says of itself" {
    make_state b.state 2 0 $last
    run -0 pipe "state mix a.state:1 -o one.state"
    run -1 pipe "state diff one.state a.state"
    [ "${lines[0]}" = "prefix differs" ]
    [ "${lines[1]}" = "origin differs" ]
    [ "${lines[3]}" = "layer        conv          ssm   (||a - b|| / ||b||)" ]
    [ "$(grep -c ' 0            0$' <<<"$output")" = $((last + 1)) ]
    run -0 pipe "state mix a.state:0.5 b.state:0.5 -o - | state info -j -"
    python3 -c 'import json, sys
x = json.loads(sys.argv[1])
assert x["origin"] == "mixed" and x["n_tok"] == 6 and x["last"]["id"] == 3, x' "$output"
    # a - a is nothing; 2 a - a is a
    run -0 pipe "state mix a.state:2 a.state:-1 -o same.state; state mix a.state:1 a.state:-1 | state info -j -"
    [[ $output != *'"norm":'[1-9]* ]]
    pipe "state export same.state -o s; state export a.state -o t"
    run -0 cmp <(tail -c 200 s) <(tail -c 200 t)
    run -0 pipe "state mix /dev/stdin:0.5 b.state:0.5 <a.state | cmp - <(state mix -- -:0.5 b.state:0.5 <a.state)"
    # the same mixture has the same name, another weight another
    p() { pipe "state mix $1 | state info -" | sed -n 's/^  prefix *//p'; }
    [ "$(p 'a.state:0.7 b.state:0.3')" = "$(p 'a.state:.7 b.state:3e-1')" ]
    [ "$(p 'a.state:0.7 b.state:0.3')" != "$(p 'a.state:0.7 b.state:0.4')" ]
}

@test "a mixed state is loaded and stays mixed" {
    pipe "echo Jane Doe | tokenize -m $model | embed -m $model >hidden"
    pipe "mamba-layer -m $model --dump-state r.state hidden >/dev/null"
    pipe "state mix r.state:0.7 r.state:0.3 -o m.state"
    pipe "mamba-layer -m $model --load-state m.state --dump-state n.state hidden >/dev/null"
    run -0 pipe "state info n.state"
    [[ ${lines[0]} == *"(mixed)"* ]]
}

@test "mix refuses weights that are none, other models and other layers" {
    for w in "" : :x :1x ': 1' :inf :nan :0x1 :1e999 :1,5; do
        run -2 pipe "state mix 'a.state$w'"
        [ "$output" = "state: 'a.state$w' does not end in a weight: write FILE:NUMBER, as in a.state:0.7" ]
    done
    other_last=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$other/config.json") - 1))
    "$STATEPIPE_BUILD/check/state" --write "$other" other.state 1 0 $other_last
    run -65 pipe "state mix a.state:0.5 other.state:0.5 -o out"
    [[ $output == "state: other.state: the state belongs to another model (fingerprint "*") than a.state ("*")" ]]
    make_state first.state 7 0 0
    run -65 pipe "state mix a.state:0.5 first.state:0.5 -o out"
    [ "$output" = "state: first.state: the state has layers 0-0, a.state has 0-$last" ]
    run -66 pipe "state mix a.state:0.5 nothere:0.5 -o out"
    [ ! -e out ]
}

@test "another tokenizer is refused by merge, mix and near" {
    pipe "echo Jane | tokenize -m $model | embed -m $model | mamba-layer -m $model --dump-state r.state >/dev/null"
    pipe "state export -o x r.state"
    t=$(pipe "state info r.state" | sed -n 's/^  tokenizer *//p')
    sed "s/$t/0123456789abcdef0123456789abcdef/" x >y
    pipe "state import --edited -o r.state x; state import --edited -o y.state y"
    message="the state was made with another tokenizer (0123456789ab) than"
    run -65 pipe "state mix r.state:1 y.state:1"
    [ "$output" = "state: y.state: $message r.state (${t:0:12})" ]
    run -65 pipe "state merge r.state y.state"
    [ "$output" = "state: y.state: $message r.state (${t:0:12})" ]
    run -1 pipe "state near r.state y.state"
    [ "$output" = "state: y.state: $message the query (${t:0:12})" ]
}

@test "near: the nearest first, in TSV and JSON; what cannot be compared is said" {
    make_state b.state 2 0 $last
    pipe "state mix a.state:0.9 b.state:0.1 -o ab.state"
    cp a.state same.state
    for m in cosine l2; do
        run -0 pipe "state near --metric $m a.state b.state ab.state same.state"
        [ "${#lines[@]}" = 3 ]
        [ "${lines[0]}" = "0	3	same.state" ]
        [[ ${lines[1]} == 0.*"	6	ab.state" ]]
        [[ ${lines[2]} == [01]*"	3	b.state" ]]
    done
    run -0 pipe "state near -n 2 -o jsonl a.state b.state ab.state same.state"
    [ "${lines[0]}" = '{"file":"same.state","distance":0,"n_tok":3,"origin":"read"}' ]
    [[ ${lines[1]} == '{"file":"ab.state","distance":0.'*',"n_tok":6,"origin":"mixed"}' ]]
    [ "${#lines[@]}" = 2 ]
    make_state first.state 7 0 0
    run -1 --separate-stderr pipe "state near a.state first.state nothere b.state $TREE/Makefile"
    [ "${#lines[@]}" = 1 ]
    [ "${stderr_lines[0]}" = "state: first.state: the state has layers 0-0, the query has 0-$last" ]
    [ "${stderr_lines[1]}" = "state: cannot open nothere: No such file or directory" ]
    [ "${#stderr_lines[@]}" = 3 ]
    run -66 pipe "state near nothere a.state"
}

@test "plot: an SVG that XML readers read, a PGM of the right size" {
    cp a.state 'a<b>&.state'
    pipe "state plot -o a.svg 'a<b>&.state'; state plot 'a<b>&.state' >b.svg; state plot -o a.pgm a.state"
    cmp a.svg b.svg
    run -0 python3 -c '
import xml.etree.ElementTree as e
root = e.parse("a.svg").getroot()
text = [x.text or "" for x in root.iter("{http://www.w3.org/2000/svg}text")]
assert root.tag.endswith("svg") and "a<b>&.state" in text, text
assert "layer" in text and "channel" in text and any("3 tokens (read)" in x for x in text)
f = open("a.pgm", "rb")
lines = [f.readline() for i in range(6)]
width, height = map(int, lines[4].split())
assert lines[0] == b"P5\n" and lines[5] == b"255\n" and all(x.startswith(b"# ") for x in lines[1:4])
assert height == 2 * 8 * ('$last' + 1) + 4 and len(f.read()) == width * height
print("fine")'
    [ "$output" = fine ]
    run -2 pipe "state plot -o a.png a.state"
    [ "$output" = "state: -o a.png: the name ends in neither .svg nor .pgm; give --format" ]
    run -0 pipe "state plot --format pgm -o picture a.state"
    cmp picture a.pgm
}
