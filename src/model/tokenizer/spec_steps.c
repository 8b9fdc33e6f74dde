/* spec_steps.c: normaliser and pre-tokenizer of tokenizer.json, flattened into steps.
 *
 * Digits, Punctuation and the white-space splitters are splits by a pattern, so there is one splitter.
 */
#include "tokenizer_internal.h"

enum { MAX_NEST = 8 };

/* \w of the expressions that Whitespace uses, which are not Oniguruma's. */
#define RUST_WORD                                                                                  \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"  \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"

static graft_status get_type(const json_t *node, const char *what, const char **type,
                             graft_error *error)
{
    *type = NULL;
    graft_status status = json_get_string(node, "type", type, error);
    if (!status && !*type)
        status = error_set(error, GRAFT_FORMAT, "a %s has no type", what);
    return status;
}

/* ---- normaliser -------------------------------------------------------------------------------- */

static graft_status keep_content(struct tokenizer *t, const json_t *node, const char *key,
                                 struct norm_step *step, graft_error *error)
{
    const json_t *content = json_object_get(node, key);
    if (!json_is_string(content))
        return error_set(error, GRAFT_FORMAT, "a normalizer has no %s", key);
    step->content_size = json_string_length(content);
    if (step->content_size > MAX_ADDED_BYTES)
        return error_set(error, GRAFT_LIMIT, "a normalizer's %s is too long", key);
    step->content = mem_strndup(t->mem, json_string_value(content), step->content_size);
    return step->content ? GRAFT_OK
                         : error_set(error, GRAFT_NO_MEMORY, "out of memory for a normalizer");
}

static graft_status read_charsmap(struct tokenizer *t, const json_t *node, struct norm_step *step,
                                  graft_error *error)
{
    const json_t *map = json_object_get(node, "precompiled_charsmap");
    if (!json_is_string(map))
        return error_set(error, GRAFT_FORMAT, "a Precompiled normalizer has no charsmap");
    return charsmap_open_base64(t->mem, json_string_value(map), json_string_length(map),
                                &step->charsmap, error);
}

static graft_status read_normalizer_step(struct tokenizer *t, const json_t *node, const char *type,
                                         graft_error *error)
{
    static const struct {
        const char *name;
        enum norm_kind kind;
    } kinds[] = {{"NFC", NORM_NFC},
                 {"NFD", NORM_NFD},
                 {"NFKC", NORM_NFKC},
                 {"NFKD", NORM_NFKD},
                 {"Lowercase", NORM_LOWERCASE},
                 {"StripAccents", NORM_STRIP_ACCENTS},
                 {"Strip", NORM_STRIP},
                 {"Replace", NORM_REPLACE},
                 {"Prepend", NORM_PREPEND},
                 {"Precompiled", NORM_CHARSMAP}};
    size_t k = 0;
    while (k < ARRAY_LEN(kinds) && strcmp(kinds[k].name, type) != 0)
        k++;
    if (k == ARRAY_LEN(kinds))
        return spec_refuse(error, "normalizer", type);
    /* An empty map is what SentencePiece's "identity" leaves. */
    const json_t *map = json_object_get(node, "precompiled_charsmap");
    if (kinds[k].kind == NORM_CHARSMAP &&
        (json_is_null(map) || (json_is_string(map) && json_string_length(map) == 0)))
        return GRAFT_OK;
    if (t->normalizer.count == MAX_STEPS)
        return error_set(error, GRAFT_LIMIT, "the tokenizer has too many normalizers");
    struct norm_step *step = &t->normalizer.steps[t->normalizer.count++];
    *step = (struct norm_step){.kind = kinds[k].kind, .left = true, .right = true};
    graft_status status = GRAFT_OK;
    switch (step->kind) {
    case NORM_STRIP:
        status = json_get_bool(node, "strip_left", &step->left, error);
        return status ? status : json_get_bool(node, "strip_right", &step->right, error);
    case NORM_REPLACE:
        status = spec_read_pattern(t, json_object_get(node, "pattern"), &step->pattern, error);
        return status ? status : keep_content(t, node, "content", step, error);
    case NORM_PREPEND:
        return keep_content(t, node, "prepend", step, error);
    case NORM_CHARSMAP:
        return read_charsmap(t, node, step, error);
    default:
        return GRAFT_OK;
    }
}

