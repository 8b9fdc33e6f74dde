/* test_tiny.c: the models that ship: twenty pinned prompts and their greedy answers, which an
 * independent float32 implementation computed; sizes; the draft's tokenizer is the model's.
 */
#include "base/base.h"

#include <graft/graft.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/stat.h>

#define MODELS GRAFT_SOURCE_DIR "/models/"

enum { PROMPTS = 20, MAX_IDS = 1024 };

static json_t *PINS;

struct fixture {
    graft_runtime *runtime;
    graft_model *model;
};

/* The names of all tiers that run here, with spaces between. */
static void tiers_here(char *out, size_t size)
{
    graft_error error = {0};
    graft_runtime *runtime = NULL;
    graft_runtime_info info;
    assert_int_equal(graft_runtime_open(NULL, &runtime, &error), GRAFT_OK);
    assert_int_equal(graft_runtime_describe(runtime, &info, &error), GRAFT_OK);
    assert_true((size_t)snprintf(out, size, "%s", info.tiers) < size);
    graft_runtime_close(&runtime);
}

static void open_tiny(struct fixture *f, const char *tier)
{
    graft_error error = {0};
    graft_runtime_options options = graft_runtime_options_default();
    options.tier = tier;
    assert_int_equal(graft_runtime_open(&options, &f->runtime, &error), GRAFT_OK);
    if (graft_model_open(f->runtime, MODELS "tiny", NULL, &f->model, &error) != GRAFT_OK) {
        fail_msg("%s", error.message);
    }
}

static void close_tiny(struct fixture *f)
{
    graft_model_close(&f->model);
    graft_runtime_close(&f->runtime);
}

/* The ids that a pin's prompt becomes: raw text, or a rendered chat. */
static graft_token_id *pin_prompt(struct fixture *f, const json_t *pin, size_t *n)
{
    graft_error error = {0};
    graft_token_id *ids = NULL;
    char *rendered = NULL;
    size_t size;
    const graft_tokenizer *tokenizer = graft_model_tokenizer(f->model);
    const json_t *raw = json_object_get(pin, "prompt");
    int flags = raw ? 0 : GRAFT_TOKENIZE_SPECIAL;
    if (!raw) {
        json_t *variables = json_pack("{s:O, s:b}", "messages", json_object_get(pin, "messages"),
                                      "add_generation_prompt", 1);
        char *text = json_dumps(variables, 0);
        assert_int_equal(graft_chat_render_json(f->model, text, &rendered, &size, &error),
                         GRAFT_OK);
        free(text);
        json_decref(variables);
    }
    const char *text = raw ? json_string_value(raw) : rendered;
    assert_int_equal(graft_tokenize(tokenizer, text, strlen(text), flags, &ids, n, &error),
                     GRAFT_OK);
    graft_free(f->runtime, rendered);
    return ids;
}

static void assert_ids(const json_t *pin, const char *key, const graft_token_id *ids, size_t n)
{
    const json_t *want = json_object_get(pin, key);
    const char *name = json_string_value(json_object_get(pin, "name"));
    if (n != json_array_size(want)) {
        fail_msg("%s: %zu %s, expected %zu", name, n, key, json_array_size(want));
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != json_integer_value(json_array_get(want, i))) {
            fail_msg("%s: %s differ at %zu: %d", name, key, i, (int)ids[i]);
        }
    }
}

static void assert_answer(struct fixture *f, const json_t *pin)
{
    graft_error error = {0};
    graft_session *session = NULL;
    graft_session_options options = graft_session_options_default();
    options.sampling.temperature = 0;
    options.cache_k = options.cache_v = GRAFT_KV_F32; /* as the reference has it */
    size_t n_prompt, n = 0, most = json_array_size(json_object_get(pin, "ids"));
    graft_token_id *prompt = pin_prompt(f, pin, &n_prompt), ids[MAX_IDS];
    struct buf text;
    buf_init(&text, NULL, 1 << 20);
    assert_ids(pin, "prompt_ids", prompt, n_prompt);
    assert_int_equal(graft_session_open(f->model, &options, &session, &error), GRAFT_OK);
    assert_int_equal(graft_session_prompt(session, prompt, n_prompt, NULL, NULL, &error), GRAFT_OK);
    graft_token token;
    while (n < most && graft_session_next(session, &token, &error) == GRAFT_OK) {
        ids[n++] = token.id;
        buf_append(&text, token.text, token.text_size);
    }
    assert_ids(pin, "ids", ids, n);
    const char *want = json_string_value(json_object_get(pin, "text"));
    buf_append(&text, "", 0);
    /* The last character may still be unfinished in the stream; the reference's text has no end token. */
    assert_memory_equal(text.data, want, text.size);
    buf_free(&text);
    graft_session_close(&session);
    graft_free(f->runtime, prompt);
}

static void pinned_prompts_have_their_answers_on_every_tier(void **state)
{
    (void)state;
    const json_t *prompts = json_object_get(PINS, "prompts");
    assert_int_equal(json_array_size(prompts), PROMPTS);
    char tiers[256], *rest = tiers;
    tiers_here(tiers, sizeof tiers);
    for (const char *tier; (tier = strsep(&rest, " ")) != NULL;) {
        struct fixture f = {0};
        open_tiny(&f, tier);
        for (size_t i = 0; i < PROMPTS; i++) {
            assert_answer(&f, json_array_get(prompts, i));
        }
        close_tiny(&f);
    }
}

static int64_t folder_bytes(const char *folder)
{
    static const char *const FILES[] = {"README.md",         "config.json",
                                        "model.safetensors", "generation_config.json",
                                        "tokenizer.json",    "tokenizer_config.json"};
    int64_t bytes = 0;
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        struct stat st;
        char *path = path_join(NULL, folder, FILES[i]);
        assert_int_equal(stat(path, &st), 0);
        bytes += st.st_size;
        mem_free(NULL, path);
    }
    return bytes;
}

static void models_stay_small(void **state)
{
    (void)state;
    assert_in_range(folder_bytes(MODELS "tiny"), 1000000, 8000000);
    assert_in_range(folder_bytes(MODELS "tiny-draft"), 100000, 2000000);
}

static void the_draft_speaks_the_same_tokens(void **state)
{
    (void)state;
    char *texts[2];
    size_t sizes[2];
    graft_error error = {0};
    assert_int_equal(
        file_read(NULL, MODELS "tiny/tokenizer.json", 1 << 24, &texts[0], &sizes[0], &error),
        GRAFT_OK);
    assert_int_equal(
        file_read(NULL, MODELS "tiny-draft/tokenizer.json", 1 << 24, &texts[1], &sizes[1], &error),
        GRAFT_OK);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(texts[0], texts[1], sizes[0]);
    mem_free(NULL, texts[0]);
    mem_free(NULL, texts[1]);
}

int main(void)
{
    graft_error error = {0};
    if (json_read(NULL, GRAFT_SOURCE_DIR "/tests/conformance/tiny_prompts.json", 1 << 24, &PINS,
                  &error) != GRAFT_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pinned_prompts_have_their_answers_on_every_tier),
        cmocka_unit_test(models_stay_small),
        cmocka_unit_test(the_draft_speaks_the_same_tokens),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(PINS);
    return failed;
}
