/* test_api.c: the public entries: runtime and its options, sizes of structs across versions, NULL,
 * fork, models, tokenizers, chat, conversion and inspection. What they compute is tested elsewhere.
 */
#include "kernels/kernels.h"
#include "unit/api_fixture.h"

#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct fixture F;

static char *TIER; /* of the environment, which the tests change */

static void restore_tier(void)
{
    if (TIER != NULL) {
        setenv("GRAFT_TIER", TIER, 1);
    } else {
        unsetenv("GRAFT_TIER");
    }
}

static int setup(void **state)
{
    (void)state;
    const char *tier = getenv("GRAFT_TIER");
    TIER = tier != NULL ? mem_strdup(NULL, tier) : NULL;
    F = open_fixture(NULL, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_fixture(&F);
    mem_free(NULL, TIER);
    return 0;
}

/* ---- runtime ---- */

/* Of the tests the first: what a process once was permitted stays so. It tells something where there is AMX. */
static void a_lower_tier_has_the_system_permit_nothing(void **state)
{
    (void)state;
#ifdef __x86_64__
    enum { GET_PERMITTED = 0x1022 };
    uint64_t before = 0, after = 0;
    graft_runtime_options o = graft_runtime_options_default();
    graft_runtime *runtime = NULL;
    graft_runtime_info info;
    if (syscall(SYS_arch_prctl, GET_PERMITTED, &before) != 0)
        skip(); /* a system older than the question */
    o.tier = "scalar";
    MUST(graft_runtime_open(&o, &runtime, error));
    MUST(graft_runtime_describe(runtime, &info, error));
    assert_int_equal(strncmp(info.tiers, "scalar", 6), 0);
    graft_runtime_close(&runtime);
    assert_int_equal(syscall(SYS_arch_prctl, GET_PERMITTED, &after), 0);
    assert_int_equal(after, before);
#else
    skip();
#endif
}

static void default_runtime_has_a_thread_per_processor_and_the_best_tier(void **state)
{
    (void)state;
    unsetenv("GRAFT_TIER");
    graft_runtime *runtime = NULL;
    MUST(graft_runtime_open(NULL, &runtime, error));
    graft_runtime_info info;
    MUST(graft_runtime_describe(runtime, &info, error));
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(info.cores, CPU_COUNT(&set));
    assert_int_equal(info.threads, info.cores);
    assert_non_null(strstr(info.tiers, "scalar"));
    const char *best = strrchr(info.tiers, ' ');
    assert_string_equal(info.tier, best != NULL ? best + 1 : info.tiers);
    assert_non_null(info.processor);
    graft_runtime_close(&runtime);
    assert_null(runtime);
    graft_runtime_close(&runtime);
    graft_runtime_close(NULL);
    restore_tier();
}

static void threads_follow_the_affinity_of_the_process(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before)) {
        cpu++;
    }
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    graft_runtime *runtime = NULL;
    MUST(graft_runtime_open(NULL, &runtime, error));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    graft_runtime_info info;
    MUST(graft_runtime_describe(runtime, &info, error));
    assert_int_equal(info.threads, 1);
    graft_runtime_close(&runtime);
}

static void tier_comes_from_the_option_then_the_environment(void **state)
{
    (void)state;
    graft_runtime_options o = graft_runtime_options_default();
    graft_runtime *runtime = NULL;
    graft_runtime_info info;
    graft_error why = {0};
    setenv("GRAFT_TIER", "turbo", 1);
    assert_int_equal(graft_runtime_open(NULL, &runtime, &why), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(why.message, "GRAFT_TIER: \"turbo\" is no processor tier"));
    assert_non_null(strstr(why.message, "this processor runs: scalar"));
    o.tier = "scalar"; /* wins */
    MUST(graft_runtime_open(&o, &runtime, error));
    graft_runtime_close(&runtime);
    setenv("GRAFT_TIER", "scalar", 1);
    MUST(graft_runtime_open(NULL, &runtime, error));
    MUST(graft_runtime_describe(runtime, &info, error));
    assert_string_equal(info.tier, "scalar");
    graft_runtime_close(&runtime);
    setenv("GRAFT_TIER", "", 1);
    MUST(graft_runtime_open(NULL, &runtime, error));
    graft_runtime_close(&runtime);
    unsetenv("GRAFT_TIER");
    o.tier = "avx2";
    if (kernels_is_tier_name(o.tier) && kernels_find(o.tier) == NULL) {
        assert_int_equal(graft_runtime_open(&o, &runtime, &why), GRAFT_UNSUPPORTED);
        assert_non_null(strstr(why.message, "a tier that this processor cannot run"));
    }
    assert_null(runtime);
    restore_tier();
}