static graft_status read_normalizer(struct tokenizer *t, const json_t *node, int depth,
                                    graft_error *error)
{
    const char *type;
    graft_status status = get_type(node, "normalizer", &type, error);
    if (status)
        return status;
    if (strcmp(type, "Sequence") != 0 || depth == MAX_NEST)
        return read_normalizer_step(t, node, type, error);
    size_t i;
    json_t *child;
    json_array_foreach(json_object_get(node, "normalizers"), i, child)
    {
        status = read_normalizer(t, child, depth + 1, error);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

graft_status spec_read_normalizer(struct tokenizer *t, const json_t *node, graft_error *error)
{
    return node && !json_is_null(node) ? read_normalizer(t, node, 0, error) : GRAFT_OK;
}

/* ---- pre-tokenizer ------------------------------------------------------------------------------ */

/* NULL, and LIMIT, when there are too many. */
static struct pre_step *add_step(struct tokenizer *t, enum pre_kind kind, graft_error *error)
{
    if (t->pre.count == MAX_STEPS) {
        error_set(error, GRAFT_LIMIT, "the tokenizer has too many pre-tokenizers");
        return NULL;
    }
    struct pre_step *step = &t->pre.steps[t->pre.count++];
    *step = (struct pre_step){.kind = kind, .behavior = SPLIT_ISOLATED};
    return step;
}

static graft_status add_split(struct tokenizer *t, const char *pattern,
                              enum split_behavior behavior, bool invert, graft_error *error)
{
    struct pre_step *step = add_step(t, PRE_SPLIT, error);
    if (!step)
        return GRAFT_LIMIT;
    step->behavior = behavior;
    step->invert = invert;
    return pattern_open(t->mem, pattern, strlen(pattern), false, &step->pattern, error);
}

static graft_status get_behavior(const json_t *node, enum split_behavior *out, graft_error *error)
{
    static const char *const names[] = {"Removed", "Isolated", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *name = NULL;
    graft_status status = json_get_string(node, "behavior", &name, error);
    if (status || !name)
        return status;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum split_behavior)i;
            return GRAFT_OK;
        }
    }
    return spec_refuse(error, "split behaviour", name);
}

static graft_status read_split(struct tokenizer *t, const json_t *node, graft_error *error)
{
    struct pre_step *step = add_step(t, PRE_SPLIT, error);
    if (!step)
        return GRAFT_LIMIT;
    graft_status status = get_behavior(node, &step->behavior, error);
    if (!status)
        status = json_get_bool(node, "invert", &step->invert, error);
    if (!status)
        status = spec_read_pattern(t, json_object_get(node, "pattern"), &step->pattern, error);
    return status;
}

static graft_status read_byte_level(struct tokenizer *t, const json_t *node, graft_error *error)
{
    bool prefix = true, regex = true;
    graft_status status = json_get_bool(node, "add_prefix_space", &prefix, error);
    if (!status)
        status = json_get_bool(node, "use_regex", &regex, error);
    if (!status && t->pre.byte_level)
        status = spec_refuse(error, "pre-tokenizer", "ByteLevel twice");
    t->pre.byte_level = true;
    if (!status && prefix && !add_step(t, PRE_PREFIX_SPACE, error))
        status = GRAFT_LIMIT;
    if (!status && regex)
        status = add_split(t, gpt2_pattern, SPLIT_ISOLATED, false, error);
    return status;
}

