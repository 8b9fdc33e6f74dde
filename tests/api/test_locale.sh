#!/bin/sh
# Numbers are parsed and printed the same whatever the locale of the host: a program that writes a decimal
# comma, and the command. Usage: SCRIPT SOURCE LOCALE_HOST [GRAFT]
# shellcheck disable=SC2317 # functions are called through check
set -u
# shellcheck source=tests/api/lib.sh
. "$1/tests/api/lib.sh"
tiny=$1/models/tiny
host=$2
graft=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -f "$tiny/model.safetensors" ]; then
    echo "skipped: no $tiny"
    exit 77
fi
# The system's own locale, or one made here of the sources that package locales brings.
if ! locale -a 2>/dev/null | grep -qix 'de_DE\.utf-\{0,1\}8'; then
    if ! localedef -i de_DE -f UTF-8 "$work/de_DE.UTF-8" >"$work/log" 2>&1; then
        echo "skipped: neither the locale de_DE.UTF-8 nor what it is made of (package locales)"
        exit 77
    fi
    export LOCPATH="$work"
fi

# models/tiny with floats wherever a configuration and a template may have them.
model=$work/model
mkdir "$model" "$work/c" "$work/de"
cp "$tiny/model.safetensors" "$tiny/tokenizer.json" "$model"
sed 's/"rope_theta": *[0-9.e]*/"rope_theta": 12345.6789/' "$tiny/config.json" >"$model/config.json"
echo '{"do_sample": true, "temperature": 0.75, "top_p": 0.875}' >"$model/generation_config.json"
cat >"$model/tokenizer_config.json" <<'TEMPLATE'
{"chat_template": "{{ half }} {{ large }} {{ small }} {{ whole }} {{ 1.25 + half }} {{ '2.5'|float }} {{ '2,5'|float(-1.5) }} {{ large|tojson }} {{ [half, small]|tojson }} {{ '%.3f|%e|%g' % (half, small, large) }} {{ '{:.2f} {:,}'.format(half, 1234567) }} {{ half|round(1) }} {{ large|string }} {{ large|int }}"}
TEMPLATE

same_host() {
    unset LC_ALL
    "$host" C "$model" "$work/c" | sed "s|$work/c||" >"$work/c.out" &&
        "$host" de_DE.UTF-8 "$model" "$work/de" | sed "s|$work/de||" >"$work/de.out" &&
        diff "$work/c.out" "$work/de.out"
}

expected() { grep -q "^$1" "$work/de.out" || { head -n 1 "$work/de.out" && return 1; }; }
files() { cmp "$work/c/x.gguf" "$work/de/x.gguf" && diff -r "$work/c/hf" "$work/de/hf"; }
theta() { grep -q '"rope_theta": *12345\.6789[,}]*' "$work/de/hf/config.json"; }

command_says() {
    LC_ALL=C "$graft" "$@" >"$work/c.said" && LC_ALL=de_DE.UTF-8 "$graft" "$@" >"$work/de.said" &&
        [ -s "$work/c.said" ] && cmp "$work/c.said" "$work/de.said"
}
refuses_comma() { ! LC_ALL=de_DE.UTF-8 "$graft" run -m "$model" --temp 0,5 -p x; }

check 'a host with a decimal comma gets the same bytes' same_host
check '... from its templates' expected \
    '0.5 12345678.9 1.5e-07 2.0 1.75 2.5 -1.5 12345678.9 \[0.5, 1.5e-07\] 0.500|1.500000e-07|1.23457e+07 0.50 1,234,567 0.5 12345678.9 12345678$'
check '... from sampling defaults' grep -q '^temperature 750/1000, top_p 875/1000$' "$work/de.out"
check '... from settings of training' grep -q '"learning_rate": 0.00015,' "$work/de.out"
check '... in the files it writes' files
check '... whose configuration has a decimal point' theta
if [ -n "$graft" ]; then
    check 'graft run says the same' command_says run --raw -m "$model" -s 1 --temp 0.5 --min-p 0.05 -n 20 -p Hello
    check 'graft logits says the same' command_says logits -m "$model" --tokens 1,2,3 --top 3
    check 'graft logits --json says the same' command_says logits -m "$model" --tokens 1,2,3 --json
    check 'graft perplexity says the same' command_says perplexity -m "$model" -p "Once upon a time."
    check 'graft inspect says the same' command_says inspect "$model"
    check 'a decimal comma is no number' refuses_comma
fi
exit "$failures"
