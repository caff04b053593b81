# The recipe of the shipped model, shortened to a few steps.
load common

@test "the recipe trains a model that the pipe runs with, and scores it" {
    STEPS=3 MORE_STEPS=2 FILL_STEPS=2 run -0 --separate-stderr "$TREE/share/model-src/train" "$STATEPIPE_BUILD/bin" "$BATS_TEST_TMPDIR/m"
    [[ ${lines[0]} == "300 documents, "* ]]
    [[ ${lines[4]} == "exact    record "* ]]
    [[ ${lines[-1]} == "all "*"questions  first "* ]]
    [ -s "$BATS_TEST_TMPDIR/m/model.safetensors" ]
    [ -s "$BATS_TEST_TMPDIR/m/fill/model.safetensors" ]
    cmp "$TREE/share/model/tokenizer.json" "$BATS_TEST_TMPDIR/m/tokenizer.json"
}

@test "the scorer: all right, all wrong, nothing found" {
    pipe "mkresume -n 60 --split heldout" >"$BATS_TEST_TMPDIR/gold"
    run -0 "$TREE/tests/eval/score.py" "$BATS_TEST_TMPDIR/gold" "$BATS_TEST_TMPDIR/gold"
    [ "$(grep -c 'P 1.000  R 1.000  F1 1.000' <<<"$output")" = 8 ]
    sed 's/"text": "\([^"\\]\|\\.\)*", "start"/"text": "9", "start"/g' "$BATS_TEST_TMPDIR/gold" >"$BATS_TEST_TMPDIR/wrong"
    run -0 "$TREE/tests/eval/score.py" "$BATS_TEST_TMPDIR/gold" "$BATS_TEST_TMPDIR/wrong"
    [ "$(grep -c 'P 0.000  R 0.000  F1 0.000' <<<"$output")" = 8 ]
    run -0 "$TREE/tests/eval/score.py" "$BATS_TEST_TMPDIR/gold" /dev/null
    [ "$(grep -c 'R 0.000' <<<"$output")" = 8 ]
}

@test "the scorer: other right answers, years in many dresses, pairs by what fits best" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    cat >gold <<'END'
{"id": "a", "education": [{"institution": {"text": "Universidad de Chile", "alts": ["University of Chile"]}, "degree": {"text": "M. Sc."}, "year": {"text": "2014-16"}}, {"institution": {"text": "The MIT"}, "degree": null, "year": {"text": "since 2019"}}]}
END
    cat >found <<'END'
{"id": "a", "education": [{"institution": "MIT", "degree": null, "year": "2019 - present"}, {"institution": {"text": "university of chile"}, "degree": {"text": "MSc"}, "year": {"text": "09/2014 - 06/2016"}}]}
END
    run -0 "$TREE/tests/eval/score.py" gold found
    [ "$(grep -c 'P 1.000  R 1.000  F1 1.000' <<<"$output")" = 8 ]
    sed -i 's/"2019 - present"/"2019"/; s/"university of chile"/"Chile University Press"/' found
    run -0 "$TREE/tests/eval/score.py" --errors 9 gold found
    [[ ${lines[1]} == *"(right 1, invented 1, missed 1)" ]]
    [[ ${lines[3]} == *"(right 1, invented 1, missed 1)" ]]
    [[ ${lines[4]} == *"(right 0, invented 2, missed 2)" ]]
    [[ ${lines[5]} == *"(right 2, invented 0, missed 0)" ]]
    [[ $output == *$'a\tyear\t2019\tsince 2019'* ]]
}
