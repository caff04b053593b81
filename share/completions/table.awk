# A program's --help-all as a table: program, letter, option, argument, help, separated by tabs. The
# first line is about the program itself and has no option.
function flush() {
    if (name != "") print program, letter, name, arg, help
    name = ""
}
BEGIN { OFS = "\t" }
NR == 2 { sub(/\.$/, ""); print program, "", "", "", $0 }
NR > 3 && /^$/ { exit }
NR > 3 && /^  (-.|    --)/ {
    flush()
    letter = substr($0, 3, 1) == "-" ? substr($0, 4, 1) : ""
    left = substr($0, 7)
    help = ""
    if (match(left, /  +/)) {
        help = substr(left, RSTART + RLENGTH)
        left = substr(left, 1, RSTART - 1)
    }
    arg = split(left, part, " ") > 1 ? part[2] : ""
    name = substr(part[1], 3)
    next
}
NR > 3 { sub(/^ +/, ""); help = help (help == "" ? "" : " ") $0 } # help goes on in the next line
END { flush() }
