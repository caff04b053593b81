load common

setup() {
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    cv=$STATEPIPE_BUILD/bin/cv
    cd "$BATS_TEST_TMPDIR" || exit 70
    printf 'ETH Zurich, M.Sc. 2015\n' >a.txt
    printf 'Universität Bern, 1999 – heute\n' >b.txt
}

@test "the same as the pipe it stands for" {
    run -0 --separate-stderr "$cv" a.txt b.txt
    [ -z "$stderr" ]
    [ "$output" = "$(pipe 'tokenize a.txt b.txt | embed | mamba-layer | head | extract')" ]
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[0]} == '{"id": "a.txt", "education": '* ]]
}

@test "standard input, and names that look like options or hold quotes" {
    run -0 "$cv" - <a.txt
    [[ $output == '{"id": "-", '* ]]
    [ "${output#*,}" = "$("$cv" a.txt | sed 's/^[^,]*,//')" ]
    run -0 bash -c 'cat a.txt | "$1" -' _ "$cv"
    [[ $output == '{"id": "-", '* ]]
    cp a.txt ./--help
    cp a.txt 'it'"'"'s "a" $(file)'
    run -0 "$cv" -- --help 'it'"'"'s "a" $(file)'
    [[ ${lines[0]} == '{"id": "--help", '* ]]
    [[ ${lines[1]} == '{"id": "it'"'"'s \"a\" $(file)", '* ]]
}

@test "options reach the programs they belong to" {
    run -0 "$cv" -o tsv -H a.txt
    [[ ${lines[0]} == $'id\tinstitution\tdegree\tyear'* ]]
    run -0 env -u STATEPIPE_MODEL "$cv" -m "$STATEPIPE_MODEL" --dtype bf16 -j 1 --head tag a.txt
    run -65 --separate-stderr "$cv" --head lm a.txt
    [[ $stderr == *extract:* ]]
    run -2 --separate-stderr "$cv" -o nonsense a.txt
    [ "$stderr" = "cv: -o: 'nonsense' is not one of jsonl|tsv|csv|table|html|ansi" ]
    run -2 --separate-stderr "$cv"
    [ "$stderr" = "cv: names of CVs are missing (- is standard input)" ]
}

@test "--min-p, --record-p and --recall reach extract, and -v mamba-layer" {
    run -0 --separate-stderr "$cv" -v --min-p 0.5 a.txt
    [[ $stderr == mamba-layer:* ]]
    [ "$output" = "$(pipe 'tokenize a.txt | embed | mamba-layer | head | extract --min-p 0.5')" ]
    for option in --record-p=0 --record-p=0.9 --recall=3 --recall=-3; do
        run -0 --separate-stderr "$cv" "$option" a.txt
        [ "$output" = "$(pipe "tokenize a.txt | embed | mamba-layer | head | extract $option")" ]
        echo "$output" >>differ
    done
    [ "$(sort -u differ | wc -l)" -ge 3 ]
    run -2 --separate-stderr "$cv" --record-p 2 a.txt
    [ "$stderr" = "cv: --record-p: '2' is not a number from 0 to 1" ]
    [ "$("$cv" --min-p 1 a.txt)" != "$("$cv" a.txt)" ]
    run -2 --separate-stderr "$cv" --min-p 1.5 a.txt
    [ "$stderr" = "cv: --min-p: '1.5' is not a number from 0 to 1" ]
}

@test "a PDF without text is a failed document, and what to do about it is said" {
    make_pdf '' >blank.pdf
    run -65 --separate-stderr "$cv" blank.pdf
    [ -z "$output" ]
    [ "$stderr" = "cv: blank.pdf: no text in it; a scan? run ocrmypdf first" ]
    run -1 --separate-stderr "$cv" a.txt blank.pdf b.txt
    [ "${#lines[@]}" = 2 ]
    [ "$stderr" = "cv: blank.pdf: no text in it; a scan? run ocrmypdf first" ]
}

@test "a PDF is read by what is in it, not by its name" {
    make_pdf 'ETH Zurich, M.Sc. 2015' >p.pdf
    cp p.pdf p.txt
    pdftotext -layout p.pdf direct.txt
    run -0 "$cv" p.pdf p.txt direct.txt
    [ "${lines[0]#*,}" = "${lines[2]#*,}" ]
    [ "${lines[1]#*,}" = "${lines[2]#*,}" ]
    run -0 bash -c 'cat p.pdf | "$1" -' _ "$cv"
    [ "${output#*,}" = "${lines[0]#*,}" ]
}

@test "a damaged PDF, and no pdftotext" {
    printf '%%PDF-1.4\nnothing\n' >bad.pdf
    run -65 --separate-stderr "$cv" bad.pdf
    [ "$stderr" = "cv: bad.pdf: pdftotext cannot read it (damaged or locked)" ]
    make_pdf x >p.pdf
    mkdir bin
    ln -s "$(command -v bash)" bin/bash
    run -69 --separate-stderr env PATH="$PWD/bin" "$cv" p.pdf
    [ "$stderr" = "cv: p.pdf: pdftotext is not there; install poppler-utils" ]
}

@test "one bad file among good ones: the others are done, status 1" {
    printf 'PK\003\004\000\000' >letter.docx
    run -1 --separate-stderr "$cv" a.txt letter.docx missing.txt b.txt
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[1]} == '{"id": "b.txt", '* ]]
    [[ $stderr == *"cv: letter.docx is neither text nor PDF; convert it first"* ]]
    [[ $stderr == *"cv: cannot open missing.txt: No such file or directory"* ]]
    run -66 --separate-stderr "$cv" missing.txt
    run -65 --separate-stderr "$cv" letter.docx
    run -66 --separate-stderr "$cv" .
    [ "$stderr" = "cv: . is a directory" ]
}

@test "an empty text has no records" {
    : >empty.txt
    run -0 "$cv" -o jsonl empty.txt
    [ "$output" = '{"id": "empty.txt", "education": []}' ]
}

@test "bytes that are not UTF-8 are replaced, which is said" {
    printf 'Universit\344t Bern 1999\n' >latin1.txt
    run -0 --separate-stderr "$cv" latin1.txt
    [ "$stderr" = "cv: latin1.txt: invalid UTF-8 at byte 9, replaced (1 time in all); of another encoding? iconv -f latin1 -t utf-8 (UTF-16: -f utf-16)" ]
    [ "${#lines[@]}" = 1 ]
}

@test "the pipe's failure is the command's" {
    run -66 --separate-stderr "$cv" -m /nonexistent a.txt
    [[ $stderr == *"/nonexistent"* ]]
    run -74 bash -c '"$1" a.txt >/dev/full' _ "$cv"
    [[ $output == *"No space left on device"* ]]
}
