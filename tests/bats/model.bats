# The recipe of the shipped model, shortened to a few steps.
load common

@test "the recipe trains a model that the pipe runs with, and scores it" {
    CVS=50 STEPS=3 MORE_STEPS=2 FILL_STEPS=2 run -0 --separate-stderr "$TREE/share/model-src/train" "$STATEPIPE_BUILD/bin" "$BATS_TEST_TMPDIR/m"
    [[ ${lines[0]} == "50 documents, "* ]]
    [[ ${lines[4]} == "exact    record "* ]]
    [[ ${lines[-1]} == "all "*"questions  first "* ]]
    [ -s "$BATS_TEST_TMPDIR/m/model.safetensors" ]
    [ -s "$BATS_TEST_TMPDIR/m/fill/model.safetensors" ]
    cmp "$TREE/share/model/tokenizer.json" "$BATS_TEST_TMPDIR/m/tokenizer.json"
}

@test "the recipe goes on from a model, and says if there is none" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    FROM=$TREE/share/model CVS=50 STEPS=1 MORE_STEPS=1 FILL_STEPS=1 SPLIT=heldout \
        run -0 --separate-stderr "$TREE/share/model-src/train" "$STATEPIPE_BUILD/bin" m
    # one step leaves a model what it was: it finds records, which a new one does not
    exact=$(sed -n 's/^exact *record .* F1 \([0-9.]*\).*/\1/p' <<<"$output")
    echo "$exact"
    python3 -c 'import sys; assert float(sys.argv[1]) > 0.3' "$exact"
    FROM=nowhere run -66 --separate-stderr "$TREE/share/model-src/train" "$STATEPIPE_BUILD/bin" n
    [[ $stderr == *"nowhere"* ]]
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

@test "the scorer: gold as the tutorial writes it" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    sed -n "/^echo '{/,/tee mine.jsonl/p" "$TREE/man/statepipe-tutorial.7" | sed 's/\\e$/\\/' >block
    run -0 bash block
    echo '{"id": "1", "education": [{"institution": {"text": "ETH Zürich"}, "degree": {"text": "M.Sc."}, "year": {"text": "2015"}}]}' >found
    run -0 "$TREE/tests/eval/score.py" mine.jsonl found
    [[ ${lines[0]} == "1 documents, 1 records" ]]
    [[ ${lines[1]} == *institution*"(right 0, invented 1, missed 1)" ]]
    [[ ${lines[2]} == *degree*"(right 1, invented 0, missed 0)" ]]
    [[ ${lines[3]} == *year*"(right 1, invented 0, missed 0)" ]]
}

@test "the scorer: how often records of each kind are wrong, and how many of the sure ones are right" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    echo '{"id": "a", "education": [{"institution": {"text": "ETH"}, "degree": {"text": "BSc"}, "year": null}]}' >gold
    echo '{"id": "a", "education": [{"institution": {"text": "ETH", "p": 0.95}, "degree": {"text": "BSc", "p": 0.9}, "year": null, "p": 0.8},
        {"institution": {"text": "MIT", "p": 0.99}, "degree": null, "year": null, "p": 0.91},
        {"institution": {"text": "EPF", "p": 0.5}, "degree": null, "year": null, "p": 0.5}]}' | tr -d '\n' >found
    run -0 "$TREE/tests/eval/score.py" --doubt --reliability gold found
    [ "$(grep ^doubt <<<"$output" | tr -s ' ')" = $'doubt institution 1 records wrong 1.000\ndoubt institution+degree 1 records wrong 0.000' ]
    [ "$(grep '^exact *p >=' <<<"$output" | tr -s ' ')" = "exact p >= 0.90 1 records right 0.000" ]
    [ "$(grep '^exact *p 0.80' <<<"$output" | tr -s ' ')" = "exact p 0.80 to 0.90 1 records mean p 0.800 right 1.000" ]
}