static size_t N_LINES;

static void count_lines(void *user, graft_log_level level, const char *line)
{
    assert_ptr_equal(user, &N_LINES);
    assert_true(level <= GRAFT_LOG_DEBUG);
    assert_null(strchr(line, '\n'));
    N_LINES++;
}

static void *plain_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}

static void runtime_options_are_checked_and_used(void **state)
{
    (void)state;
    graft_runtime_options o = graft_runtime_options_default();
    graft_runtime *runtime = NULL;
    o.threads = -1;
    assert_int_equal(graft_runtime_open(&o, &runtime, NULL), GRAFT_INVALID_ARGUMENT);
    o.threads = 1025;
    assert_int_equal(graft_runtime_open(&o, &runtime, NULL), GRAFT_INVALID_ARGUMENT);
    o.threads = 3;
    o.allocator.alloc = plain_alloc;
    assert_int_equal(graft_runtime_open(&o, &runtime, NULL), GRAFT_INVALID_ARGUMENT);
    o.allocator.alloc = NULL;
    o.log = count_lines;
    o.log_user = &N_LINES;
    o.log_level = GRAFT_LOG_INFO;
    MUST(graft_runtime_open(&o, &runtime, error));
    assert_true(N_LINES > 0);
    graft_runtime_info info;
    MUST(graft_runtime_describe(runtime, &info, error));
    assert_int_equal(info.threads, 3);
    graft_runtime_close(&runtime);
}

/* Threads of this process that keep to one processor. */
static int count_bound_threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        cpu_set_t set;
        pid_t id = (pid_t)strtol(task->d_name, NULL, 10);
        n += id > 0 && sched_getaffinity(id, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
    }
    closedir(tasks);
    return n;
}

static void keep_line(void *user, graft_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 200, "%s", line);
}

