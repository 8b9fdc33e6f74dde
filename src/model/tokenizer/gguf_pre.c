/* gguf_pre.c: what a name in tokenizer.ggml.pre stands for.
 *
 * GGUF does not store how a byte-level vocabulary cuts text; it stores a name, and the reader knows
 * the patterns. This is the list of names that graft knows, as llama.cpp defines them. The patterns
 * are applied one after the other; matches and what lies between them are words. `tekken` and
 * `gpt-4o` are given in their tokenizer.json form, of which llama.cpp has an approximation.
 */
#include "tokenizer_internal.h"

#define CONTRACTIONS "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define CONTRACTIONS_I "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define REST_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LETTERS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_A "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+"
#define CASED_B "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"
#define BLOOM " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"

static const struct pre_rule rules[] = {
    {.names = "default",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2",
     .patterns = {CONTRACTIONS LETTERS "|\\p{N}{1,3}" REST},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = "dbrx smaug-bpe chatglm-bpe glm4",
     .patterns = {CONTRACTIONS LETTERS "|\\p{N}{1,3}" REST}},
    {.names = "qwen2 stablelm2 megrez deepseek-r1-qwen",
     .patterns = {CONTRACTIONS LETTERS "|\\p{N}" REST}},
    {.names = "gpt-2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de gigachat trillion "
              "exaone4",
     .patterns = {GPT2}},
    {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b",
     .patterns = {"\\p{N}", GPT2}},
    {.names = "falcon", .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.names = "deepseek-coder",
     .patterns = {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                  "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", "\\p{N}"}},
    {.names = "deepseek-v3",
     .patterns = {"\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                  "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
                  "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
    {.names = "bloom poro-chat gpt3-finnish", .patterns = {BLOOM}},
    {.names = "viking", .patterns = {BLOOM, "\\p{N}"}},
    {.names = "tekken",
     .patterns = {CASED_A CASED_B "|\\p{N}" REST_SLASH},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = "gpt-4o llama4",
     .patterns = {CASED_A CONTRACTIONS_I "?" CASED_B CONTRACTIONS_I "?|\\p{N}{1,3}" REST_SLASH}},
};

/* Other ways to write a pattern of the list. */
static const struct {
    const char *written;
    const char *listed;
} aliases[] = {
    {GPT2 "|\\s+", GPT2},
    {CONTRACTIONS_I LETTERS "|\\p{N}{1,3}" REST, CONTRACTIONS LETTERS "|\\p{N}{1,3}" REST},
    {CONTRACTIONS_I LETTERS "|\\p{N}" REST, CONTRACTIONS LETTERS "|\\p{N}" REST},
};

const struct pre_rule *pre_rule_named(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        for (const char *at = rules[i].names; *at;) {
            size_t n = strcspn(at, " ");
            if (n == length && memcmp(at, name, n) == 0)
                return &rules[i];
            at += n + (at[n] == ' ');
        }
    }
    return NULL;
}

static bool same_step(const struct pre_step *step, const char *listed)
{
    if (step->kind != PRE_SPLIT || step->invert || pattern_is_literal(step->pattern))
        return false;
    const char *text = pattern_text(step->pattern);
    if (step->behavior == SPLIT_CONTIGUOUS) /* runs of digits */
        return strcmp(text, "\\p{N}") == 0 && strcmp(listed, "\\p{N}+") == 0;
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(text, aliases[i].written) == 0)
            text = aliases[i].listed;
    }
    return step->behavior == SPLIT_ISOLATED && strcmp(text, listed) == 0;
}

static bool pre_rule_matches(const struct pre_rule *rule, const struct tokenizer *t)
{
    int n = 0;
    while (n < PRE_PATTERNS && rule->patterns[n])
        n++;
    if (n != t->pre.count || rule->ignore_merges != t->bpe.ignore_merges)
        return false;
    for (int i = 0; i < n; i++) {
        if (!same_step(&t->pre.steps[i], rule->patterns[i]))
            return false;
    }
    return true;
}

const struct pre_rule *pre_rule_of(const struct tokenizer *t)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (pre_rule_matches(&rules[i], t))
            return &rules[i];
    }
    return NULL;
}
