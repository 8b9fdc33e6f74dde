#!/bin/sh
# tools/check_layers passes a proper tree and finds each way to break the order. Usage: SCRIPT ROOT
set -u
tool=$1/tools/check_layers
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

# put FILE LINE: a file of one line.
put() {
    mkdir -p "$tree/$(dirname "$1")"
    printf '%s\n' "$2" >"$tree/$1"
}

fresh() {
    rm -rf "$tree"
    put include/graft/types.h '#include <stdint.h>'
    put src/base/base.h '#include <graft/types.h>'
    put src/base/base_internal.h '#include "base.h"'
    put src/kernels/kernels.h '#include "base/base.h"'
    put src/kernels/kernels_internal.h '#include "kernels.h"'
    put src/kernels/x86/avx2.c '#include "kernels/kernels_internal.h"'
    put src/formats/formats.h '#include "base/base.h"'
    put src/model/tokenizer/tokenizer.h '#include "formats/formats.h"'
    put src/model/template/template.h '#include "base/base.h"'
    put src/model/model.h '#include "model/tokenizer/tokenizer.h"'
    put src/model/arch/llama.c '#include "../model.h"'
    put src/model/convert/convert.h '#include "../model.h"'
    put src/generate/generate.h '#include "model/model.h"'
    put src/generate/convert.c '#include "model/convert/convert.h"'
    put src/cli/cli.h '#include "base/base.h"'
    put src/cli/main.c '#include <graft/types.h>'
    put examples/01.c '#include <graft/types.h>'
}

accepts() {
    if "$tool" "$tree"; then
        echo "[       OK ] $1"
    else
        echo "[  FAILED  ] $1"
        failures=$((failures + 1))
    fi
}

# refuses WHAT FILE LINE WORDS: with FILE of LINE the tool fails and says WORDS.
refuses() {
    fresh
    put "$2" "$3"
    if said=$("$tool" "$tree"); then
        echo "[  FAILED  ] $1 (was accepted)"
        failures=$((failures + 1))
    elif printf '%s\n' "$said" | grep -q "^$2:1: .*$4"; then
        echo "[       OK ] $1"
    else
        echo "[  FAILED  ] $1 (said: $said)"
        failures=$((failures + 1))
    fi
}

fresh
accepts proper_tree_is_accepted
refuses upward_include src/base/mem.c '#include "kernels/kernels.h"' 'base may not include kernels'
refuses siblings src/formats/gguf.c '#include "kernels/kernels.h"' 'formats may not include kernels'
refuses tokenizer_and_template src/model/template/t.c '#include "model/tokenizer/tokenizer.h"' \
    'may not include'
refuses part_of_model_includes_model src/model/tokenizer/bpe.c '#include "../model.h"' \
    'may not include model'
refuses private_header src/model/linear.c '#include "kernels/kernels_internal.h"' 'private to kernels'
refuses private_header_by_path src/model/linear.c '#  include "../kernels/kernels_internal.h"' \
    'private to kernels'
refuses command_line_reaches_inside src/cli/run.c '#include "generate/generate.h"' 'base only'
refuses unknown_header src/model/linear.c '#include "model/absent.h"' 'no such header'
refuses unknown_layer src/extras/more.c '#include "base/base.h"' 'is no layer'
refuses public_header_includes_private include/graft/model.h '#include "base/base.h"' 'only <graft/'
refuses example_reaches_inside examples/02.c '#include "base/base.h"' 'only <graft/'

fresh
put crash-1f9d 'what a fuzzer left'
git -C "$tree" init -q && git -C "$tree" add crash-1f9d
if said=$("$tool" "$tree"); then
    echo "[  FAILED  ] stray_file_in_the_root (was accepted)"
    failures=$((failures + 1))
else
    echo "[       OK ] stray_file_in_the_root: $said"
fi
exit "$failures"