static void workers_keep_to_processors_when_asked_to(void **state)
{
    (void)state;
    cpu_set_t before, after;
    char line[200] = "";
    graft_runtime *runtime = NULL;
    graft_runtime_options o = graft_runtime_options_default();
    assert_false(o.affinity);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int cores = CPU_COUNT(&before), bound = count_bound_threads();
    if (cores < 2) {
        skip(); /* all are bound as it is */
    }
    o.threads = cores;
    o.log = keep_line;
    o.log_user = line;
    MUST(graft_runtime_open(&o, &runtime, error));
    assert_int_equal(count_bound_threads(), bound);
    graft_runtime_close(&runtime);
    o.affinity = true;
    MUST(graft_runtime_open(&o, &runtime, error));
    assert_int_equal(count_bound_threads(), bound + cores - 1);
    assert_null(strstr(line, "affinity"));
    graft_runtime_close(&runtime);
    o.threads = cores + 3;
    MUST(graft_runtime_open(&o, &runtime, error));
    assert_int_equal(count_bound_threads(), bound + cores - 1);
    assert_non_null(strstr(line, "affinity: "));
    graft_runtime_close(&runtime);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

static void larger_context_than_the_model_is_allowed_and_logged(void **state)
{
    (void)state;
    graft_runtime_options o = graft_runtime_options_default();
    o.log = count_lines;
    o.log_user = &N_LINES;
    o.threads = 1;
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    MUST(graft_runtime_open(&o, &runtime, error));
    MUST(graft_model_open(runtime, F.dir, NULL, &model, error));
    graft_session_options so = sampled(1);
    graft_session *s = open_session(model, &so);
    assert_int_equal(graft_session_context(s), RM_CTX);
    graft_session_close(&s);
    size_t before = N_LINES;
    so.n_ctx = 2 * RM_CTX;
    s = open_session(model, &so);
    assert_int_equal(N_LINES, before + 1);
    assert_int_equal(graft_session_context(s), 2 * RM_CTX);
    graft_session_close(&s);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
}

/* ---- sizes of structs ---- */

static void options_of_an_older_program_keep_the_defaults_of_later_fields(void **state)
{
    (void)state;
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = 1;
    o.log_level = (graft_log_level)77; /* beyond what the older struct had: never read */
    o.log = count_lines;
    o.struct_size = offsetof(graft_runtime_options, log);
    graft_runtime *runtime = NULL;
    MUST(graft_runtime_open(&o, &runtime, error));
    assert_null(runtime->log);
    assert_int_equal(runtime->log_level, GRAFT_LOG_WARN);
    graft_runtime_close(&runtime);
    o.struct_size = 0;
    assert_int_equal(graft_runtime_open(&o, &runtime, NULL), GRAFT_INVALID_ARGUMENT);
}

struct newer {
    graft_model_options known;
    uint64_t unknown[2];
};

static void options_of_a_newer_program_must_be_zero_where_unknown(void **state)
{
    (void)state;
    struct newer o;
    graft_model_options_init(&o.known, sizeof o);
    assert_int_equal(o.known.struct_size, sizeof o);
    assert_int_equal(o.unknown[0] | o.unknown[1], 0);
    graft_model *model = NULL;
    MUST(graft_model_open(F.runtime, F.dir, &o.known, &model, error));
    graft_model_close(&model);
    o.unknown[1] = 1;
    assert_int_equal(graft_model_open(F.runtime, F.dir, &o.known, &model, NULL), GRAFT_UNSUPPORTED);
    unsigned char small[sizeof(size_t) + 1];
    memset(small, 0xAA, sizeof small);
    graft_model_options_init((graft_model_options *)(void *)small, sizeof(size_t));
    assert_int_equal(small[sizeof(size_t)], 0xAA); /* not past what the caller has */
    graft_model_options_init(NULL, sizeof o);
}

static void sampling_has_one_size_and_zero_reserve(void **state)
{
    (void)state;
    graft_session_options o = graft_session_options_default();
    graft_session *s = NULL;
    o.sampling.struct_size = 0;
    assert_int_equal(graft_session_open(F.model, &o, &s, NULL), GRAFT_INVALID_ARGUMENT);
    o = graft_session_options_default();
    o.sampling.reserved[5] = 1;
    assert_int_equal(graft_session_open(F.model, &o, &s, NULL), GRAFT_UNSUPPORTED);
    o = graft_session_options_default();
    assert_true(o.sampling.temperature == 0.8f && o.sampling.top_k == 40);
    assert_true(o.prefill_chunk == 256 && o.n_ctx == 0 && o.cache_k == GRAFT_KV_F16);
}

/* ---- NULL ---- */

static void null_is_an_invalid_argument(void **state)
{
    (void)state;
    graft_error why = {0};
    graft_session *s = open_session(F.model, NULL);
    graft_runtime_info runtime_info;
    graft_model_info model_info;
    graft_tokenizer_info tokenizer_info;
    graft_model *model;
    graft_tokenizer *tokenizer;
    graft_token_id id = 1, *ids;
    float f;
    char *text;
    size_t n;
    const graft_tokenizer *t = graft_model_tokenizer(F.model);
    const graft_status got[] = {
        graft_runtime_open(NULL, NULL, &why),
        graft_runtime_describe(NULL, &runtime_info, &why),
        graft_runtime_describe(F.runtime, NULL, &why),
        graft_model_open(NULL, F.dir, NULL, &model, &why),
        graft_model_open(F.runtime, NULL, NULL, &model, &why),
        graft_model_open(F.runtime, F.dir, NULL, NULL, &why),
        graft_model_describe(NULL, &model_info, &why),
        graft_model_describe(F.model, NULL, &why),
        graft_tokenizer_open(F.runtime, NULL, &tokenizer, &why),
        graft_tokenizer_describe(NULL, &tokenizer_info, &why),
        graft_tokenize(NULL, "x", 1, 0, &ids, &n, &why),
        graft_tokenize(t, NULL, 1, 0, &ids, &n, &why),
        graft_tokenize(t, "x", 1, 0, NULL, &n, &why),
        graft_tokenize(t, "x", 1, 64, &ids, &n, &why),
        graft_detokenize(t, NULL, 1, false, &text, &n, &why),
        graft_detokenize(t, &id, 1, false, NULL, &n, &why),
        graft_chat_render(NULL, NULL, 0, true, &text, &n, &why),
        graft_chat_render(F.model, NULL, 1, true, &text, &n, &why),
        graft_chat_render_json(F.model, NULL, &text, &n, &why),
        graft_inspect(F.runtime, NULL, &text, &why),
        graft_convert(F.runtime, F.dir, NULL, NULL, &why),
        graft_session_open(NULL, NULL, &s, &why),
        graft_session_open(F.model, NULL, NULL, &why),
        graft_session_prompt(NULL, &id, 1, NULL, NULL, &why),
        graft_session_prompt(s, NULL, 1, NULL, NULL, &why),
        graft_session_prompt_text(s, NULL, 1, &why),
        graft_session_next(NULL, NULL, &why),
        graft_session_next(s, NULL, &why),
        graft_session_generate(NULL, 1, NULL, NULL, &why),
        graft_session_trim(NULL, 0, &why),
        graft_session_set_sampling(s, NULL, &why),
        graft_session_top(s, 1, NULL, &f, &why),
        graft_session_logits(s, &id, 1, (graft_row_role)5, &f, &why),
        graft_session_score(s, NULL, 1, &f, &why),
        graft_session_embedding(s, &id, 1, (graft_pooling)5, &f, &why),
        graft_session_classify(s, &id, 1, NULL, &why),
    };
    for (size_t i = 0; i < ARRAY_LEN(got); i++) {
        if (got[i] != GRAFT_INVALID_ARGUMENT) {
            fail_msg("call %zu gave %s", i, graft_status_text(got[i]));
        }
    }
    assert_int_equal(graft_session_finish(NULL), GRAFT_FINISH_NONE);
    assert_int_equal(graft_session_length(NULL), 0);
    assert_null(graft_session_tokens(NULL, &n));
    assert_int_equal(graft_session_context(NULL), 0);
    assert_int_equal(graft_session_kv_bytes(NULL), 0);
    assert_null(graft_model_tokenizer(NULL));
    assert_null(graft_model_label(NULL, 0));
    assert_true(graft_sampling_for(NULL).temperature == 0.8f);
    graft_session_resume(NULL);
    graft_session_close(NULL);
    graft_model_close(NULL);
    graft_tokenizer_close(NULL);
    graft_free(NULL, NULL);
    graft_free(F.runtime, NULL);
    graft_session_close(&s);
    graft_session_close(&s);
}

static void finishes_have_names(void **state)
{
    (void)state;
    assert_string_equal(graft_finish_name(GRAFT_FINISH_EOS), "eos");
    assert_string_equal(graft_finish_name(GRAFT_FINISH_CANCELLED), "cancelled");
    assert_string_equal(graft_finish_name((graft_finish)99), "unknown");
}

/* ---- fork ---- */

/* In the child: 0 when every call that works says FORKED and every close returns. */
static int calls_in_child(graft_session *s)
{
    graft_token token;
    graft_token_id id = 1, *ids;
    graft_model *model = NULL;
    graft_runtime_info info;
    size_t n;
    float out[RM_VOCAB];
    const graft_status got[] = {
        graft_session_next(s, &token, NULL),
        graft_session_prompt(s, &id, 1, NULL, NULL, NULL),
        graft_session_prompt_text(s, "x", 1, NULL),
        graft_session_generate(s, 1, NULL, NULL, NULL),
        graft_session_trim(s, 0, NULL),
        graft_session_score(s, &id, 1, out, NULL),
        graft_model_open(F.runtime, F.dir, NULL, &model, NULL),
        graft_session_open(F.model, NULL, &s, NULL),
        graft_tokenize(graft_model_tokenizer(F.model), "x", 1, 0, &ids, &n, NULL),
        graft_runtime_describe(F.runtime, &info, NULL),
        graft_inspect(F.runtime, F.dir, (char **)&model, NULL),
    };
    for (size_t i = 0; i < ARRAY_LEN(got); i++) {
        if (got[i] != GRAFT_FORKED) {
            return 1;
        }
    }
    graft_session_close(&s);
    graft_model_close(&F.model);
    graft_runtime_close(&F.runtime);
#ifndef __SANITIZE_THREAD__    /* which forbids threads in a child made by fork */
    graft_runtime *own = NULL; /* a new one works */
    if (graft_runtime_open(NULL, &own, NULL) != GRAFT_OK) {
        return 2;
    }
    graft_runtime_close(&own);
#endif
    return 0;
}

static void use_after_fork_is_an_error_and_closing_is_not(void **state)
{
    (void)state;
    graft_session *s = open_session(F.model, NULL);
    MUST(graft_session_prompt_text(s, "Hello", 5, error));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(calls_in_child(s));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    graft_token token;
    MUST(graft_session_next(s, &token, error)); /* the parent goes on */
    graft_session_close(&s);
}

/* ---- models ---- */

static void model_tells_what_it_is(void **state)
{
    (void)state;
    graft_model_info info;
    MUST(graft_model_describe(F.model, &info, error));
    assert_string_equal(info.architecture, "LlamaForCausalLM");
    assert_string_equal(info.path, F.dir);
    assert_int_equal(info.n_layer, RM_LAYERS);
    assert_int_equal(info.d_model, RM_MODEL);
    assert_int_equal(info.n_vocab, RM_VOCAB);
    assert_int_equal(info.n_ctx, RM_CTX);
    assert_int_equal(info.n_labels, 0);
    assert_true(info.has_tokenizer && info.has_chat_template);
    uint64_t layer = 2 * RM_MODEL + 2 * RM_MODEL * RM_HEADS * RM_HEAD +
                     2 * RM_MODEL * RM_KV * RM_HEAD + 3 * RM_MODEL * RM_FF;
    assert_int_equal(info.n_params, RM_LAYERS * layer + RM_MODEL + 2 * RM_VOCAB * RM_MODEL);
    assert_int_equal(info.weight_bytes, 4 * info.n_params);
}

static void model_that_is_not_there_is_not_found(void **state)
{
    (void)state;
    graft_model *model = NULL;
    graft_tokenizer *tokenizer = NULL;
    graft_error why = {0};
    assert_int_equal(graft_model_open(F.runtime, "/nowhere/at/all", NULL, &model, &why),
                     GRAFT_NOT_FOUND);
    assert_int_equal(graft_tokenizer_open(F.runtime, "/nowhere/at/all", &tokenizer, &why),
                     GRAFT_NOT_FOUND);
    graft_model_options o = graft_model_options_default();
    o.load = (graft_load)7;
    assert_int_equal(graft_model_open(F.runtime, F.dir, &o, &model, &why), GRAFT_INVALID_ARGUMENT);
    assert_null(model);
}

static void copied_model_gives_the_text_of_a_mapped_one(void **state)
{
    (void)state;
    graft_model_options o = graft_model_options_default();
    o.load = GRAFT_LOAD_COPY;
    graft_model *copy = NULL;
    MUST(graft_model_open(F.runtime, F.dir, &o, &copy, error));
    graft_session_options so = sampled(1);
    struct answer *a = solo(F.model, &so, "Hello", 30), *b = solo(copy, &so, "Hello", 30);
    assert_same_answer(a, b);
    answer_free(a);
    answer_free(b);
    graft_model_close(&copy);
}

/* ---- tokenizer ---- */

static void assert_tokenizes(const graft_tokenizer *t, const char *text, int flags,
                             const graft_token_id *want, size_t n_want)
{
    graft_token_id *ids = NULL;
    size_t n = 99;
    MUST(graft_tokenize(t, text, strlen(text), flags, &ids, &n, error));
    assert_int_equal(n, n_want);
    assert_non_null(ids);
    if (n > 0) {
        assert_memory_equal(ids, want, n * sizeof *ids);
    }
    graft_free(F.runtime, ids);
}

static void tokenizer_works_both_ways(void **state)
{
    (void)state;
    char *path = path_join(NULL, F.dir, "tokenizer.json");
    graft_tokenizer *own[2] = {NULL};
    MUST(graft_tokenizer_open(F.runtime, F.dir, &own[0], error));
    MUST(graft_tokenizer_open(F.runtime, path, &own[1], error));
    const graft_tokenizer *all[] = {own[0], own[1], graft_model_tokenizer(F.model)};
    static const graft_token_id HI[] = {RM_BOS, 'H', 'i'}, ODD[] = {'<', 's', '>', RM_BOS};
    for (size_t i = 0; i < 3; i++) {
        assert_tokenizes(all[i], "Hi", GRAFT_TOKENIZE_BOS, HI, 3);
        assert_tokenizes(all[i], "Hi", 0, HI + 1, 2);
        assert_tokenizes(all[i], "", 0, NULL, 0);
        assert_tokenizes(all[i], "<s>", 0, ODD, 3);
        assert_tokenizes(all[i], "<s>", GRAFT_TOKENIZE_SPECIAL, ODD + 3, 1);
        graft_tokenizer_info info;
        MUST(graft_tokenizer_describe(all[i], &info, error));
        assert_string_equal(info.kind, "byte-level BPE");
        assert_int_equal(info.size, 259);
        char *text = NULL;
        size_t size = 0;
        MUST(graft_detokenize(all[i], HI, 3, true, &text, &size, error));
        assert_string_equal(text, "<s>Hi");
        graft_free(F.runtime, text);
        MUST(graft_detokenize(all[i], NULL, 0, true, &text, &size, error));
        assert_string_equal(text, "");
        assert_int_equal(size, 0);
        graft_free(F.runtime, text);
        graft_token_id outside = 259;
        assert_int_equal(graft_detokenize(all[i], &outside, 1, true, &text, &size, NULL),
                         GRAFT_INVALID_ARGUMENT);
        assert_memory_equal(graft_token_bytes(all[i], RM_BOS, &size), "<s>", 3);
        assert_int_equal(size, 3);
        assert_memory_equal(graft_token_bytes(all[i], 'H', &size), "H", 1);
        assert_int_equal(size, 1);
        assert_string_equal(graft_token_bytes(all[i], outside, &size), "");
        assert_int_equal(size, 0);
    }
    size_t none = 1;
    assert_string_equal(graft_token_bytes(NULL, 'H', &none), "");
    assert_int_equal(none, 0);
    mem_free(NULL, path);
    graft_tokenizer_close(&own[0]);
    graft_tokenizer_close(&own[1]);
    graft_tokenizer_close(&own[1]);
}

static void file_that_is_no_tokenizer_is_named(void **state)
{
    (void)state;
    graft_tokenizer *tokenizer = NULL;
    static const char *const NAMES[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        char *path = path_join(NULL, F.dir, NAMES[i]);
        graft_error error = {0};
        assert_int_equal(graft_tokenizer_open(F.runtime, path, &tokenizer, &error), GRAFT_FORMAT);
        assert_string_equal(error.file, path);
        assert_null(tokenizer);
        mem_free(NULL, path);
    }
}

/* ---- chat ---- */

static void chat_renders_the_template_of_the_model(void **state)
{
    (void)state;
    static const graft_message MESSAGES[] = {{"system", "Be kind."}, {"user", "Grüße, \"you\""}};
    char *text = NULL;
    size_t size = 0;
    MUST(graft_chat_render(F.model, MESSAGES, 2, true, &text, &size, error));
    static const char WANT[] = "<s>[system] Be kind.</s>[user] Grüße, \"you\"</s>[assistant] .";
    assert_string_equal(text, WANT);
    assert_int_equal(size, strlen(WANT));
    graft_free(F.runtime, text);
    MUST(graft_chat_render(F.model, MESSAGES, 0, false, &text, &size, error));
    assert_string_equal(text, "<s>.");
    graft_free(F.runtime, text);
    MUST(graft_chat_render_json(F.model,
                                "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
                                "\"tools\": [], \"bos_token\": \"!\"}",
                                &text, &size, error));
    assert_string_equal(text, "![user] Hi</s>");
    graft_free(F.runtime, text);
}

static void chat_refuses_what_is_no_chat(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    graft_error why = {0};
    static const graft_message BAD[][1] = {{{"user", "\xFF"}}, {{"\xC3", "x"}}, {{"user", NULL}}};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(graft_chat_render(F.model, BAD[i], 1, true, &text, &size, &why),
                         GRAFT_INVALID_ARGUMENT);
        assert_non_null(strstr(why.message, "message 0"));
    }
    assert_int_equal(graft_chat_render_json(F.model, "{", &text, &size, NULL), GRAFT_FORMAT);
    assert_int_equal(graft_chat_render_json(F.model, "[]", &text, &size, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_chat_render_json(F.model, "{\"messages\": 3}", &text, &size, NULL),
                     GRAFT_INVALID_ARGUMENT);
    struct random_model m = {.no_template = true};
    struct fixture f = open_fixture(&m, 1);
    assert_int_equal(graft_chat_render(f.model, NULL, 0, true, &text, &size, NULL),
                     GRAFT_NOT_FOUND);
    assert_int_equal(graft_chat_render_json(f.model, "{}", &text, &size, NULL), GRAFT_NOT_FOUND);
    assert_null(text);
    close_fixture(&f);
}

/* ---- conversion and inspection ---- */

static void converted_model_opens_and_says_the_same(void **state)
{
    (void)state;
    char *gguf = path_join(NULL, F.dir, "out.gguf");
    graft_convert_options o = graft_convert_options_default();
    o.type = "f32";
    MUST(graft_convert(F.runtime, F.dir, gguf, &o, error));
    graft_model *model = NULL;
    MUST(graft_model_open(F.runtime, gguf, NULL, &model, error));
    graft_session_options so = sampled(1);
    struct answer *a = solo(F.model, &so, "Hello", 40), *b = solo(model, &so, "Hello", 40);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_string_equal(a->text.data, b->text.data);
    answer_free(a);
    answer_free(b);
    graft_model_close(&model);
    graft_tokenizer *tokenizer = NULL; /* a GGUF holds one too */
    MUST(graft_tokenizer_open(F.runtime, gguf, &tokenizer, error));
    static const graft_token_id HI[] = {'H', 'i'};
    assert_tokenizes(tokenizer, "Hi", 0, HI, 2);
    graft_tokenizer_close(&tokenizer);
    MUST(graft_convert(F.runtime, F.dir, gguf, NULL, error)); /* q8_0 */
    char *json = NULL;
    MUST(graft_inspect(F.runtime, gguf, &json, error));
    assert_non_null(strstr(json, "Q8_0"));
    graft_free(F.runtime, json);
    o.struct_size = 1;
    assert_int_equal(graft_convert(F.runtime, F.dir, gguf, &o, NULL), GRAFT_INVALID_ARGUMENT);
    o = graft_convert_options_default();
    o.format = (graft_format)4;
    assert_int_equal(graft_convert(F.runtime, F.dir, gguf, &o, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_convert(F.runtime, "/nowhere", gguf, NULL, NULL), GRAFT_NOT_FOUND);
    assert_int_equal(graft_inspect(F.runtime, "/nowhere", &json, NULL), GRAFT_NOT_FOUND);
    unlink(gguf);
    mem_free(NULL, gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lower_tier_has_the_system_permit_nothing),
        cmocka_unit_test(default_runtime_has_a_thread_per_processor_and_the_best_tier),
        cmocka_unit_test(threads_follow_the_affinity_of_the_process),
        cmocka_unit_test(tier_comes_from_the_option_then_the_environment),
        cmocka_unit_test(runtime_options_are_checked_and_used),
        cmocka_unit_test(workers_keep_to_processors_when_asked_to),
        cmocka_unit_test(larger_context_than_the_model_is_allowed_and_logged),
        cmocka_unit_test(options_of_an_older_program_keep_the_defaults_of_later_fields),
        cmocka_unit_test(options_of_a_newer_program_must_be_zero_where_unknown),
        cmocka_unit_test(sampling_has_one_size_and_zero_reserve),
        cmocka_unit_test(null_is_an_invalid_argument),
        cmocka_unit_test(finishes_have_names),
        cmocka_unit_test(use_after_fork_is_an_error_and_closing_is_not),
        cmocka_unit_test(model_tells_what_it_is),
        cmocka_unit_test(model_that_is_not_there_is_not_found),
        cmocka_unit_test(copied_model_gives_the_text_of_a_mapped_one),
        cmocka_unit_test(tokenizer_works_both_ways),
        cmocka_unit_test(file_that_is_no_tokenizer_is_named),
        cmocka_unit_test(chat_renders_the_template_of_the_model),
        cmocka_unit_test(chat_refuses_what_is_no_chat),
        cmocka_unit_test(converted_model_opens_and_says_the_same),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
