load common

# The dispatcher: which program runs, with what PATH, environment and exit status. It stands beside
# programs of the suite's own here, as it does in libexec when installed.

setup() {
    sp=$STATEPIPE_BUILD/bin/statepipe
    home=$BATS_TEST_TMPDIR/usr
    mkdir -p "$home/bin" "$home/libexec/statepipe"
    cp "$sp" "$home/bin"
    for name in tokenize head fail show; do
        printf '#!/bin/bash\n' >"$home/libexec/statepipe/$name"
        chmod +x "$home/libexec/statepipe/$name"
    done
    echo 'echo "our head: $*"' >>"$home/libexec/statepipe/head"
    echo 'exit "$1"' >>"$home/libexec/statepipe/fail"
    echo 'env | grep -E "^STATEPIPE_(JOBS|PIPE_SIZE)=" | sort' >>"$home/libexec/statepipe/show"
}

@test "help lists the programs that are there" {
    run -0 "$sp" --help
    [[ $output == *" extract "* && $output == *"statepipe cv FILE..."* ]]
    [ "$output" = "$("$sp" help)" ]
    run -0 "$home/bin/statepipe" help
    [[ $output == *" fail head show tokenize"* ]]
}

@test "a program is run with its arguments and its exit status" {
    run -0 "$home/bin/statepipe" head -n 'a  b'
    [ "$output" = "our head: -n a  b" ]
    run -65 "$home/bin/statepipe" fail 65
    run -0 "$sp" help extract
    [ "$output" = "$("$sp" extract --help)" ]
}

@test "what is no program is refused" {
    run -66 --separate-stderr "$sp" nonsense
    [ "$stderr" = "statepipe: no program 'nonsense' (see statepipe help)" ]
    run -66 --separate-stderr "$sp" ../../bin/true
    run -66 --separate-stderr "$sp" statepipe
    run -2 --separate-stderr "$sp"
    [ "$stderr" = "statepipe: say what to run; statepipe --help lists it" ]
    run -2 --separate-stderr "$sp" --exec
    [ "$stderr" = "statepipe: unknown option --exec (see statepipe --help)" ]
}

@test "--exec-path: libexec where installed, the build's folder in the tree" {
    run -0 "$home/bin/statepipe" --exec-path
    [ "$output" = "$(realpath "$home/libexec/statepipe")" ]
    run -0 "$sp" --exec-path
    [ "$output" = "$(realpath "$STATEPIPE_BUILD/bin")" ]
    ln -s "$home/bin/statepipe" "$BATS_TEST_TMPDIR/link"
    run -0 "$BATS_TEST_TMPDIR/link" --exec-path
    [ "$output" = "$(realpath "$home/libexec/statepipe")" ]
}

@test "--model-path: the model in the tree, or that of the environment" {
    run -0 "$sp" --model-path
    [ "$output" = "$(realpath "$TREE/share/model")" ]
    STATEPIPE_MODEL=$TREE/tests/golden/tiny run -0 "$sp" --model-path
    [ "$output" = "$(realpath "$TREE/tests/golden/tiny")" ]
    STATEPIPE_MODEL=/nowhere run -66 --separate-stderr "$sp" --model-path
    [[ $stderr == "statepipe: no model in /nowhere"* ]]
}

@test "sh: our programs come first, for the pipeline only" {
    run -0 "$home/bin/statepipe" sh 'true | head -1'
    [ "$output" = "our head: -1" ]
    run -0 bash -c 'echo x | head -1'
    [ "$output" = x ]
}

@test "sh: the status of the last program that failed" {
    run -3 "$home/bin/statepipe" sh 'fail 3 | cat'
    run -5 "$home/bin/statepipe" sh 'fail 3 | fail 5 | true'
    run -0 "$home/bin/statepipe" sh 'true | cat'
}

@test "sh: arguments stay what they are" {
    run -0 "$home/bin/statepipe" sh 'printf "%s\n" "$1" "$2"' '$(rm -rf x); a' "it's"
    [ "${lines[0]}" = '$(rm -rf x); a' ]
    [ "${lines[1]}" = "it's" ]
}

@test "sh: a thread budget, shared among the layers; what the caller has set stays" {
    unset STATEPIPE_JOBS STATEPIPE_PIPE_SIZE
    run -0 "$home/bin/statepipe" sh -j 6 'show'
    [ "${lines[0]}" = STATEPIPE_JOBS=6 ]
    [ "${lines[1]}" = STATEPIPE_PIPE_SIZE=1048576 ]
    run -0 "$home/bin/statepipe" sh -j6 'show # mamba-layer -l 0-1 | mamba-layer -l 2-3'
    [ "${lines[0]}" = STATEPIPE_JOBS=3 ]
    STATEPIPE_JOBS=9 run -0 "$home/bin/statepipe" sh show
    [ "${lines[0]}" = STATEPIPE_JOBS=9 ]
    STATEPIPE_JOBS=9 run -0 "$home/bin/statepipe" sh -j 2 show
    [ "${lines[0]}" = STATEPIPE_JOBS=2 ]
    run -2 --separate-stderr "$sp" sh -j 0 show
    [ "$stderr" = "statepipe: sh: -j '0' is not a number of threads from 1 to 1024" ]
    run -2 --separate-stderr "$sp" sh
    [[ $stderr == "statepipe: sh: needs a pipeline"* ]]
    run -2 --separate-stderr "$sp" sh -x show
    [ "$stderr" = "statepipe: sh: unknown option -x (see statepipe help)" ]
}

@test "sh: the pipes between our programs are wide" {
    # a program that asks the kernel for the size of its own standard input
    cat >"$home/libexec/statepipe/size" <<'END'
#!/usr/bin/python3
import fcntl
print(fcntl.fcntl(0, 1032))
END
    chmod +x "$home/libexec/statepipe/size"
    ln -s "$STATEPIPE_BUILD/bin/cv" "$home/libexec/statepipe/cv"
    run -0 "$home/bin/statepipe" sh '{ cv --version >/dev/null; sleep 0.3; } | size'
    small=$output
    run -0 "$home/bin/statepipe" sh '{ cv --version; sleep 0.3; } | { sleep 0.2; size; }'
    echo "$small $output"
    [ "$small" = 65536 ]
    [ "$output" = 1048576 ]
}

@test "a full disk and a closed pipe are noticed" {
    run -74 --separate-stderr bash -c '"$1" help >/dev/full' _ "$sp"
    [ "$stderr" = "statepipe: writing standard output: No space left on device" ]
    run -0 bash -c '{ sleep 0.2; "$1" help; } | true; echo "${PIPESTATUS[0]}"' _ "$sp"
    [ "$output" = 141 ]
}
