# Shared by the suites. `head` and `extract` of this project stay off the suites' own PATH: `pipe`
# runs a shell line with them in front, with pipefail, as `statepipe sh` does.
bats_require_minimum_version 1.5.0
: "${STATEPIPE_BUILD:=$PWD/build}"
export STATEPIPE_BUILD
TREE=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
export TREE

pipe() { PATH=$STATEPIPE_BUILD/bin:$PATH bash -o pipefail -c "$1"; }

# A sanitizer takes memory of its own: limits on memory say nothing then.
needs_plain_memory() { [ "${SAN:-0}" = 0 ] || skip "a sanitizer takes memory of its own"; }

# A PDF of one page that says $1.
make_pdf() {
    local text="BT /F1 12 Tf 72 720 Td ($1) Tj ET"
    cat <<END
%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj
3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>> endobj
4 0 obj <</Length ${#text}>> stream
$text
endstream endobj
5 0 obj <</Type/Font/Subtype/Type1/BaseFont/Helvetica>> endobj
trailer <</Root 1 0 R>>
%%EOF
END
}
