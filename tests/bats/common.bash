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
