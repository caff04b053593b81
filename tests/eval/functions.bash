# What experiments, slot_experiments and share/model-src/train share: sourced, with the programs in
# PATH.

# find_records MODEL GOLD FOUND OPTION...: what the tagger finds in the CVs of GOLD; options of
# extract
find_records() {
    local model=$1 gold=$2 found=$3
    shift 3
    tokenize -m "$model" --jsonl <"$gold" | embed -m "$model" | mamba-layer -j 1 -m "$model" |
        head -m "$model" | extract -o jsonl "$@" >"$found"
}

# delay_of CONFIG: how many tokens late its tags are read
delay_of() {
    sed -n 's/.*"delay": *\([0-9]*\).*/\1/p' "$1"
}

# steps_for SECONDS FILE: training steps that fit, when 60 of them took the seconds that FILE says
steps_for() {
    awk -v s="$1" '{ printf "%d", s / ($1 / 60) }' "$2"
}
