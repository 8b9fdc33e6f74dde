/* check.c: whether two models speak of the same tokens.
 *
 * Drafts are ids, so the draft model's must mean what the model's mean. What is compared is the stored text of each token
 * and whether it is special and ends an answer. Heads are often wider than vocabularies: rows that no token has, or one
 * that a converter made up to fill them, may differ in number.
 */
#include "generate/draft/draft.h"

enum { SHOWN = 40 }; /* bytes of a token in a message */

/* What a GGUF calls an id that has no token. */
static bool is_padding(const char *text, size_t length, graft_token_id id)
{
    char name[24];
    int n = snprintf(name, sizeof name, "[PAD%d]", (int)id);
    return (size_t)n == length && memcmp(text, name, length) == 0;
}

/* The stored text of a token; NULL: there is none of that id. */
static const char *token_text(const struct tokenizer *t, graft_token_id id, size_t *length)
{
    *length = 0;
    const char *text = id < tokenizer_size(t) ? tokenizer_token(t, id, length) : NULL;
    return text != NULL && !is_padding(text, *length, id) ? text : NULL;
}

/* In quotes, with what cannot be printed as \xNN. */
static const char *show(const char *text, size_t length, char out[4 * SHOWN + 8])
{
    char *at = out;
    if (text == NULL) {
        return "none";
    }
    *at++ = '"';
    for (size_t i = 0; i < length && i < SHOWN; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c >= 32 && c < 127 && c != '"' && c != '\\') {
            *at++ = (char)c;
        } else {
            at += snprintf(at, 5, "\\x%02x", c);
        }
    }
    memcpy(at, length > SHOWN ? "...\"" : "\"", length > SHOWN ? 5 : 2);
    return out;
}

static graft_status check_token(const struct tokenizer *a, const struct tokenizer *b,
                                graft_token_id id, graft_error *error)
{
    size_t n, m;
    const char *mine = token_text(a, id, &n), *other = token_text(b, id, &m);
    if (mine == NULL && other == NULL) {
        return GRAFT_OK;
    }
    if (mine == NULL || other == NULL || n != m || memcmp(mine, other, n) != 0) {
        char one[4 * SHOWN + 8], two[4 * SHOWN + 8];
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the draft model has other tokens: %d is %s, the model's is %s", (int)id,
                         show(other, m, two), show(mine, n, one));
    }
    const char *what = tokenizer_is_special(a, id) != tokenizer_is_special(b, id) ? "is special"
                       : tokenizer_is_end(a, id) != tokenizer_is_end(b, id)       ? "ends an answer"
                                                                                  : NULL;
    char text[4 * SHOWN + 8];
    return what == NULL
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the draft model has other tokens: %d, %s, %s in one of the two",
                           (int)id, show(mine, n, text), what);
}

graft_status draft_model_check(const struct model *target, const struct model *draft,
                               graft_error *error)
{
    const struct tokenizer *a = target->tokenizer, *b = draft->tokenizer;
    if (target->config.n_labels > 0 || draft->config.n_labels > 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a classifier neither drafts nor has drafts");
    }
    if (a == NULL || b == NULL) {
        bool same = a == b && target->config.n_vocab == draft->config.n_vocab;
        return same ? GRAFT_OK
                    : error_set(
                          error, GRAFT_INVALID_ARGUMENT,
                          "without tokenizers nobody knows whether the draft model's tokens are "
                          "the model's: %d and %d ids",
                          draft->config.n_vocab, target->config.n_vocab);
    }
    if (strcmp(tokenizer_kind(a), tokenizer_kind(b)) != 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the draft model has other tokens: its tokenizer is %s, the model's %s",
                         tokenizer_kind(b), tokenizer_kind(a));
    }
    graft_token_id n =
        tokenizer_size(a) > tokenizer_size(b) ? tokenizer_size(a) : tokenizer_size(b);
    graft_status status = GRAFT_OK;
    for (graft_token_id id = 0; id < n && status == GRAFT_OK; id++) {
        status = check_token(a, b, id, error);
    }
    return status;
}
