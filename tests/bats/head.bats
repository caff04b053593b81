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

@test "a document that goes on is predicted from where it was left open" {
    "$stream" tokens --open a a=60 >part1
    "$stream" tokens --open a --cont a --seed 7 a=30 >part2
    pipe "cat part1 part2 | embed | mamba-layer | head --head lm --score | '$stream' records >records"
    [ "$(grep -o "'n_scored': [0-9]*" records | tr '\n' ' ')" = "'n_scored': 59 'n_scored': 30 " ]
    # A state in front is what documents begin from, and not what they go on from.
    "$stream" tokens a=40 >first
    pipe "embed first | mamba-layer --dump-state s >/dev/null"
    pipe "cat part1 part2 | embed | mamba-layer >both"
    run -0 pipe "cmp <(head --head lm --score both | '$stream' rows logprob | tail -n 30) \
        <(cat s both | head --head lm --score | '$stream' rows logprob | tail -n 30)"
}

@test "padding is not counted" {
    cp -r "$STATEPIPE_MODEL" late
    sed -i 's/"delay": 0/"delay": 5/' late/config.json
    export STATEPIPE_MODEL=$PWD/late
    yes 'some words to read' | sed 30q >text
    pipe "tokenize --pad 0 text | embed | mamba-layer | head --head lm --score |
        '$stream' records >plain"
    pipe "tokenize text | embed | mamba-layer | head --head lm --score |
        '$stream' records >padded"
    grep -q "'pad': 5" padded
    [ "$(grep -o "'loglik.*" plain)" = "$(grep -o "'loglik.*" padded)" ]
}

@test "surprisal: -log2 of what --score gives, -1 for what nothing came before" {
    pipe "head --head lm --score --surprisal hidden >both"
    "$stream" rows logprob <both >logprob
    "$stream" rows surprisal <both >surprisal
    python3 - <<'END'
import math, struct
n = 0
for a, b in zip(open("logprob"), open("surprisal")):
    if a.startswith("document"):
        first = True
        continue
    x, y = (struct.unpack("<f", bytes.fromhex(v.strip()))[0] for v in (a, b))
    want = -1 if first else -x / math.log(2)
    assert abs(y - want) <= 1e-6 * max(1, abs(want)), (x, y)
    n, first = n + 1, False
assert n == 306, n
END
    run -0 pipe "head --head lm --surprisal hidden | '$stream' records"
    [[ "${lines[1]}" == *"'gives': 'surprisal'"* ]]
    [[ "$output" != *logprob* && "$output" == *"'perplexity'"* ]]
}