@test "the scorer of labelled spans: fields by themselves, each text once" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    echo '{"id": "a", "text": "BSc in Law, ETH 2011, ETH Zürich, MIT", "spans": [[0, 10, "Degree"], [12, 15, "College Name"],
        [22, 32, "College Name"], [16, 20, "Graduation Year"], [34, 37, "Name"]]}' | tr -d '\n' >gold
    echo '{"id": "a", "education": [{"institution": "ETH", "degree": "BSc", "year": "2011"},
        {"institution": "eth", "degree": null, "year": "2009 - 2011"}, {"institution": "MIT", "degree": null, "year": "2010"}]}' | tr -d '\n' >found
    run -0 "$TREE/tests/eval/score_spans.py" --errors 9 gold found
    [[ ${lines[0]} == *"(right 1, invented 1, missed 1)" ]]
    [[ ${lines[1]} == *"(right 1, invented 0, missed 0)" ]]
    [[ ${lines[2]} == *"(right 1, invented 1, missed 0)" ]]
    [ "${lines[4]}" = $'a\tinstitution\tmissed\tETH Zürich' ]
}

@test "experiments: a line for each way, and a trained one is only asked again" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    export BATCH=256 HELD_OUT=10
    pipe "mkresume -n 5 --seed 3" >gold
    run -0 --separate-stderr "$TREE/tests/eval/experiments" "$STATEPIPE_BUILD/bin" out 0.2 gold base \
        taps-8-delay-8 read-twice reverse-64-taps-4-delay-0-layers-3 reverse-128-taps-8-delay-0
    [[ ${lines[1]} =~ ^base\ +[0-9]+\ +[0-9.]+\ +[0-9]+\ .*\(.*\ to\ .*\) ]]
    [[ ${lines[2]} == taps-8-delay-8\ * ]]
    [[ ${lines[3]} == read-twice\ * ]]
    [[ ${lines[4]} == reverse-64-taps-4-delay-0-layers-3\ * ]]
    [ ${#lines[@]} -eq 6 ]
    grep -q '"conv_kernel": 8' out/taps-8-delay-8/model/config.json
    run -1 grep reverse out/{base,taps-8-delay-8,read-twice}/model/config.json
    grep -q '"reverse": 64' out/reverse-64-taps-4-delay-0-layers-3/model/config.json
    grep -q '"reverse_layers": \[3\]' out/reverse-64-taps-4-delay-0-layers-3/model/config.json
    touch -d 2001-01-01 out/base/model/model.safetensors
    run -0 --separate-stderr "$TREE/tests/eval/experiments" "$STATEPIPE_BUILD/bin" out 0.2 gold base
    [ "$(date -r out/base/model/model.safetensors +%Y)" = 2001 ]
    HELD_OUT=3 run -0 --separate-stderr "$TREE/tests/eval/slot_experiments" "$STATEPIPE_BUILD/bin" out 0.2 gold
    [[ ${lines[1]} == marked\ * ]]
    [[ ${lines[2]} == reversed\ * ]]
    [[ ${lines[5]} == both\ * ]]
    [[ ${lines[6]} == "both, records: held out  exact "* ]]
    run -2 --separate-stderr "$TREE/tests/eval/experiments" "$STATEPIPE_BUILD/bin" out 0.2 gold wider
    [ "$stderr" = "experiments: no variant wider" ]
    LR=none run -1 --separate-stderr "$TREE/tests/eval/experiments" "$STATEPIPE_BUILD/bin" out 0.2 gold delay-4
    [[ ${stderr_lines[0]} == "experiments: the training failed; the end of "*"out/delay-4/log:" ]]
    [[ $stderr == *"train: "*"none"* ]]
}

@test "experiments: a config loses its reversed layers, in whatever lines they stand" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    own='"delay": 0, "format": 2, "reverse": 128, "reverse_layers": [1, 3]'
    echo '{"hidden_size": 8, "statepipe": {'"$own"'}}' >line
    python3 -m json.tool line >lines
    sed 's/, "reverse_layers.*]//' line >short
    for config in line lines short; do
        run -0 bash -c '. "$1/tests/eval/functions.bash"; forward_only <"$2"' - "$TREE" $config
        [ "$(tr -d ' \n' <<<"$output")" = '{"hidden_size":8,"statepipe":{"delay":0,"format":1}}' ]
    done
}

@test "vary: the same model, with other transitions or averaged, and doubts" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    vary() { "$TREE/share/model-src/vary.py" "$@"; }
    run -0 vary "$TREE/share/model" same --transitions 1
    run -0 vary "$TREE/share/model" none --transitions 0
    run -0 vary same half --mean none none same
    pipe "mkresume -n 3 --text" >cv.txt
    run -0 pipe 'cmp <(tokenize cv.txt | embed | mamba-layer | head | extract) <(tokenize -m same cv.txt | embed -m same | mamba-layer -m same | head -m same | extract)'
    run -0 python3 - "$TREE" <<'END'