static graft_status read_metaspace(struct tokenizer *t, const json_t *node, graft_error *error)
{
    static const char *const schemes[] = {"always", "first", "never"};
    const char *mark = SPACE_MARK, *scheme = NULL;
    bool prefix = true, split = true;
    graft_status status = json_get_string(node, "replacement", &mark, error);
    if (!status)
        status = json_get_string(node, "prepend_scheme", &scheme, error);
    if (!status)
        status = json_get_bool(node, "add_prefix_space", &prefix, error);
    if (!status)
        status = json_get_bool(node, "split", &split, error);
    if (status)
        return status;
    struct pre_step *step = add_step(t, PRE_METASPACE, error);
    if (!step)
        return GRAFT_LIMIT;
    size_t n = strlen(mark);
    if (n == 0 || n >= sizeof step->mark)
        return error_set(error, GRAFT_FORMAT, "the Metaspace replacement is malformed");
    memcpy(step->mark, mark, n + 1);
    step->split = split;
    step->scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    size_t i = 0;
    while (scheme && i < ARRAY_LEN(schemes) && strcmp(schemes[i], scheme) != 0)
        i++;
    if (i == ARRAY_LEN(schemes))
        return spec_refuse(error, "prepend scheme", scheme);
    if (scheme)
        step->scheme = (enum prepend_scheme)i;
    return GRAFT_OK;
}

static graft_status read_digits(struct tokenizer *t, const json_t *node, graft_error *error)
{
    bool individual = false;
    graft_status status = json_get_bool(node, "individual_digits", &individual, error);
    return status ? status
                  : add_split(t, "\\p{N}", individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false,
                              error);
}

static graft_status read_punctuation(struct tokenizer *t, const json_t *node, graft_error *error)
{
    enum split_behavior behavior = SPLIT_ISOLATED;
    graft_status status = get_behavior(node, &behavior, error);
    return status ? status : add_split(t, "[\\p{P}$+<=>^`|~]", behavior, false, error);
}

static graft_status read_whitespace(struct tokenizer *t, const json_t *node, graft_error *error)
{
    (void)node;
    return add_split(t, "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+", SPLIT_REMOVED, true, error);
}

static graft_status read_whitespace_split(struct tokenizer *t, const json_t *node,
                                          graft_error *error)
{
    (void)node;
    return add_split(t, "\\s", SPLIT_REMOVED, false, error);
}

/* ByteLevel writes bytes in their printable form, which the steps after it see. */
static graft_status see_byte_chars(struct tokenizer *t, graft_error *error)
{
    if (!t->pre.byte_level || t->pre.chars)
        return GRAFT_OK;
    t->pre.chars = true;
    return add_step(t, PRE_BYTE_CHARS, error) ? GRAFT_OK : GRAFT_LIMIT;
}

static graft_status read_pretokenizer(struct tokenizer *t, const json_t *node, int depth,
                                      graft_error *error)
{
    static const struct {
        const char *name;
        graft_status (*read)(struct tokenizer *t, const json_t *node, graft_error *error);
    } readers[] = {{"Split", read_split},
                   {"ByteLevel", read_byte_level},
                   {"Metaspace", read_metaspace},
                   {"Digits", read_digits},
                   {"Punctuation", read_punctuation},
                   {"Whitespace", read_whitespace},
                   {"WhitespaceSplit", read_whitespace_split}};
    const char *type;
    graft_status status = get_type(node, "pre-tokenizer", &type, error);
    if (status)
        return status;
    if (strcmp(type, "Sequence") == 0 && depth < MAX_NEST) {
        size_t i;
        json_t *child;
        json_array_foreach(json_object_get(node, "pretokenizers"), i, child)
        {
            status = read_pretokenizer(t, child, depth + 1, error);
            if (status)
                return status;
        }
        return GRAFT_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        if (strcmp(readers[i].name, type) == 0) {
            status = see_byte_chars(t, error);
            return status ? status : readers[i].read(t, node, error);
        }
    }
    return spec_refuse(error, "pre-tokenizer", type);
}

graft_status spec_read_pretokenizer(struct tokenizer *t, const json_t *node, graft_error *error)
{
    return node && !json_is_null(node) ? read_pretokenizer(t, node, 0, error) : GRAFT_OK;
}
