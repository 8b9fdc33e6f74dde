/* save_fixture.h: bases and adapters as files, for tests of adapter/save: random bases of all architectures and both
 * orders of rows, the adapters of the reference's recipes, a recipe for fresh ones, and what an adapter on a base
 * says. Files lie in the test's own folder. For tests only: failures abort through cmocka.
 */
#ifndef GRAFT_TEST_SAVE_FIXTURE_H
#define GRAFT_TEST_SAVE_FIXTURE_H

#include "adapter/save/save.h"

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"

#include <unistd.h>

static struct graft_runtime rt;

static inline int setup(void **state)
{
    runtime_start(&rt, 2, NULL);
    return test_dir_open(state);
}

static inline int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

struct base {
    struct oracle_model oracle;
    struct model *model;
};

static inline void base_open(struct base *b, const char *arch, bool gguf)
{
    char name[32];
    snprintf(name, sizeof(name), "%s%s", arch, gguf ? ".gguf" : "");
    oracle_model_make(&b->oracle, oracle_config(arch), 1);
    if (!path_exists(at(name)) && gguf)
        oracle_write_gguf(&b->oracle, at(name), GRAFT_TYPE_F32);
    else if (!path_exists(at(name)))
        oracle_write_hf(&b->oracle, at(name), GRAFT_TYPE_F32);
    b->model = open_model(&rt, at(name));
}

static inline void base_close(struct base *b)
{
    model_close(&b->model);
    oracle_model_free(&b->oracle);
}

static inline const char *fresh_path(const char *name)
{
    const char *path = at(name);
    if (path_is_dir(path))
        temp_remove(path);
    else
        unlink(path);
    return path;
}

static inline const char *put(const struct base *b, const char *variant)
{
    struct oracle_model a;
    oracle_adapter_make(&a, variant, 7, &b->oracle);
    oracle_adapter_write(&a, fresh_path("adapter"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    return at("adapter");
}

static inline struct adapter *open_it(const struct model *m, const char *path)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    if (adapter_open(m, path, NULL, &a, &error) != GRAFT_OK)
        fail_msg("%s: %s (%s)", path, error.message, error.tensor);
    return a;
}

static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};
/* Decode rows are computed in floats on every tier; prefill rounds to 2^-16 where a matrix unit takes them. */
static const struct run HOW = {ROLE_DECODE, KV_F32, 1};
enum { N_TOKENS = ARRAY_LEN(TOKENS) };

static inline float *logits_of(const struct model *m, const char *path)
{
    graft_error error = {0};
    struct delta_set *set = NULL;
    struct adapter *a = path ? open_it(m, path) : NULL;
    if (a) {
        const struct delta_member member = adapter_member(a, 1);
        assert_int_equal(delta_set_open(m, &member, 1, &set, &error), GRAFT_OK);
    }
    float *logits = run_tokens_with(m, TOKENS, N_TOKENS, HOW, set);
    delta_set_close(&set);
    adapter_release(&a);
    return logits;
}

static inline const char *convert(const struct base *b, const char *in, const char *out,
                                  enum adapter_format format)
{
    const struct save_options options = {.format = format, .retype = true, .type = GRAFT_TYPE_F32};
    graft_error error = {0};
    if (adapter_convert(b->model, in, fresh_path(out), &options, &error) != GRAFT_OK)
        fail_msg("%s to %s: %s", in, out, error.message);
    struct adapter *a = open_it(b->model, at(out));
    assert_int_equal(adapter_info(a)->format, format);
    adapter_release(&a);
    return at(out);
}

static const char *const TARGETS[] = {"v_proj", "q_proj", "lm_head"};
static const struct adapter_recipe RECIPE = {.name = "fresh",
                                             .version = "1.2.3",
                                             .description = "Knows nothing yet",
                                             .base = "somebody/something",
                                             .targets = TARGETS,
                                             .n_targets = 2,
                                             .tags = TARGETS,
                                             .n_tags = 1,
                                             .rank = 5,
                                             .alpha = 7,
                                             .dropout = 0.05,
                                             .rslora = true,
                                             .seed = 11,
                                             .type = GRAFT_TYPE_F32};

static inline const char *create(const struct base *b, const struct adapter_recipe *r,
                                 const char *name)
{
    graft_error error = {0};
    if (adapter_create(b->model, fresh_path(name), r, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return at(name);
}

static inline void file_is(const char *dir, const char *name, const char *want)
{
    char *path = path_join(NULL, dir, name), *text;
    size_t size;
    assert_int_equal(file_read(NULL, path, 1 << 20, &text, &size, NULL), GRAFT_OK);
    assert_string_equal(text, want);
    mem_free(NULL, text);
    mem_free(NULL, path);
}

#endif
