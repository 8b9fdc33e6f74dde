# Bash completion for graft: verbs, then the options of the verb, read from its own --help so that the
# two cannot disagree. Installed as share/bash-completion/completions/graft.

_graft_verbs() {
    "$1" --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p' | grep -v '^graft$'
}

_graft_options() {
    # shellcheck disable=SC2086 # a verb may be two words
    "$1" $2 --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*' | sort -u
}

_graft() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} graft=${COMP_WORDS[0]}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_graft_verbs "$graft") help --help --version" -- "$cur")
        return
    fi
    if [ "${COMP_WORDS[1]}" = help ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_graft_verbs "$graft")" -- "$cur")
        return
    fi
    if [ "${COMP_WORDS[1]}" = adapter ]; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$("$graft" adapter --help 2>/dev/null |
                sed -n '/^Verbs:/,/^$/s/^  \([a-z]\{1,\}\)  .*/\1/p')" -- "$cur")
            return
        fi
        case $prev in
        --type)
            mapfile -t COMPREPLY < <(compgen -W "f32 f16 bf16" -- "$cur")
            return
            ;;
        --format)
            mapfile -t COMPREPLY < <(compgen -W "peft mlx gguf" -- "$cur")
            return
            ;;
        --preset)
            mapfile -t COMPREPLY < <(compgen -W "coder researcher security architect reviewer" -- "$cur")
            return
            ;;
        esac
        case $cur in
        -*)
            mapfile -t COMPREPLY < <(compgen -W "$(_graft_options "$graft" "adapter ${COMP_WORDS[2]}")" -- "$cur")
            return
            ;;
        esac
    fi
    if [ "${COMP_WORDS[1]}" = data ]; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$("$graft" data --help 2>/dev/null |
                sed -n '/^Verbs:/,/^$/s/^  \([a-z]\{1,\}\)  .*/\1/p')" -- "$cur")
            return
        fi
        case $prev in
        --loss)
            mapfile -t COMPREPLY < <(compgen -W "assistant completion all" -- "$cur")
            return
            ;;
        esac
        case $cur in
        -*)
            mapfile -t COMPREPLY < <(compgen -W "$(_graft_options "$graft" "data ${COMP_WORDS[2]}")" -- "$cur")
            return
            ;;
        esac
    fi
    if [ "${COMP_WORDS[1]}" = router ]; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$("$graft" router --help 2>/dev/null |
                sed -n '/^Verbs:/,/^$/s/^  \([a-z]\{1,\}\)  .*/\1/p')" -- "$cur")
            return
        fi
        case $cur in
        -*)
            mapfile -t COMPREPLY < <(compgen -W "$(_graft_options "$graft" "router ${COMP_WORDS[2]}")" -- "$cur")
            return
            ;;
        esac
    fi
    if [ "${COMP_WORDS[1]}" = eval ]; then
        case $prev in
        --loss)
            mapfile -t COMPREPLY < <(compgen -W "assistant completion all" -- "$cur")
            return
            ;;
        --part)
            mapfile -t COMPREPLY < <(compgen -W "train valid test all" -- "$cur")
            return
            ;;
        esac
    fi
    if [ "${COMP_WORDS[1]}" = train ]; then
        case $prev in
        train)
            case $cur in
            -*) ;;
            *)
                mapfile -t COMPREPLY < <(compgen -W "plot report settings" -- "$cur")
                return
                ;;
            esac
            ;;
        --fine-tune-type)
            mapfile -t COMPREPLY < <(compgen -W "lora dora full" -- "$cur")
            return
            ;;
        --modules-to-save)
            mapfile -t COMPREPLY < <(compgen -W "norms embed_tokens lm_head score" -- "$cur")
            return
            ;;
        --optim)
            mapfile -t COMPREPLY < <(compgen -W "adamw muon" -- "$cur")
            return
            ;;
        --schedule)
            mapfile -t COMPREPLY < <(compgen -W "constant linear cosine exponential step one_cycle wsd" -- "$cur")
            return
            ;;
        --preset)
            mapfile -t COMPREPLY < <(compgen -W "quick stable coder researcher security architect reviewer" -- "$cur")
            return
            ;;
        --set)
            compopt -o nospace 2>/dev/null
            # shellcheck disable=SC2016 # backquotes of a table
            mapfile -t COMPREPLY < <(compgen -S = -W "$("$graft" train settings 2>/dev/null |
                sed -n 's/^| `\([a-z_0-9]*\)` .*/\1/p')" -- "$cur")
            return
            ;;
        esac
    fi
    if [ "${COMP_WORDS[1]}" = bench ]; then
        case $prev in
        bench)
            mapfile -t COMPREPLY < <(compgen -W "$("$graft" bench --help 2>/dev/null |
                sed -n '/^Benches:/,/^$/s/^  \([a-z]\{1,\}\)  .*/\1/p')" -- "$cur")
            return
            ;;
        --adapter-type)
            mapfile -t COMPREPLY < <(compgen -W "bf16 f16 int8 q4" -- "$cur")
            return
            ;;
        --model-draft)
            mapfile -t COMPREPLY < <(compgen -f -W "tiny-draft tiny" -- "$cur")
            return
            ;;
        --type)
            mapfile -t COMPREPLY < <(compgen -W "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k_s \
                q3_k_m q4_k_s q4_k_m q5_k_s q5_k_m q6_k mlx4 mlx8" -- "$cur")
            return
            ;;
        --shape)
            mapfile -t COMPREPLY < <(compgen -W "qwen2.5-0.5b llama-3.2-1b tinyllama-1.1b width-768 mini" -- "$cur")
            return
            ;;
        esac
    fi
    case $prev in
    --type)
        mapfile -t COMPREPLY < <(compgen -W "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k_s \
            q3_k_m q4_k_s q4_k_m q5_k_s q5_k_m q6_k" -- "$cur")
        return
        ;;
    --format)
        mapfile -t COMPREPLY < <(compgen -W "gguf hf mlx" -- "$cur")
        return
        ;;
    --model-draft)
        mapfile -t COMPREPLY < <(compgen -f -W "ngram tiny-draft tiny" -- "$cur")
        return
        ;;
    -m | --model)
        mapfile -t COMPREPLY < <(compgen -f -W "tiny tiny-draft" -- "$cur")
        return
        ;;
    --compose)
        mapfile -t COMPREPLY < <(compgen -W "weighted average sequential most-recent interpolate" -- "$cur")
        return
        ;;
    --adapter-type)
        mapfile -t COMPREPLY < <(compgen -W "bf16 int8 q4 f16 f32" -- "$cur")
        return
        ;;
    --cache-type-k | --cache-type-v)
        mapfile -t COMPREPLY < <(compgen -W "f16 f32 q8" -- "$cur")
        return
        ;;
    esac
    case $cur in
    -*)
        mapfile -t COMPREPLY < <(compgen -W "$(_graft_options "$graft" "${COMP_WORDS[1]}")" -- "$cur")
        ;;
    *)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    esac
}
complete -o filenames -F _graft graft
