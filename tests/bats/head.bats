load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR"
    "$stream" tokens 300 5 1 0 >tokens
    pipe "embed tokens | mamba-layer >hidden"
}

@test "tags: HEAD with labels and transitions, scores for every token, hidden gone" {
    run -0 pipe "head hidden | '$stream' records"
    [[ "${lines[0]}" == *"'content': 'scores', 'program': 'head'"* ]]
    [[ "${lines[1]}" == "HEAD {'name': 'tag', 'type': 'tag', 'delay': 0, 'labels': ['O', 'N-institution', "*"]} {'transitions': 'f32[15, 13]'}" ]]
    [[ "${lines[3]}" == *"{'ids': 'u32[256]', 'span': 'u64[256, 2]', 'scores': 'f32[256, 13]'}" ]]
    [[ "${lines[-1]}" == "END {'docs': 4"* ]]
}

@test "language model: all scores, --top, --score agree" {
    pipe "head --head lm hidden >all; head --head lm --top 3 --score hidden >some"
    python3 - "$stream" <<'END'
import math, runpy, struct, sys
sys.argv = [sys.argv[1], "records"]
import io
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
m = runpy.run_path(sys.argv[0])
chunks = lambda f: [t for k, _, t in m["records"](open(f, "rb").read()) if k == "CHUNK"]
ends = [f for k, f, _ in m["records"](open("some", "rb").read()) if k == "DOCEND"]
rows = lambda t, c, n: [struct.unpack("<%d%s" % (n, c), t[2][i:i + 4 * n])
                        for i in range(0, len(t[2]), 4 * n)]
documents = [[0, 1], [2], [3], [4]]
a, s = chunks("all"), chunks("some")
for d, (parts, end) in enumerate(zip(documents, ends)):
    scores = [r for p in parts for r in rows(a[p]["scores"], "f", 264)]
    ids = [r[0] for p in parts for r in rows(a[p]["ids"], "I", 1)]
    got = [r[0] for p in parts for r in rows(s[p]["logprob"], "f", 1)] if ids else []
    top = [r for p in parts for r in rows(s[p]["top_id"], "I", 3)]
    topp = [r for p in parts for r in rows(s[p]["top_logprob"], "f", 3)]
    logp = []
    for r in scores:
        z = max(r) + math.log(sum(math.exp(v - max(r)) for v in r))
        logp.append([v - z for v in r])
    total = 0
    for t, i in enumerate(ids):
        want = logp[t - 1][i] if t else 0
        assert abs(got[t] - want) < 1e-4, (d, t, got[t], want)
        total += want
        best = sorted(range(264), key=lambda v: (-scores[t][v], v))[:3]
        assert list(top[t]) == best
        assert all(abs(topp[t][k] - logp[t][best[k]]) < 1e-4 for k in range(3))
    assert end["n_scored"] == max(len(ids) - 1, 0) and abs(end["loglik"] - total) < 1e-2
    if len(ids) > 1:
        assert abs(end["perplexity"] / math.exp(-total / (len(ids) - 1)) - 1) < 1e-4
END
}

@test "a state in front gives the first token its probability" {
    "$stream" tokens a=60 >both
    "$stream" tokens a=40 >first
    python3 - "$stream" <<'END'
import io, runpy, struct, sys
sys.argv = [sys.argv[1], "records"]
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
m = runpy.run_path(sys.argv[0])
ids = [t for k, _, t in m["records"](open("both", "rb").read()) if k == "CHUNK"][0]["ids"][2]
assert ids[:160] == [t for k, _, t in m["records"](open("first", "rb").read()) if k == "CHUNK"][0]["ids"][2]
part = ids[160:]
out = m["record"]("statepipe", {"version": [1, 0], "content": "tokens", "program": "x"})
out += m["record"]("DOC", {"doc": 0, "id": "a"})
out += m["record"]("CHUNK", {"doc": 0, "pos": 0, "pass": 0, "last": True}, [("ids", "u32", [20], part)])
out += m["record"]("DOCEND", {"doc": 0, "status": "ok", "n_tok": 20})
out += m["record"]("END", {"docs": 1, "errors": 0, "open": 0})
open("second", "wb").write(out)
END
    pipe "embed first | mamba-layer --dump-state s >/dev/null"
    pipe "embed second >second.hidden"
    pipe "cat s second.hidden | mamba-layer | head --head lm --score >given"
    pipe "embed both | mamba-layer | head --head lm --score >whole"
    # --load-state does the same, split over processes too; a state in the stream goes first.
    pipe "mamba-layer --load-state s second.hidden | head --head lm --score >loaded"
    run -0 pipe "cmp <('$stream' rows logprob <given) <('$stream' rows logprob <loaded)"
    pipe "mamba-layer -l 0-0 --load-state s second.hidden | mamba-layer -l 1-1 --load-state s |
        head --head lm --score >split"
    run -0 pipe "cmp <('$stream' rows logprob <given) <('$stream' rows logprob <split)"
    pipe "embed both | mamba-layer --dump-state other >/dev/null"
    pipe "cat s second.hidden | mamba-layer --load-state other | head --head lm --score >first"
    run -0 pipe "cmp <('$stream' rows logprob <given) <('$stream' rows logprob <first)"
    run -0 pipe "'$stream' records <given | grep -c \"'n_scored': 20\""
    run -0 pipe "cmp <('$stream' rows logprob <given | tail -n 20) <('$stream' rows logprob <whole | tail -n 20)"
}

