# What experiments, slot_experiments and share/model-src/train share: sourced, with the programs in
# PATH.

# find_records MODEL GOLD FOUND: what the tagger finds in the CVs of GOLD
find_records() {
    tokenize -m "$1" --jsonl <"$2" | embed -m "$1" | mamba-layer -j 1 -m "$1" | head -m "$1" |
        extract -o jsonl >"$3"
}

# steps_for SECONDS FILE: training steps that fit, when 60 of them took the seconds that FILE says
steps_for() {
    awk -v s="$1" '{ printf "%d", s / ($1 / 60) }' "$2"
}
