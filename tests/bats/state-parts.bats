load common
load state_setup

@test "split and merge: layer by layer and in ranges, back to the same bytes" {
    make_state whole.state 7 0 $last
    run -0 pipe "state split -o part.%i.state whole.state"
    [ -z "$output" ]
    for layer in $(seq 0 $last); do
        run -0 pipe "state info part.$layer.state"
        echo "$layer: $output"
        [[ ${lines[0]} == "part.$layer.state: 3 tokens (read), layers $layer-$layer of $((last + 1)), "* ]]
    done
    [[ $output == *"last token 3, "* ]]
    run -0 pipe "state merge -o back.state $(printf 'part.%s.state ' $(seq $last -1 0))"
    cmp whole.state back.state
    # in ranges, to numbered files, and through a pipe
    pipe "state split -l 0 -l 1-$last -o n%n whole.state"
    run -0 pipe "cat n1 | state merge - n0 >back.state"
    cmp whole.state back.state
    pipe "state split -l 0 -l 1-$last whole.state >both"
    run -0 pipe "state merge both | cmp - whole.state"
    [ -z "$(ls -A | grep tmp)" ]
}

@test "merge: layers run by two processes, whose states make that of one" {
    pipe "printf 'Jane Doe\n' | tokenize -m $model | embed -m $model >hidden"
    pipe "mamba-layer -m $model --dump-state whole.state hidden >/dev/null"
    pipe "mamba-layer -m $model -l 0-0 --dump-state first.state hidden |
        mamba-layer -m $model -l 1-$last --dump-state rest.state >/dev/null"
    run -0 pipe "state merge -o both.state rest.state first.state"
    cmp both.state whole.state
    pipe "mamba-layer -m $model --load-state both.state hidden >x; mamba-layer -m $model --load-state whole.state hidden >y"
    cmp x y
}

@test "cut: the states that documents bring along, into files" {
    printf 'Jane Doe\n' >a.txt
    printf 'John Roe\n' >b.txt
    pipe "tokenize -m $model a.txt b.txt | embed -m $model >hidden"
    pipe "mamba-layer -m $model --emit-state --dump-state 'want.%i' hidden >stream"
    run -0 pipe "state cut stream"
    cmp a.txt.state want.a.txt
    cmp b.txt.state want.b.txt
    run -0 pipe "head -m $model --head lm --score stream | state cut -o 'n%n'"
    cmp n0 want.a.txt
    cmp n1 want.b.txt
    run -2 pipe "state cut -o one stream"
    [ "$output" = "state: -o one: several states would overwrite one another; use %i or %n (a number) in the name" ]
    run -65 pipe "mamba-layer -m $model hidden | state cut"
    [ "$output" = "state: no document brings a state: mamba-layer --emit-state adds them" ]
    head -c 3000 stream >cut.stream
    run -65 pipe "state cut cut.stream"
    [[ $output == "state: "*"cut.stream ends in the middle of"* ]]
    run -66 pipe "state cut nothere"
}

@test "split: layers that are not there, names that do not vary" {
    run -65 pipe "state split -l 0-0 -l 0 -o again.%i a.state"
    [ "$output" = "state: its file would be again.0, which is that of number 0 of this run already: use %n (the number) in the name" ]
    run -2 pipe "state split -l 0-$((last + 1)) -o x.state a.state"
    [ "$output" = "state: layers 0-$((last + 1)): the state has layers 0-$last" ]
    for bad in x 1- -1 2-1 0-99999999999 0x1 ' 0' ''; do
        run -2 pipe "state split '-l$bad' -o x.state a.state"
        [[ $output == "state: -l '$bad': write the first and the last layer, counted from 0, as in 0-11" ]] || [ -z "$bad" ]
    done
    run -2 pipe "state split -o x.state a.state"
    [ "$output" = "state: -o x.state: several states would overwrite one another; use %i or %n (a number) in the name" ]
    run -2 pipe "state split -o x.%q a.state"
    [ "$output" = "state: the file's name x.%q: %q is not one of %i (the id), %n (the number), %%" ]
    [ ! -e x.state ]
}

@test "merge refuses what does not belong together, and says which file" {
    make_state first.state 7 0 0
    make_state rest.state 9 1 $last
    other_last=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$other/config.json") - 1))
    "$STATEPIPE_BUILD/check/state" --write "$other" other.state 1 1 $other_last
    fingerprint() { pipe "state info $1" | sed -n 's/^  model *\(.\{12\}\).*/\1/p'; }
    run -65 pipe "state merge -o out a.state first.state"
    [ "$output" = "state: first.state: layer 0 is in a.state too" ]
    run -65 pipe "state merge -o out first.state other.state"
    [ "$output" = "state: other.state: the state belongs to another model (fingerprint $(fingerprint other.state)) than first.state ($(fingerprint first.state))" ]
    model_of_four=$TREE/tests/golden/mamba-deep
    four() { "$STATEPIPE_BUILD/check/state" --write "$model_of_four" "$@"; }
    deep=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$model_of_four/config.json") - 1))
    [ "$deep" -ge 3 ]
    four f0 1 0 0
    four f3 1 3 3
    run -65 pipe "state merge -o out f3 f0"
    [ "$output" = "state: layers 1-2 are in none of the files" ]
    pipe "state convert -t bf16 -o half.state rest.state" 2>/dev/null
    run -65 pipe "state merge -o out first.state half.state"
    [ "$output" = "state: half.state: the state's origin is converted, that of first.state is read" ]
    [ ! -e out ]
}

@test "an output over an input is refused" {
    cp a.state b.state
    ln -s a.state link
    for c in "merge -o a.state a.state" "merge -o a.state b.state a.state" "split -l 0 -o a.state a.state" \
        "convert -t bf16 -o a.state a.state" "convert -t bf16 -o link a.state" "export -o a.state a.state" \
        "mix -o a.state b.state:1 a.state:1" "plot --format svg -o a.state a.state"; do
        run -2 pipe "state $c"
        echo "$c: $output"
        [ "$output" = "state: the output would replace the input a.state: write to another file" ]
        cmp a.state b.state
    done
    run -2 pipe "state convert -t bf16 - <a.state >>a.state"
    [ "$output" = "state: the output would replace the input -: write to another file" ]
    cmp a.state b.state
}

@test "binary output is refused on a terminal" {
    for c in "split a.state" "mix a.state:1" "plot --format pgm a.state"; do
        run -2 pipe "'$TREE/tests/bats/damage.py' pty state $c"
        echo "$c: $output"
        [[ $output == "state: the output is binary and standard output is a terminal"* ]]
    done
}