@test "choices: what text and choice have together, less what the text has" {
    cat >items.jsonl <<'END'
{"id": "a", "text": "The capital of France is ", "choices": ["Paris", "Rome", "Berlin and more"]}
{"id": "b", "text": "na\u00efve \u3000", "choices": ["  x", ""]}
{"id": "c", "text": "e", "choices": ["\u00e9"]}
END
    pipe "tokenize --jsonl items.jsonl | embed | mamba-layer | head --head lm --choices >choices"
    python3 - <<'END'
import json
with open("whole.jsonl", "w") as whole:
    for line in open("items.jsonl"):
        d = json.loads(line)
        for text in [d["text"].rstrip()] + [d["text"] + c for c in d["choices"]]:
            whole.write(json.dumps({"text": text}) + "\n")
END
    pipe "tokenize --jsonl whole.jsonl | embed | mamba-layer | head --head lm --score --top 1 >whole"
    python3 - "$stream" <<'END'
import io, runpy, struct, sys
sys.argv = [sys.argv[1], "records"]
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
records = runpy.run_path(sys.argv[0])["records"]

def documents(name):
    for kind, fields, tensors in records(open(name, "rb").read()):
        if kind == "DOC":
            doc = {"fields": fields, "ids": [], "logprob": [], "top_id": []}
        if kind == "CHUNK":
            for key, form in ("ids", "I"), ("logprob", "f"), ("top_id", "I"):
                data = tensors[key][2] if key in tensors else b""
                doc[key] += struct.unpack("<%d%s" % (len(data) // 4, form), data)
        if kind == "DOCEND":
            yield doc, fields

whole = documents("whole")
n = 0
for (doc, end), (both, _) in zip(documents("choices"), whole):
    if "choice" not in doc["fields"]:
        text = both
        assert doc["ids"] == text["ids"] and not doc["logprob"] and "loglik" not in end
        continue
    at = len(text["ids"])
    want, top = both["logprob"][at:], both["top_id"][at - 1:-1]
    assert doc["ids"] == both["ids"][at:], (doc, both)
    assert len(want) == len(doc["logprob"]) == end["n_scored"]
    assert abs(end["loglik"] - sum(want)) < 1e-4
    assert end["greedy"] == (doc["ids"] == top)
    if want:
        assert abs(end["per_token"] - end["loglik"] / len(want)) < 1e-12
        assert abs(end["per_byte"] - end["loglik"] / doc["fields"]["bytes"]) < 1e-12
    assert bool(doc["fields"].get("fork")) == (n not in (2, 4, 5))
    n += 1
assert n == 6 and next(whole, None) is None
END
}

@test "choices: an empty one, and one with nothing before it, are errors of their own" {
    cat >items <<'END'
{"id": "a", "text": "Say", "choices": [" yes", ""]}
{"id": "b", "text": "", "choices": ["x", "yes"]}
{"id": "c", "text": "Say", "choices": [" yes"]}
END
    run -1 --separate-stderr pipe "tokenize --bare --jsonl items | embed | mamba-layer | head --head lm --choices | extract -o jsonl"
    [ "${#lines[@]}" = 1 ] && [[ ${lines[0]} == '{"id": "c"'* || ${lines[0]} == '{"id":"c"'* ]]
    [[ $stderr == *"a choice without text"* ]]
    before="nothing stands before the choice that its first token could be predicted from: give a text or a state (for an empty text \`tokenize\`, without --bare, puts the bos_token_id or eos_token_id of config.json where there is one)"
    [ "$(grep -c "head: document 'b': $before" <<<"$stderr")" = 2 ]
}

@test "choices: many texts, long ones, in any packing, over two processes; after a state" {
    python3 - <<'END'
import json, random
random.seed(3)
word = lambda: "".join(random.choice("abcdefg") for _ in range(random.randint(1, 9)))
with open("many.jsonl", "w") as f:
    for i in range(80):
        text = " ".join(word() for _ in range(random.choice([1, 5, 40, 200])))
        choices = [" " + " ".join(word() for _ in range(random.choice([1, 2, 90])))
                   for _ in range(random.randint(1, 4))]
        f.write(json.dumps({"id": i % 7, "text": text, "choices": choices}) + "\n")
END
    pipe "tokenize --jsonl many.jsonl | embed >many"
    pipe "mamba-layer many | head --head lm --choices >together"
    pipe "mamba-layer -l 0-0 many | mamba-layer -l 1-1 | head --head lm --choices >split"
    cmp together split
    pipe "split -l 1 --filter='tokenize --jsonl' many.jsonl >one"
    pipe "embed one | mamba-layer | head --head lm --choices >alone"
    run -0 pipe "cmp <('$stream' rows logprob <together) <('$stream' rows logprob <alone)"
    # A state before an empty text is what the choice is predicted from.
    printf 'read before' >text
    pipe "tokenize text | embed | mamba-layer --dump-state s >/dev/null"
    echo '{"text": "", "choices": [" and after"]}' >empty.jsonl
    echo '{"text": "read before", "choices": [" and after"]}' >whole.jsonl
    pipe "tokenize --bare --jsonl empty.jsonl | embed | mamba-layer --load-state s |
        head --head lm --choices >empty"
    pipe "tokenize --jsonl whole.jsonl | embed | mamba-layer | head --head lm --choices >whole"
    run -0 pipe "cmp <('$stream' rows logprob <empty) <('$stream' rows logprob <whole)"
}

@test "choices: log-likelihoods and greedy flags are those of transformers" {
    run -0 pipe "'$TREE/tests/eval/lambada.py' '$TREE/tests/golden/choices' '$TREE/tests/golden/choices/items.jsonl'"
    [[ "${lines[1]}" == "26 choices against the reference: "*"; 0 beyond 0.0001 and 1e-05; greedy 4, 0 flags differ" ]]
    # The last word of a text; a reference that is off is noticed.
    echo '{"text": "The quick brown fox jumps over the lazy"}' >lambada.jsonl
    run -0 pipe "'$TREE/tests/eval/lambada.py' '$TREE/tests/golden/choices' lambada.jsonl"
    [[ "$output" == "1 items: accuracy 0.0000 (0 right), perplexity "* ]]
    sed 's/-71.39/-71.38/' "$TREE/tests/golden/choices/items.jsonl" >off.jsonl
    run -1 pipe "'$TREE/tests/eval/lambada.py' '$TREE/tests/golden/choices' off.jsonl"
    sed '1s/false/true/' "$TREE/tests/golden/choices/items.jsonl" >off.jsonl
    run -1 pipe "'$TREE/tests/eval/lambada.py' '$TREE/tests/golden/choices' off.jsonl"
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
    [[ "$stderr" == *"--top needs: choose --head lm" ]]
    for option in score surprisal choices; do
        run -2 --separate-stderr pipe "head --$option hidden >/dev/null"
        [[ "$stderr" == *"no language model, which --$option needs: choose --head lm" ]]
    done
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

@test "--sample: a token for each document that was left open, as a stream of tokens" {
    printf 'some text' >text
    pipe "tokenize --open text | embed | mamba-layer >open"
    run -0 pipe "head --head lm --sample open | '$stream' records"
    [[ "${lines[0]}" == *"'content': 'tokens', 'program': 'head'"* ]]
    [[ "${lines[1]}" == "DOC {'id': 'text', 'doc': 0, 'cont': True} " ]]
    [[ "${lines[2]}" == "CHUNK {'doc': 0, 'pos': 9, 'pass': 0, 'last': False} {'ids': 'u32[1]'}" ]]
    [[ "${lines[3]}" == "DOCEND {'doc': 0, 'status': 'open', 'n_tok': 1} " ]]
    [[ "${lines[4]}" == "END {'docs': 1, 'errors': 0, 'open': 1} " && "${#lines[@]}" -eq 5 ]]
    run -0 pipe "head --head lm --sample -n 1 open | '$stream' records"
    [[ "${lines[3]}" == *"'status': 'ok'"* && "${lines[4]}" == *"'open': 0}"* ]]
    # What comes behind the last token is read, but not written; a state in front is not passed on.
    pipe "tokenize --open text | embed | mamba-layer --dump-state s >/dev/null"
    pipe "cat open open >more; cat s open >behind"
    run -0 pipe "cmp <(head --head lm --sample -n 1 more) <(head --head lm --sample -n 1 open)"
    run -0 pipe "cmp <(head --head lm --sample -n 1 behind) <(head --head lm --sample -n 1 open)"
}

@test "--sample: what it is not for, and damaged streams" {
    run -2 --separate-stderr pipe "head --sample hidden >/dev/null"
    [[ "$stderr" == "head: head 'tag' is no language model, which --sample needs: choose --head lm" ]]
    run -2 --separate-stderr pipe "head --head lm --sample --score hidden >/dev/null"
    run -1 --separate-stderr pipe "head --head lm --sample hidden | '$stream' records"
    [[ "${stderr_lines[0]}" == *"document 'd0': it is not left open"*"--open" ]]
    printf 'some text' >text
    pipe "tokenize --open text | embed | mamba-layer >open"
    run -0 pipe "'$TREE/tests/bats/damage.py' cuts open 40 head --head lm --sample"
    [ "$output" = "65 40" ]
    run -0 pipe "'$TREE/tests/bats/damage.py' flips open 60 head --head lm --sample"
    run -1 grep -v '^\(0\|1\|65\|69\) [0-9]*$' <<<"$output"
}
