load common

# Every call that can fail is made to fail, one after another (tests/inject/inject.c): a program
# ends by itself with a documented status, says why, and never claims success for less output.

setup_file() {
    export INJECT_SO=$STATEPIPE_BUILD/inject.so
    [ -e "$INJECT_SO" ] || make -s -C "$TREE" BUILD="$STATEPIPE_BUILD" "$INJECT_SO"
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny STATEPIPE_JOBS=1
    export PREPARED=$BATS_FILE_TMPDIR
    cd "$PREPARED" || return
    printf 'Jane Doe\n2014 - 2018: B.Sc., University of X\n' >text
    printf '{"id": "a", "text": "B.Sc.", "spans": [[0, 5, "degree", [0]]]}\n' >jsonl
    pipe "tokenize text >tokens; embed tokens >hidden; mamba-layer hidden >done; head done >scores
        tokenize --open text | embed | mamba-layer >open
        mamba-layer --dump-state state hidden >/dev/null
        tokenize --jsonl jsonl >labelled
        train --init '$STATEPIPE_MODEL' --epochs 2 -j 1 -o model labelled"
}

setup() {
    # The sanitizer's allocator has to come first, and may not be preloaded over.
    if ldd "$STATEPIPE_BUILD/bin/extract" | grep -q libasan; then skip "a sanitizer is linked in"; fi
    cd "$BATS_TEST_TMPDIR" || return
    cp -r "$PREPARED"/* .
}

# sweep KIND FIRST MOST PROGRAM...: the program with the N-th call of the kind failing, N from FIRST
# on, denser at the start, until it has fewer such calls, at most up to MOST. The function of that
# name, if there is one, looks at what it has left behind: after STATUS.
sweep() {
    local kind=$1 n=$2 most=$3 status bad=0 runs=0 path
    shift 3
    path=$STATEPIPE_BUILD/bin/$1
    "$path" "${@:2}" >expected 2>/dev/null </dev/null || { echo "$* fails by itself"; return 1; }
    if declare -F after >/dev/null; then after 0; fi
    while [ "$n" -le "$most" ]; do
        rm -f hit
        # The message through a pipe: a limit on the size of files would cut it too.
        INJECT=$kind:$n INJECT_LOG=$PWD/hit LD_PRELOAD=$INJECT_SO timeout 20 \
            "$path" "${@:2}" 2>&1 >got </dev/null | cat >message
        status=${PIPESTATUS[0]}
        runs=$((runs + 1))
        case $status in
        0) cmp -s got expected || { echo "$kind:$n $*: status 0 for other output"; bad=1; } ;;
        1 | 2 | 65 | 66 | 69 | 74) [ -s message ] || { echo "$kind:$n $*: $status, no word"; bad=1; } ;;
        *) echo "$kind:$n $*: status $status: $(tail -n 1 message)"; bad=1 ;;
        esac
        if declare -F after >/dev/null && ! after "$status"; then
            echo "$kind:$n $*: left over"
            bad=1
        fi
        [ "$kind" = size ] || [ -e hit ] || break
        n=$((n < 24 ? n + 1 : n + n / 4))
    done
    echo "# $kind $*: $runs runs"
    case $kind in # every program has these calls; write and map are also the C library's
    read | open | alloc)
        [ "$runs" -gt 1 ] || { echo "$*: no $kind was made to fail"; bad=1; }
        ;;
    esac
    return $bad
}

every_program() {
    local kind=$1 first=$2 most=$3 bad=0 format
    sweep "$kind" "$first" "$most" tokenize text || bad=1
    sweep "$kind" "$first" "$most" tokenize --jsonl jsonl || bad=1
    sweep "$kind" "$first" "$most" embed tokens || bad=1
    sweep "$kind" "$first" "$most" mamba-layer hidden || bad=1
    sweep "$kind" "$first" "$most" head done || bad=1
    sweep "$kind" "$first" "$most" head --head lm --sample -n 1 open || bad=1
    sweep "$kind" "$first" "$most" generate -n 2 -s 1 --load-state state --dump-state out -o jsonl a || bad=1
    sweep "$kind" "$first" "$most" fill --doc text -n 1 --beam 2 --max-tokens 2 -q 'a ?__ b' || bad=1
    sweep "$kind" "$first" "$most" fill -n 1 --beam 1 --max-tokens 1 -q 'a ?__' state || bad=1
    sweep "$kind" "$first" "$most" extract scores || bad=1
    for format in msgpack html table csv; do
        sweep "$kind" "$first" "$most" extract -o $format scores || bad=1
    done
    sweep "$kind" "$first" "$most" inspect hidden || bad=1
    sweep "$kind" "$first" "$most" state info state || bad=1
    sweep "$kind" "$first" "$most" mkresume -n 1 || bad=1
    sweep "$kind" "$first" "$most" detokenize tokens || bad=1
    sweep "$kind" "$first" "$most" cv -o tsv text || bad=1
    sweep "$kind" "$first" "$most" state verify state || bad=1
    sweep "$kind" "$first" "$most" state diff state state || bad=1
    return $bad
}

@test "every read that fails is an error" { every_program read 1 60; }

@test "every write that fails is an error" { every_program write 1 60; }

@test "every file that cannot be opened is an error" { every_program open 1 60; }

@test "every map that fails is an error" { every_program map 1 60; }

@test "every allocation that fails is an error, or does no harm" { every_program alloc 1 400; }

@test "a disk that is full after some bytes is an error" { every_program size 0 100; }

@test "states: written whole, or not at all" {
    for kind in write open sync alloc; do
        rm -f fresh
        sweep $kind 1 60 mamba-layer --dump-state fresh hidden
        [ ! -e fresh ] || cmp fresh state
    done
}

@test "what is made of states: written whole, or not at all, also to standard output" {
    local command kind
    for command in 'merge state' 'split -l 0 state' 'convert -t bf16 state' 'export state' 'mix state:1' \
        'plot --format svg state'; do
        pipe "state $command -o whole" 2>/dev/null
        sweep write 1 10 state $command
        for kind in read write open sync alloc size; do
            rm -f fresh
            sweep $kind 1 30 state $command -o fresh
            [ ! -e fresh ] || cmp fresh whole
        done
    done
    pipe "state export -o st state"
    for kind in open map alloc; do sweep $kind 1 30 state import st; done
    for kind in read open alloc; do sweep $kind 1 30 state near state state state; done
}

@test "models: written whole, or not at all" {
    after() { # a model that is there is the model, and success leaves one
        if [ -e out/config.json ]; then
            cmp out/model.safetensors model/model.safetensors || return
        else
            [ "$1" != 0 ] || return
        fi
        rm -rf out
    }
    for kind in read open map sync alloc size; do
        sweep $kind 1 "$([ $kind = size ] && echo 100000 || echo 200)" \
            train --init "$STATEPIPE_MODEL" --epochs 2 -j 1 -o out labelled
    done
}

@test "small reads and interrupted ones change nothing" {
    for line in 'tokenize text' 'embed tokens' 'mamba-layer hidden' 'head done' 'extract scores' 'detokenize tokens' \
        'inspect hidden' 'state verify state'; do
        for n in 1 7; do
            pipe "$line >expected; INJECT=short:$n LD_PRELOAD=$INJECT_SO $line >got"
            cmp got expected
        done
    done
}
