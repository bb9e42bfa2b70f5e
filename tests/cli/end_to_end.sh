#!/usr/bin/env bash
# The program as a user meets it: answers, errors with their exit codes, pipes, a full disk, Ctrl-C.
# usage: end_to_end.sh PROGRAM
set -uo pipefail

program=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tiny=$root/models/tiny-moe
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset HF_HOME HF_HUB_CACHE MOEOPT_MODEL
export HF_HUB_CACHE=$scratch/hub XDG_CONFIG_HOME=$scratch/config NO_COLOR=1
n_failed=0

# expect NAME EXIT_CODE REGEX COMMAND...: runs the command; its exit code and its output (both
# streams) must match.
expect() {
  local name=$1 code=$2 regex=$3 got output
  shift 3
  output=$("$@" 2>&1 </dev/null)
  got=$?
  if [ "$got" -ne "$code" ] || ! grep -Eq -- "$regex" <<<"$output"; then
    printf 'FAIL %s: exit %s (wanted %s), wanted /%s/ in:\n%s\n' "$name" "$got" "$code" "$regex" "$output"
    n_failed=$((n_failed + 1))
  fi
}

question="$(python3 -c 'import json,sys; print(json.loads(open(sys.argv[1]).readline())["question"])' "$tiny/eval/answers.jsonl")"

expect "help" 0 "run .*Let a model answer" "$program" --help
expect "version" 0 "^moeopt [0-9]+\.[0-9]+\.[0-9]+ \(" "$program" --version
expect "no verb" 2 "A subcommand is required" "$program"
expect "--verbose behind the verb" 0 "." "$program" inspect "$tiny" --verbose
expect "unknown flag" 2 "not expected" "$program" run "$tiny" --no-such-flag
expect "chat answers" 0 "####" "$program" run "$tiny" --chat "$question"
expect "the last line has the figures" 0 "prompt tokens, [0-9]+ generated \(stop\)" \
  "$program" run "$tiny" --chat "$question"
expect "report" 0 "applied +chunked-prefill" "$program" run "$tiny" --chat "$question" --report
expect "prefix cache" 0 "applied +prefix-cache" "$program" run "$tiny" --chat "$question" --report
expect "prefix cache off" 0 "off +prefix-cache" "$program" run "$tiny" --chat "$question" --report --disable-prefix-cache
expect "chunks off" 0 "off +chunked-prefill" "$program" run "$tiny" --chat "$question" --report --disable-chunked-prefill
expect "report shows experts" 0 "layer +0 +.* used, busiest #" "$program" run "$tiny" --chat "$question" --report
expect "dry run reads no weights" 0 "KV" "$program" run "$tiny" --dry-run
expect "both prompts" 2 "excludes" "$program" run "$tiny" --chat a --prompt b
expect "absent model" 5 "not found|no such|not in" "$program" run "$scratch/nothing"
expect "absent hub model names the command" 5 "hf download org/model" "$program" run org/model
expect "required and not in this version" 4 "flashdmoe" "$program" run "$tiny" --chat x --require-flashdmoe
expect "misspelt profile" 2 "balanced" "$program" plan "$tiny" --profile balancd
expect "too long a prompt" 2 "context" "$program" run "$tiny" --max-model-len 16 --prompt "$question $question"
expect "bad temperature" 2 "temperature" "$program" run "$tiny" --prompt x --temperature -1
expect "inspect" 0 "Qwen3MoeForCausalLM" "$program" inspect "$tiny"
expect "inspect a known model" 0 "30\.5 B" "$program" inspect Qwen3-30B-A3B
expect "a misspelt known model" 5 "did you mean Qwen3-30B-A3B" "$program" inspect Qwen3-30B-A3
expect "plan a known model" 0 "estimated" "$program" plan Qwen3-30B-A3B --hardware h200x1
expect "plan that cannot fit" 3 "fit" "$program" plan DeepSeek-V3 --hardware h100x1
expect "doctor" 0 "can serve" "$program" doctor
expect "eval without a task" 2 "nothing to evaluate" "$program" eval "$tiny"
expect "greedy ids" 0 '"ids":\[[0-9,]+\]' "$program" eval "$tiny" --ids 1,2,3 --greedy 4 --json
expect "id outside the vocabulary" 2 "outside the vocabulary" "$program" eval "$tiny" --ids 99999999 --greedy 4
expect "tokenize" 0 '"ids":\[[0-9,]+\]' "$program" tokenize "$tiny" --text "Hello" --json
expect "full disk" 8 "cannot write" bash -c "'$program' run '$tiny' --chat x >/dev/full"
expect "closed pipe" 0 "." bash -c "set +o pipefail; '$program' run '$tiny' --chat x 2>/dev/null | head -c 1"