import array, json, pathlib, struct, sys
def read(model):
    data = pathlib.Path(model, "model.safetensors").read_bytes()
    n = 8 + struct.unpack("<Q", data[:8])[0]
    return {k: array.array("f", data[n + v["data_offsets"][0]:n + v["data_offsets"][1]])
            for k, v in json.loads(data[8:n]).items() if k != "__metadata__"}
shipped, same, none, half = map(read, (sys.argv[1] + "/share/model", "same", "none", "half"))
trans = "statepipe.tag.trans"
assert shipped == same
assert not any(none[trans]) and any(same[trans])
assert [2 * v for v in half[trans]] == list(same[trans])
assert all(half[k] == same[k] == none[k] for k in same if k != trans)
END
    printf 'doubt    %s %d records  wrong %s\n' degree+year 50 0.125 year 7 0.9 institution+degree+year 500 0.02 >scores
    run -0 vary same sure --doubt scores
    run -0 python3 -c 'import json; print(json.load(open("sure/config.json"))["statepipe"]["heads"]["tag"]["doubt"])'
    [ "$output" = "{'degree+year': 0.125}" ]
    printf 'doubt    %s %d records  wrong %s\n' year 19 0.9 institution+degree+year 500 0.02 >few
    run -0 --separate-stderr vary same few-sure --doubt few
    [ "$stderr" = "vary: few has fewer than 20 records of every kind that lacks a field: nothing is doubted" ]
    echo 'calibration  slope 0.500  intercept -0.250' >fit
    run -0 --separate-stderr vary sure sure --calibration fit
    run -0 python3 -c 'import json; print(json.load(open("sure/config.json"))["statepipe"]["heads"]["tag"])'
    [[ $output == *"'doubt': {'degree+year': 0.125}, 'calibration': [0.5, -0.25]"* ]]
    run -1 --separate-stderr vary sure sure --calibration few
    [ "$stderr" = "vary: few is not what score.py --calibration prints" ]
}

@test "the scorer: groups by several keys, and a key that no document has" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    pipe "mkresume -n 30 --split heldout" >gold
    run -0 "$TREE/tests/eval/score.py" --by lang --by layout gold gold
    [[ $output == *$'\nen '*"exact F1 institution 1.00 degree 1.00 year 1.00 record 1.00"* ]]
    [[ $output == *$'\nsections '* ]]
    run -65 --separate-stderr "$TREE/tests/eval/score.py" --by colour gold gold
    [ "$stderr" = 'score: no gold document has "colour"' ]
}

@test "the rule baseline: headings, gaps between records, one field is none" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    cat >cv <<'END'
Jo Doe
Experience
2015 - now  Technician, University of Nowhere
Education
2012 - 2014  MSc Physics
ETH Zürich

2009 - 2012  BSc Physics
University of Basel, Switzerland

2001
Languages
German, Hochschule level 2003
END
    python3 -c 'import json; print(json.dumps({"id": "a", "text": open("cv").read()}))' >gold
    run -0 "$TREE/tests/eval/baseline.py" gold
    [ "$output" = '{"id": "a", "education": [{"institution": "ETH Zürich", "degree": "MSc", "year": "2012 - 2014"}, {"institution": "University of Basel", "degree": "BSc", "year": "2009 - 2012"}]}' ]
}

