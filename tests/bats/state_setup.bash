# Sourced by the suites of `state`.

# make_state FILE SEED FIRST LAST: random numbers in the shape of the tiny model.
make_state() { "$STATEPIPE_BUILD/check/state" --write "$TREE/tests/golden/tiny" "$@"; }

setup() {
    model=$TREE/tests/golden/tiny
    other=$TREE/tests/golden/mamba-odd
    cd "$BATS_TEST_TMPDIR" || return 1
    last=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$model/config.json") - 1))
    make_state a.state 1 0 $last
}