@test "only the last of several readings is scored" {
    cp -r "$STATEPIPE_MODEL" twice
    sed -i 's/"passes": 1/"passes": 2/' twice/config.json
    "$stream" tokens --passes 2 10 >again
    run -0 pipe "embed -m twice again | mamba-layer -m twice | head -m twice | '$stream' records"
    [[ "${lines[3]}" == *"'pass': 0"*"{'ids': 'u32[10]', 'span': 'u64[10, 2]'}" ]]
    [[ "${lines[4]}" == *"'pass': 1"*"'scores': 'f32[10, 13]'}" ]]
}

@test "usage: heads and options that the model does not have" {
    run -2 --separate-stderr pipe "head --head nose hidden >/dev/null"
    [[ "$stderr" == "head: $STATEPIPE_MODEL has no head 'nose'; it has: lm, tag" ]]
    run -2 --separate-stderr pipe "head --top 3 hidden >/dev/null"
    [[ "$stderr" == *"--top and --score need: choose --head lm" ]]
    run -2 --separate-stderr pipe "head --head lm --top 500 hidden >/dev/null"
    run -2 --separate-stderr pipe "head --head lm --top 0 hidden >/dev/null"
}

@test "--dtype bf16 is near; threads show in no bit; -v says what runs" {
    pipe "head --head lm hidden >f32; head --head lm --dtype bf16 hidden >bf16"
    run -1 cmp -s f32 bf16
    run -0 "$stream" close scores bf16 f32 0.02
    run -0 pipe "cmp <(head -j 1 hidden) <(head -j 3 hidden)"
    run -0 --separate-stderr pipe "head -v hidden >/dev/null"
    [[ "$stderr" == "head: $STATEPIPE_MODEL, head 'tag', products in f32; cpu: kernels "* ]]
    run -0 --separate-stderr pipe "cat hidden hidden | head -v >/dev/null"
    [ "${#stderr_lines[@]}" -eq 1 ]
}

@test "layers that are missing, no input, no stream, another content or model" {
    pipe "embed tokens >raw"
    run -65 --separate-stderr pipe "head raw >/dev/null"
    [[ "$stderr" == *"layer 0 of 2 is still to run: is a mamba-layer missing?"* ]]
    run -65 --separate-stderr pipe "head </dev/null"
    run -65 --separate-stderr pipe "head <'$BATS_TEST_FILENAME'"
    run -65 --separate-stderr pipe "head tokens >/dev/null"
    run -65 --separate-stderr pipe "head -m '$TREE/tests/golden/mamba-odd' hidden >/dev/null"
    run -66 --separate-stderr pipe "head nowhere >/dev/null"
}

@test "a full disk is noticed; a closed pipe ends it" {
    run -74 --separate-stderr pipe "head hidden >/dev/full"
    "$stream" tokens 20000 >long
    run -141 pipe "embed long | mamba-layer | head | true"
}

@test "no documents: HEAD all the same" {
    "$stream" tokens >none
    run -0 pipe "embed none | mamba-layer | head | '$stream' records"
    [[ "${lines[1]}" == "HEAD "* && "${lines[2]}" == "END "* ]]
}
