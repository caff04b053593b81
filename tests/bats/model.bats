# The recipe of the shipped model, shortened to a few steps.
load common

@test "the recipe trains a model that the pipe runs with, and scores it" {
    STEPS=3 MORE_STEPS=2 run -0 --separate-stderr "$TREE/share/model-src/train" "$STATEPIPE_BUILD/bin" "$BATS_TEST_TMPDIR/m"
    [[ ${lines[0]} == "300 documents, "* ]]
    [[ ${lines[4]} == record* ]]
    [ -s "$BATS_TEST_TMPDIR/m/model.safetensors" ]
    cmp "$TREE/share/model/tokenizer.json" "$BATS_TEST_TMPDIR/m/tokenizer.json"
}

@test "the scorer: all right, all wrong, nothing found" {
    pipe "mkresume -n 60 --split heldout" >"$BATS_TEST_TMPDIR/gold"
    run -0 "$TREE/tests/eval/score.py" "$BATS_TEST_TMPDIR/gold" "$BATS_TEST_TMPDIR/gold"
    [ "$(grep -c 'P 1.000  R 1.000  F1 1.000' <<<"$output")" = 4 ]
    sed 's/"text": "[^"]*", "start"/"text": "9", "start"/g' "$BATS_TEST_TMPDIR/gold" >"$BATS_TEST_TMPDIR/wrong"
    run -0 "$TREE/tests/eval/score.py" "$BATS_TEST_TMPDIR/gold" "$BATS_TEST_TMPDIR/wrong"
    [ "$(grep -c 'P 0.000  R 0.000  F1 0.000' <<<"$output")" = 4 ]
    run -0 "$TREE/tests/eval/score.py" "$BATS_TEST_TMPDIR/gold" /dev/null
    [ "$(grep -c 'R 0.000' <<<"$output")" = 4 ]
}
