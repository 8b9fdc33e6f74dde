/* constraint.c: the public functions on constraints: check, make the model's vocabulary once, call inward.
 */
#include "generate/constraint/constraint.h"
#include "api/api_internal.h"

struct graft_constraint {
    const struct graft_model *model;
    struct grammar *grammar;
    struct vocabulary *vocabulary;
};

typedef graft_status (*compile_fn)(struct mem *mem, const char *text, size_t size,
                                   struct grammar **out, graft_error *error);

/* A reference to the words of the model, which has them made for the first who asks. */
static graft_status model_vocabulary(struct graft_model *model, struct vocabulary **out,
                                     graft_error *error)
{
    const struct model *inner = model->model;
    graft_status status = GRAFT_OK;
    if (inner->tokenizer == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the model has no tokenizer: its answers cannot be held to a grammar");
    }
    pthread_mutex_lock(&model->lock);
    if (model->vocabulary == NULL) {
        status = vocabulary_open(&model->runtime->mem, inner->tokenizer, inner->config.n_vocab,
                                 &model->vocabulary, error);
    }
    if (status == GRAFT_OK) {
        *out = vocabulary_acquire(model->vocabulary);
    }
    pthread_mutex_unlock(&model->lock);
    return status;
}

static graft_status compile(const graft_model *model, const char *text, size_t size,
                            compile_fn from, graft_constraint **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    struct graft_constraint *c = mem_calloc(mem, 1, sizeof *c);
    if (c == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a constraint");
    }
    c->model = model;
    graft_status status = from(mem, text, size, &c->grammar, error);
    if (status == GRAFT_OK) {
        status = model_vocabulary((graft_model *)(uintptr_t)model, &c->vocabulary, error);
    }
    if (status != GRAFT_OK) {
        graft_constraint_close(&c);
        return status;
    }
    *out = c;
    return GRAFT_OK;
}

graft_status graft_constraint_from_gbnf(const graft_model *model, const char *text, size_t size,
                                        graft_constraint **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(text);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    return compile(model, text, size, grammar_from_gbnf, out, error);
}

graft_status graft_constraint_from_schema(const graft_model *model, const char *json, size_t size,
                                          graft_constraint **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(json);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    return compile(model, json, size, grammar_from_schema, out, error);
}

void graft_constraint_close(graft_constraint **constraint)
{
    if (constraint != NULL && *constraint != NULL) {
        graft_constraint *c = *constraint;
        *constraint = NULL;
        grammar_release(&c->grammar);
        vocabulary_release(&c->vocabulary);
        mem_free(&c->model->runtime->mem, c);
    }
}

graft_status constraint_of(const graft_constraint *constraint, const struct model *model,
                           struct grammar **grammar, struct vocabulary **vocabulary,
                           graft_error *error)
{
    *grammar = constraint != NULL ? constraint->grammar : NULL;
    *vocabulary = constraint != NULL ? constraint->vocabulary : NULL;
    return constraint == NULL || constraint->model->model == model
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT, "the constraint is of another model");
}

graft_status graft_session_set_constraint(graft_session *session,
                                          const graft_constraint *constraint, graft_error *error)
{
    REQUIRE(session);
    CHECK_RUNTIME(session_model(session)->runtime);
    struct grammar *grammar;
    struct vocabulary *vocabulary;
    graft_status status =
        constraint_of(constraint, session_model(session), &grammar, &vocabulary, error);
    return status == GRAFT_OK ? session_set_constraint(session, grammar, vocabulary, error)
                              : status;
}

graft_status graft_session_set_answer_limit(graft_session *session, size_t max_tokens,
                                            graft_error *error)
{
    REQUIRE(session);
    CHECK_RUNTIME(session_model(session)->runtime);
    session_set_answer_limit(session, max_tokens);
    return GRAFT_OK;
}