@test "unanswerable questions: each is put to every CV, and what is invented is counted" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    echo '{"id": "a", "text": "Jo Doe\nBaker", "education": []}
{"id": "b", "text": "baker", "education": null}' >gold
    printf '# none\n\nhat\t{name} wears a ?__\nfar\tParis: ?__\n' >templates
    run -0 "$TREE/tests/eval/questions.py" --unanswerable templates gold
    [ ${#lines[@]} -eq 4 ]
    [[ ${lines[0]} == *'"query": "Jo Doe wears a ?__", "answers": ["unknown"], "kind": "hat"}' ]]
    [[ ${lines[2]} == *'"query": "This person wears a ?__"'* ]]
    echo "$output" >asked
    echo '{"id": "c", "query": "?__", "answers": ["Baker"], "kind": "role"}' >>asked
    cat >given <<'END'
{"id": "a-unanswerable-0", "answers": [{"text": "unknown", "p": 0.9}]}
{"id": "a-unanswerable-1", "answers": [{"text": "Baker", "p": 0.5}, {"text": "unknown", "p": 0.4}]}
{"id": "b-unanswerable-0", "answers": [{"text": "baker", "p": 0.4}]}
{"id": "c", "answers": [{"text": "unknown", "p": 0.9}]}
END
    run -0 "$TREE/tests/eval/score_slots.py" asked given
    [ "$(grep ^with <<<"$output" | tr -s ' ')" = "without an answer 4 questions unknown first 0.250 wrong with p >= 0.50 0.250
with an answer 1 questions unknown first 1.000 wrong with p >= 0.50 0.000" ]
    [[ ${lines[-1]} == "all "*" 5 questions  first 0.200  relaxed 0.200  one of five 0.400" ]]
    printf 'far\tParis\n' >templates
    run -65 "$TREE/tests/eval/questions.py" --unanswerable templates gold
    [ "$output" = "questions: templates: line 1 is no kind, tab and statement with ?__" ]
    "$TREE/tests/eval/questions.py" --unanswerable "$TREE/tests/eval/unanswerable.txt" gold >asked
    [ "$(grep -c . asked)" = 80 ]
}

@test "the scripts: help, unknown options, files that are not there or no JSON" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    echo '{"id": "a", "education": []' >half
    echo '{"id": "a"}' >bare
    local name script files
    for name in baseline marked questions score score_slots score_spans corpus_stats; do
        script=$TREE/tests/eval/$name.py files=(nowhere)
        [[ $name == score* ]] && files+=(nowhere)
        run -0 --separate-stderr "$script" --help
        [[ $output == *"    "*"$name.py"* ]]
        run -2 --separate-stderr "$script" --colour "${files[@]}"
        [ "$stderr" = "$name: unrecognized arguments: --colour (see $name --help)" ]
        [ -z "$output" ]
        run -66 --separate-stderr "$script" "${files[@]}" </dev/null
        [[ $stderr =~ ^"$name: cannot open nowhere"(/universities.tsv)?": No such file or directory"$ ]]
        [[ $name == marked || $name == corpus_stats ]] && continue
        run -65 --separate-stderr "$script" "${files[@]/nowhere/half}"
        [ "$stderr" = "$name: half: line 1 is no JSON" ]
        run -65 --separate-stderr "$script" "${files[@]/nowhere/bare}"
        [[ $stderr == "$name: bare: line 1 has no \""*\" ]]
    done
    run -65 --separate-stderr "$TREE/tests/eval/corpus_stats.py" </dev/null
    [ "$stderr" = "corpus_stats: there are no documents: give them on standard input" ]
    run -0 pipe "mkresume -n 3 --slots 2 | '$TREE/tests/eval/corpus_stats.py'"
    [[ ${lines[0]} == "documents 3, characters: mean "* ]]
    for script in tests/eval/experiments tests/eval/slot_experiments tests/eval/report share/model-src/train; do
        run -2 --separate-stderr "$TREE/$script"
        [[ $stderr == "usage: ${script##*/} PROGRAMS "* && ${#stderr_lines[@]} -eq 1 ]]
    done
}

@test "the report: every set, beside the rules, and every kind of question" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    pipe "mkresume -n 5 --seed 4" >mine.jsonl
    echo '{"id": "a", "lang": "en", "text": "Jane Doe, baker", "education": []}' >none.jsonl
    printf 'far\tThe capital of France is ?__\n' >templates
    HELD_OUT=10 TEMPLATES=templates run -0 --separate-stderr \
        "$TREE/tests/eval/report" "$STATEPIPE_BUILD/bin" "$TREE/share/model" out mine.jsonl none.jsonl
    [[ $output == *"== none: records"*"== none: questions"$'\n'"no questions"$'\n'* ]]
    for title in mine heldout written-a written-b; do
        [[ $output == *"== $title: records"*"== $title: questions"* ]]
    done
    [ "$(grep -c '  baseline F1 [01]\.[0-9]*$' <<<"$output")" = $((8 * (3 + $(ls "$TREE"/tests/eval/written/*.txt | wc -l)))) ]
    grep -q '^en  .* documents  exact F1 institution .* relaxed record [01]\.[0-9]*  baseline record [01]\.[0-9]*  relaxed record [01]\.[0-9]*$' <<<"$output"
    [ "$(grep -c '^CVs/s    [1-9][0-9]*  baseline [1-9][0-9]*$' <<<"$output")" -ge 4 ]
    [[ $output == *"== unanswerable: questions"*"without an answer "* ]]
    grep -q '^{"id": "mine-' out/unanswerable.questions
    [ "$(grep -c . out/unanswerable.questions)" = "$(cut -d, -f1 out/unanswerable.questions | sort -u | wc -l)" ]
    run -66 --separate-stderr "$TREE/tests/eval/report" "$STATEPIPE_BUILD/bin" "$TREE/share/model" out nowhere
    [ "$stderr" = "report: cannot read nowhere" ]
    run -66 --separate-stderr "$TREE/tests/eval/report" /nosuch "$TREE/share/model" out mine.jsonl
    [ "$stderr" = "report: there are no programs in /nosuch: build/bin has them" ]
    run -2 --separate-stderr "$TREE/tests/eval/report" "$STATEPIPE_BUILD/bin" "$TREE/share/model" out mine.jsonl ./mine.jsonl
    [ "$stderr" = "report: two sets are called mine" ]
}

@test "marked CVs: records, shared institutions, questions; marks that do not match" {
    cd "$BATS_TEST_TMPDIR" || exit 70
    cat >cvs <<'END'
=== one en
? Jo is a ?__ = baker | master baker
Jo, master baker. ⟦i1,2:Zürich Tech⟧: ⟦d2:MSc⟧ ⟦y2:2012⟧, ⟦d1:BSc⟧.
=== two de
nothing
END
    run -0 "$TREE/tests/eval/marked.py" cvs
    python3 - "${lines[@]}" <<'END'
import json, sys
one, two = map(json.loads, sys.argv[1:])
assert two["education"] == [] and two["text"] == "nothing\n" and two["lang"] == "de"
assert one["text"] == "Jo, master baker. Zürich Tech: MSc 2012, BSc.\n"
first, second = one["education"]
assert first["institution"] == second["institution"] == {"text": "Zürich Tech", "start": 18, "end": 29}
assert first["degree"]["text"] == "BSc" and first["year"] is None and second["year"]["text"] == "2012"
END
    run -0 "$TREE/tests/eval/marked.py" --questions cvs
    [ ${#lines[@]} -eq 1 ]
    [[ $output == *'"kind": "role"}' ]]
    [[ $output == *'"query": "Jo is a ?__", "answers": ["baker", "master baker"]'* ]]
    printf '=== k en\n? Jo got it in ?__ = May 2012\n? Jo has an MSc from ?__ = ETH\n? Jo: ?__ = x\n? [hat] Jo wears a ?__ = cap\n? Is ?__ = unknown\n' >kinds
    run -0 "$TREE/tests/eval/marked.py" --questions kinds
    [ "$(grep -o '"kind": "[a-z]*"' <<<"$output" | cut -d'"' -f4 | paste -sd ' ')" = "year inst answer hat unknown" ]
    printf '=== bad en\n? Jo\n' >bad
    run -65 "$TREE/tests/eval/marked.py" bad
    [ "$output" = "marked: bad: no question with an answer: '? Jo'" ]
    printf '=== bad en\n⟦i1:A ⟦d1:B⟧⟧\n' >bad
    run -65 "$TREE/tests/eval/marked.py" bad
    [[ $output == "marked: bad: marks do not match before"* ]]
    printf '=== bad en\n⟦d1:A⟧ ⟦d1:B⟧\n' >bad
    run -65 "$TREE/tests/eval/marked.py" bad
    [ "$output" = "marked: bad: record 1 has two of degree" ]
    run -0 "$TREE/tests/eval/marked.py" "$TREE"/tests/eval/written/*.txt
    [ ${#lines[@]} -eq 115 ]
    [ "$(grep -o '"institution": ' <<<"$output" | wc -l)" = 329 ]
    run -0 "$TREE/tests/eval/marked.py" --questions "$TREE"/tests/eval/written/*.txt
    [ ${#lines[@]} -eq 159 ]
}
