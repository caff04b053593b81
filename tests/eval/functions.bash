# What report, experiments, slot_experiments and share/model-src/train share: sourced, with the
# programs in PATH.
exec 3>&2 # standard error, also where a command's is kept

# usage N LINE ARG...: LINE, the way to call it, where there are fewer than N arguments
usage() {
    local least=$1 line=$2
    shift 2
    (($# >= least)) && return
    echo "usage: $line" >&2
    exit 2
}

# programs_in DIR: its programs go before others of their names
programs_in() {
    [ -x "$1/statepipe" ] || { echo "${0##*/}: there are no programs in $1: build/bin has them" >&2 && exit 66; }
    PATH=$(cd "$1" && pwd):$PATH
}

# failed LOG: the end of a run's log, which says why it did not train; exits
failed() {
    echo "${0##*/}: the training failed; the end of $1:" >&3
    tail -n 3 "$1" >&3
    exit 1
}

# find_records MODEL GOLD FOUND OPTION...: what the tagger finds in the CVs of GOLD; options of
# extract
find_records() {
    local model=$1 gold=$2 found=$3
    shift 3
    tokenize -m "$model" --jsonl <"$gold" | embed -m "$model" | mamba-layer -j 1 -m "$model" |
        head -m "$model" | extract -o jsonl "$@" >"$found"
}

# forward_only <CONFIG: the same without reversed layers, however it is laid out
forward_only() {
    python3 -c 'import json, sys
config = json.load(sys.stdin)
own = config["statepipe"]
own["format"] = 1
for key in ("reverse", "reverse_layers"):
    own.pop(key, None)
print(json.dumps(config, indent=1))'
}

# delay_of CONFIG: how many tokens late its tags are read
delay_of() {
    sed -n 's/.*"delay": *\([0-9]*\).*/\1/p' "$1"
}

# steps_for SECONDS FILE: training steps that fit, when 60 of them took the seconds that FILE says
steps_for() {
    awk -v s="$1" '{ printf "%d", s / ($1 / 60) }' "$2"
}