# Routing logs: what goes wrong says so before or after the answer, never in its place.
log=$scratch/log
expect "routing log on a full disk" 8 "/dev/full: writing failed" "$program" run "$tiny" --chat x --routing-log /dev/full
expect "routing log nowhere" 8 "no-such-folder" "$program" run "$tiny" --chat x --routing-log /no-such-folder/log
expect "routing layers of no model" 2 "its MoE layers are 0,1,2,3" "$program" run "$tiny" --chat x --routing-log "$log" --routing-layers 9
expect "a routing log" 0 "tokens of 1 requests" "$program" run "$tiny" --chat x --max-tokens 8 --routing-log "$log"
expect "it is whole" 0 "no complaints" "$program" routing check "$log"
expect "its figures" 0 "4 layers logged" "$program" routing stats "$log"
expect "converted" 0 "records in" "$program" routing convert "$log" "$log.moer"
expect "converted to a full disk" 8 "cannot be written" "$program" routing convert "$log" /dev/full
expect "placed" 0 "balanced" "$program" placement --routing "$log.moer" --gpus 4 --out "$scratch/plan.json"
expect "placed on a full disk" 8 "cannot write" bash -c "ulimit -f 1; '$program' placement --routing '$log' --gpus 4 --out '$scratch/big.json'"
expect "simulated" 0 "are a simulation" "$program" placement --routing "$log" --gpus 2 --simulate 256,128 --batch 4
expect "no routing log" 5 "no-such-log" "$program" routing stats "$scratch/no-such-log"
: >"$scratch/empty"
expect "an empty routing log" 6 "empty" "$program" routing stats "$scratch/empty"
expect "a folder as routing log" 6 "not a regular file" "$program" routing stats "$scratch"
expect "profile without prompts" 5 "no-such-prompts" "$program" profile "$tiny" --prompts "$scratch/no-such-prompts" --out "$scratch/profile"
expect "profile of an empty file" 6 "no prompts" "$program" profile "$tiny" --prompts "$scratch/empty" --out "$scratch/profile"
printf 'One\nTwo\n' >"$scratch/prompts"
expect "profile without the package" 0 "no pictures and no report.html" env MOEOPT_ROUTING=/no-such-program "$program" \
  profile "$tiny" --prompts "$scratch/prompts" --out "$scratch/profile" --pairs 1 --max-tokens 4
expect "a profile's timing" 0 '"share"' cat "$scratch/profile/timing.json"
expect "a profile into a file" 8 "empty" "$program" profile "$tiny" --prompts "$scratch/prompts" --out "$scratch/empty"

# The same seed gives the same text, and another one another.
sample() { "$program" run "$tiny" --prompt "The" --temperature 1.5 --max-tokens 40 --seed "$1" --ignore-eos 2>/dev/null </dev/null; }
[ "$(sample 1)" = "$(sample 1)" ] || { echo "FAIL seed 1 twice differs"; n_failed=$((n_failed + 1)); }
[ "$(sample 1)" != "$(sample 2)" ] || { echo "FAIL seeds 1 and 2 agree"; n_failed=$((n_failed + 1)); }

# A prompt on standard input; a round trip through ids.
piped=$(printf 'The' | "$program" run "$tiny" --max-tokens 4 --json 2>/dev/null)
grep -q '"prompt_tokens":1' <<<"$piped" || { echo "FAIL prompt from standard input: $piped"; n_failed=$((n_failed + 1)); }
ids=$(printf 'café 12 €\n' | "$program" tokenize "$tiny" - | tr ' ' ',')
[ "$("$program" tokenize "$tiny" --decode "$ids")" = 'café 12 €' ] || { echo "FAIL round trip"; n_failed=$((n_failed + 1)); }

# Ctrl-C in the middle: the text so far, the figures, exit code 130.
(trap - INT; exec "$program" run "$tiny" --prompt "The" --ignore-eos --max-tokens 100000 \
  --max-model-len 1024 --backend reference >"$scratch/out" 2>"$scratch/err" </dev/null) &
pid=$!
for _ in $(seq 100); do [ -s "$scratch/out" ] && break; sleep 0.1; done
kill -INT $pid
wait $pid
code=$?
if [ $code -ne 130 ] || [ ! -s "$scratch/out" ] || ! grep -q "generated (cancelled)" "$scratch/err"; then
  echo "FAIL Ctrl-C: exit $code, $(wc -c <"$scratch/out") bytes of text, $(cat "$scratch/err")"
  n_failed=$((n_failed + 1))
fi

[ $n_failed -eq 0 ] && echo "end to end: everything as expected"
exit $((n_failed > 0))
