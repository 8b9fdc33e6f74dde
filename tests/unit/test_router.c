/* test_router.c: routers: files of prompts, picks by top-k and temperature, files that are hostile, and the public
 * functions on a small random model.
 */
#include "unit/api_fixture.h"
#include "unit/failing_allocator.h"

#include "generate/router/router.h"

#include <math.h>
#include <pthread.h>

static char dir[] = "/tmp/graft-router-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) != NULL ? 0 : 1;
}

/* DIR/NAME, of two at a time. */
static const char *at(const char *name)
{
    static char paths[2][128];
    static int next;
    next = !next;
    snprintf(paths[next], sizeof paths[next], "%s/%s", dir, name);
    return paths[next];
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"prompts.jsonl", "more.jsonl", "router", "again",
                                        "router.safetensors"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        unlink(at(names[i]));
    }
    return rmdir(dir);
}

static void put(const char *name, const char *bytes, size_t size)
{
    MUST(file_write_atomic(NULL, at(name), bytes, size, error));
}

/* ---- prompts -------------------------------------------------------------------------------- */

static void prompts_are_read_from_lines_and_from_arrays(void **state)
{
    (void)state;
    static const char lines[] =
        "{\"prompt\":\"Sort these.\",\"adapter\":\"coder\"}\n\n"
        "{\"adapter\":\"base\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"assistant\",\"content\":\"Hello.\"},{\"role\":\"user\",\"content\":"
        "\"A\\u0000b\"}]}";
    static const char array[] = "[{\"prompt\":\"x\",\"adapter\":\"coder@1.0.0\",\"task\":1}]";
    struct router_prompts p;
    router_prompts_init(&p, NULL);
    MUST(router_prompts_parse(&p, "lines", lines, sizeof lines - 1, error));
    MUST(router_prompts_parse(&p, "array", array, sizeof array - 1, error));
    assert_int_equal(p.n, 3);
    assert_string_equal(p.items[0].text, "Sort these.");
    assert_string_equal(p.items[0].label, "coder");
    assert_int_equal(p.items[1].line, 3);
    assert_int_equal(p.items[1].size, 3);
    assert_memory_equal(p.items[1].text, "A\0b", 3);
    assert_string_equal(p.items[2].label, "coder@1.0.0");
    assert_string_equal(p.items[2].file, "array");
    router_prompts_free(&p);
}

static void a_record_that_is_wrong_is_told_with_its_line(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"{\"prompt\":\"x\"}", "its \"adapter\""},
        {"{\"prompt\":\"x\",\"adapter\":3}", "its \"adapter\""},
        {"{\"prompt\":\"x\",\"adapter\":\"a b\"}", "its \"adapter\""},
        {"{\"prompt\":\"x\",\"adapter\":\"../x\"}", "its \"adapter\""},
        {"{\"prompt\":\"x\",\"adapter\":\"a=2\"}", "its \"adapter\""},
        {"{\"prompt\":\"x\",\"adapter\":\"a\\u0000b\"}", "its \"adapter\""},
        {"{\"prompt\":\"\",\"adapter\":\"a\"}", "its \"prompt\""},
        {"{\"prompt\":[],\"adapter\":\"a\"}", "its \"prompt\""},
        {"{\"adapter\":\"a\"}", "not one of"},
        {"{\"prompt\":\"x\",\"messages\":[],\"adapter\":\"a\"}", "not one of"},
        {"{\"messages\":[{\"role\":\"system\",\"content\":\"x\"}],\"adapter\":\"a\"}",
         "its \"messages\""},
        {"{\"messages\":3,\"adapter\":\"a\"}", "its \"messages\""},
        {"[1]", "no JSON object"},
        {"{\"prompt\":\"x\",", "not JSON"},
    };
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct router_prompts p;
        graft_error why;
        int n =
            snprintf(text, sizeof text, "{\"prompt\":\"x\",\"adapter\":\"a\"}\n%s\n", wrong[i][0]);
        router_prompts_init(&p, NULL);
        assert_int_equal(router_prompts_parse(&p, "file", text, (size_t)n, &why), GRAFT_FORMAT);
        assert_non_null(strstr(why.message, "line 2: "));
        assert_non_null(strstr(why.message, wrong[i][1]));
        assert_string_equal(why.file, "file");
        assert_int_equal(router_prompts_parse(&p, "file", " \n", 2, &why), GRAFT_FORMAT);
        assert_non_null(strstr(why.message, "no prompt"));
        router_prompts_free(&p);
    }
}

/* ---- routers on a model --------------------------------------------------------------------- */

/* Three ways to ask, 40 times each; byte by byte they differ in what they are made of. */
static void write_prompts(const char *name, int first)
{
    struct buf text;
    buf_init(&text, NULL, 1 << 20);
    for (int i = first; i < first + 40; i++) {
        buf_printf(&text, "{\"prompt\":\"((%d)) {x} == [y];\",\"adapter\":\"coder\"}\n", i);
        buf_printf(&text, "{\"prompt\":\"sun and moon %d and sea\",\"adapter\":\"poet\"}\n", i);
        buf_printf(&text, "{\"prompt\":\"HELLO %d THERE\",\"adapter\":\"base\"}\n", i);
    }
    put(name, text.data, text.size);
    buf_free(&text);
}

static graft_router *train(graft_model *model)
{
    graft_router *router = NULL;
    const char *path = at("prompts.jsonl");
    write_prompts("prompts.jsonl", 0);
    MUST(graft_router_train(model, &path, 1, NULL, &router, error));
    return router;
}

static void a_router_learns_what_prompts_ask_for(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 2);
    graft_router *router = train(f.model);
    graft_router_info info;
    MUST(graft_router_describe(router, &info, error));
    assert_int_equal(info.n_labels, 3);
    assert_string_equal(info.labels[0], "base");
    assert_string_equal(info.labels[2], "poet");
    assert_int_equal(info.examples, 96);
    assert_int_equal(info.held_out, 24);
    assert_int_equal(info.held_out_right, 24);
    int64_t confusion[9], held_out = 0, all = 0;
    for (int i = 0; i < 9; i++) {
        held_out += info.confusion[i];
    }
    assert_int_equal(held_out, 24);
    write_prompts("more.jsonl", 500);
    const char *path = at("more.jsonl");
    MUST(graft_router_evaluate(router, &path, 1, NULL, NULL, confusion, error));
    for (int i = 0; i < 9; i++) {
        all += confusion[i];
        assert_true(i % 4 == 0 ? confusion[i] == 40 : confusion[i] == 0);
    }
    assert_int_equal(all, 120);
    graft_router_close(&router);
    close_fixture(&f);
}

static void threads_change_no_byte_of_a_router(void **state)
{
    (void)state;
    struct random_model plain = {0};
    char *folder = random_model_make(&plain);
    char *bytes[2];
    size_t size[2];
    for (int t = 0; t < 2; t++) {
        graft_model *model = NULL;
        graft_runtime *runtime = open_runtime(t + 1);
        MUST(graft_model_open(runtime, folder, NULL, &model, error));
        graft_router *router = train(model);
        MUST(graft_router_write(router, at("router"), error));
        MUST(file_read(NULL, at("router"), 1 << 20, &bytes[t], &size[t], error));
        graft_router_close(&router);
        graft_model_close(&model);
        graft_runtime_close(&runtime);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    mem_free(NULL, bytes[0]);
    mem_free(NULL, bytes[1]);
    random_model_remove(folder);
}

static void route(graft_router *router, size_t top_k, double temperature, graft_route *out)
{
    static const char prompt[] = "moon ((7)) AND";
    MUST(graft_router_route(router, prompt, sizeof prompt - 1, top_k, temperature, out, error));
}

static void picks_obey_the_laws_of_top_k_and_temperature(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 1);
    graft_router *router = train(f.model);
    graft_route all[3], some[3];
    route(router, 3, 1, all);
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        sum += all[i].probability;
        assert_true(i == 0 || all[i].probability <= all[i - 1].probability);
        assert_true(fabs(all[i].weight - all[i].probability) < 1e-12);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    for (size_t k = 1; k <= 3; k++) {
        double weights = 0;
        route(router, k, 1, some);
        for (size_t i = 0; i < k; i++) {
            assert_string_equal(some[i].label, all[i].label);
            assert_true(some[i].probability == all[i].probability);
            weights += some[i].weight;
            assert_true(fabs(some[i].weight / some[0].weight -
                             all[i].probability / all[0].probability) < 1e-12);
        }
        assert_true(fabs(weights - 1) < 1e-12);
    }
    /* log(p0 / p1) is the distance of two scores over the temperature. */
    const double distance = log(all[0].probability / all[1].probability);
    for (double t = 0.5; t < 64; t *= 2) {
        route(router, 3, t, some);
        assert_string_equal(some[0].label, all[0].label);
        assert_true(fabs(log(some[0].probability / some[1].probability) - distance / t) < 1e-9);
    }
    route(router, 3, 1e-6, some);
    assert_true(some[0].probability > 1 - 1e-12);
    route(router, 3, 1e9, some);
    assert_true(fabs(some[2].probability - 1.0 / 3) < 1e-6);
    graft_router_close(&router);
    close_fixture(&f);
}

/* The table of the file at a name. */
static struct router_table table_of(const char *name)
{
    struct router_table t;
    struct file_map map;
    MUST(file_map_open(&map, NULL, at(name), MAP_COPY, error));
    MUST(router_table_parse(&t, NULL, map.data, map.size, error));
    file_map_close(&map);
    return t;
}

static void a_router_that_was_written_picks_as_before_by_the_mean_of_hidden_states(void **state)
{
    (void)state;
    static const char prompt[] = "moon ((7)) AND";
    struct fixture f = open_fixture(NULL, 1);
    graft_router *router = train(f.model), *again = NULL, *folder = NULL;
    graft_route before[3], after[3];
    MUST(graft_router_write(router, at("router"), error));
    MUST(graft_router_open(f.runtime, f.model, at("router"), &again, error));
    route(router, 3, 1, before);
    route(again, 3, 1, after);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(before[i].label, after[i].label);
        assert_true(before[i].probability == after[i].probability);
    }
    MUST(graft_router_write(again, at("router.safetensors"), error));
    MUST(graft_router_open(f.runtime, f.model, dir, &folder, error));
    graft_router_close(&folder);

    struct router_table t = table_of("router");
    graft_token_id *ids = NULL;
    size_t n = 0;
    float *mean = calloc((size_t)t.width, sizeof *mean);
    double scores[3], sum = 0;
    graft_session_options o = sampled(0);
    o.cache_k = o.cache_v = GRAFT_KV_F32;
    graft_session *s = open_session(f.model, &o);
    graft_tokenizer_info info;
    MUST(graft_tokenizer_describe(graft_model_tokenizer(f.model), &info, error));
    MUST(graft_tokenize(graft_model_tokenizer(f.model), prompt, sizeof prompt - 1,
                        info.adds_bos ? GRAFT_TOKENIZE_BOS : 0, &ids, &n, error));
    MUST(graft_session_embedding(s, ids, n, GRAFT_POOL_MEAN, mean, error));
    for (int c = 0; c < 3; c++) {
        scores[c] = (double)t.bias[c];
        for (int j = 0; j < t.width; j++) {
            scores[c] += (double)t.weight[c * t.width + j] *
                         (((double)mean[j] - (double)t.mean[j]) * (double)t.scale[j]);
        }
        sum += exp(scores[c]);
    }
    for (int i = 0; i < 3; i++) {
        double want = exp(scores[router_label(&t, before[i].label)]) / sum;
        assert_true(fabs(before[i].probability - want) < 1e-4);
    }
    free(mean);
    graft_free(f.runtime, ids);
    graft_session_close(&s);
    router_table_free(&t);
    graft_router_close(&router);
    graft_router_close(&again);
    close_fixture(&f);
}

/* What a thread makes of one prompt again and again. */
static void *route_often(void *user)
{
    graft_router *router = user;
    graft_route first[3], other[3];
    bool same = true;
    route(router, 3, 1, first);
    for (int i = 0; i < 20; i++) {
        route(router, 3, 1, other);
        same = same && other[0].probability == first[0].probability;
    }
    return same ? user : NULL;
}

static void threads_may_share_a_router(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 2);
    graft_router *router = train(f.model);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, route_often, router), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *same = NULL;
        pthread_join(threads[i], &same);
        assert_ptr_equal(same, router);
    }
    graft_router_close(&router);
    close_fixture(&f);
}

static void a_prompt_of_any_length_has_a_route(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 1);
    graft_router *router = train(f.model);
    char *text = calloc(1, 1 << 16);
    graft_route of_long[1], of_other[1];
    memset(text, 'a', 1 << 16);
    MUST(graft_router_route(router, text, 1 << 16, 1, 1, of_long, error));
    memset(text + (1 << 15), '(', 100); /* in the middle, where it does not look */
    MUST(graft_router_route(router, text, 1 << 16, 1, 1, of_other, error));
    assert_true(of_long[0].probability == of_other[0].probability);
    free(text);
    graft_router_close(&router);
    close_fixture(&f);
}

static bool stop_now(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user;
    (void)total;
    assert_non_null(what);
    return done < 5;
}

static void assert_untrained(graft_model *model, const char *prompts,
                             const graft_router_options *options, graft_status want,
                             const char *words)
{
    graft_router *router = NULL;
    graft_error why;
    const char *path = at("more.jsonl");
    put("more.jsonl", prompts, strlen(prompts));
    assert_int_equal(graft_router_train(model, &path, 1, options, &router, &why), want);
    assert_non_null(strstr(why.message, words));
    assert_null(router);
}

static void what_training_refuses(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 1);
    graft_router_options o = graft_router_options_default();
    static const char two[] =
        "{\"prompt\":\"x\",\"adapter\":\"a\"}\n{\"prompt\":\"y\",\"adapter\":\"b\"}\n";
    o.held_out_share = 0;
    o.l2 = 0;
    assert_untrained(f.model, two, &o, GRAFT_INVALID_ARGUMENT, "l2");
    o.l2 = NAN;
    assert_untrained(f.model, two, &o, GRAFT_INVALID_ARGUMENT, "l2");
    o = graft_router_options_default();
    o.held_out_share = 1;
    assert_untrained(f.model, two, &o, GRAFT_INVALID_ARGUMENT, "held out");
    o.held_out_share = 0.9;
    assert_untrained(f.model, two, &o, GRAFT_INVALID_ARGUMENT, "left to train on");
    assert_untrained(f.model, "{\"prompt\":\"x\",\"adapter\":\"a\"}", NULL, GRAFT_INVALID_ARGUMENT,
                     "1 label,");
    assert_untrained(f.model, "", NULL, GRAFT_FORMAT, "no prompt");
    o = graft_router_options_default();
    o.progress = stop_now;
    struct buf many;
    buf_init(&many, NULL, 1 << 20);
    for (int i = 0; i < 20; i++) {
        buf_printf(&many, "{\"prompt\":\"%d\",\"adapter\":\"%s\"}\n", i, i % 2 ? "a" : "b");
    }
    assert_untrained(f.model, many.data, &o, GRAFT_CANCELLED, "cancelled");
    buf_free(&many);
    graft_router *router = NULL;
    graft_error why;
    const char *path = at("no-such-file");
    assert_int_equal(graft_router_train(f.model, &path, 1, NULL, &router, &why), GRAFT_NOT_FOUND);
    assert_int_equal(graft_router_train(f.model, &path, 0, NULL, &router, &why),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_router_train(NULL, &path, 1, NULL, &router, &why),
                     GRAFT_INVALID_ARGUMENT);
    close_fixture(&f);
}

static void a_text_that_is_there_twice_is_on_one_side(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 1);
    struct buf text;
    graft_router *router = NULL;
    graft_router_info info;
    buf_init(&text, NULL, 1 << 20);
    for (int i = 0; i < 40; i++) {
        buf_printf(&text, "{\"prompt\":\"p%d\",\"adapter\":\"%s\"}\n", i / 4,
                   i / 4 % 2 ? "a" : "b");
    }
    put("prompts.jsonl", text.data, text.size);
    const char *path = at("prompts.jsonl");
    MUST(graft_router_train(f.model, &path, 1, NULL, &router, error));
    MUST(graft_router_describe(router, &info, error));
    assert_int_equal(info.held_out, 8);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(info.confusion[i] % 4, 0);
    }
    graft_router_close(&router);
    buf_free(&text);
    close_fixture(&f);
}

static void what_routing_refuses(void **state)
{
    (void)state;
    struct fixture f = open_fixture(NULL, 1);
    struct random_model classifier = {.classifier = true};
    struct fixture g = open_fixture(&classifier, 1);
    graft_router *router = train(f.model), *bare = NULL;
    graft_route routes[3];
    graft_error why;
    int64_t confusion[9];
    for (size_t k = 0; k < 5; k += 4) {
        assert_int_equal(graft_router_route(router, "x", 1, k, 1, routes, &why),
                         GRAFT_INVALID_ARGUMENT);
    }
    assert_int_equal(graft_router_route(router, "x", 1, SIZE_MAX, 1, routes, &why),
                     GRAFT_INVALID_ARGUMENT);
    const double temperatures[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < ARRAY_LEN(temperatures); i++) {
        assert_int_equal(graft_router_route(router, "x", 1, 1, temperatures[i], routes, &why),
                         GRAFT_INVALID_ARGUMENT);
    }
    assert_int_equal(graft_router_route(router, "", 0, 1, 1, routes, &why), GRAFT_INVALID_ARGUMENT);
    static const char unknown[] =
        "{\"prompt\":\"x\",\"adapter\":\"coder\"}\n{\"prompt\":\"x\",\"adapter\":\"cook\"}";
    put("more.jsonl", unknown, sizeof unknown - 1);
    const char *path = at("more.jsonl");
    assert_int_equal(graft_router_evaluate(router, &path, 1, NULL, NULL, confusion, &why),
                     GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "line 2: the router has no label \"cook\""));
    MUST(graft_router_write(router, at("router"), error));
    MUST(graft_router_open(f.runtime, NULL, at("router"), &bare, error));
    assert_int_equal(graft_router_route(bare, "x", 1, 1, 1, routes, &why), GRAFT_STATE);
    graft_router_close(&bare);
    assert_int_equal(graft_router_open(g.runtime, g.model, at("router"), &bare, &why), GRAFT_SHAPE);
    assert_non_null(strstr(why.message, "another base"));
    assert_int_equal(graft_router_write(router, at("no/such/folder"), &why), GRAFT_NOT_FOUND);
    assert_null(bare);
    graft_router_close(&bare);
    graft_router_close(NULL);
    graft_router_close(&router);
    close_fixture(&g);
    close_fixture(&f);
}

/* ---- hostile files -------------------------------------------------------------------------- */

/* A file of two labels and two values, with `about` for its header. */
static void write_file(const char *about, const char *weight, const float *values, int64_t columns)
{
    const struct tensor_decl tensors[] = {{weight, GRAFT_TYPE_F32, 2, {2, columns}},
                                          {"bias", GRAFT_TYPE_F32, 1, {2}},
                                          {"mean", GRAFT_TYPE_F32, 1, {2}},
                                          {"scale", GRAFT_TYPE_F32, 1, {2}}};
    struct file_writer w;
    json_t *metadata = about != NULL ? json_pack("{s:s}", "graft.router", about) : json_object();
    MUST(file_writer_open(&w, NULL, at("router"), error));
    MUST(safetensors_write_header(&w, tensors, 4, metadata, error));
    MUST(file_writer_write(&w, values, (size_t)(2 * columns + 6) * sizeof *values, error));
    MUST(file_writer_commit(&w, error));
    json_decref(metadata);
}

static graft_status parse_file(graft_error *why)
{
    struct router_table t = {.mem = NULL};
    struct file_map map;
    MUST(file_map_open(&map, NULL, at("router"), MAP_COPY, error));
    graft_status status = router_table_parse(&t, NULL, map.data, map.size, why);
    file_map_close(&map);
    router_table_free(&t);
    return status;
}

#define GOOD_REST                                                                                  \
    "\"base\":{\"fingerprint\":\"sha256:0\"},\"confusion\":[[1,0],[0,2]],\"l2\":1,\"examples\":3"

static void a_file_that_is_not_what_it_says_is_refused(void **state)
{
    (void)state;
    static const float values[16] = {0};
    static const struct {
        const char *about, *words;
        graft_status status;
    } wrong[] = {
        {NULL, "no router", GRAFT_FORMAT},
        {"", "", GRAFT_FORMAT},
        {"[]", "no JSON object", GRAFT_FORMAT},
        {"{\"version\":1}", "0 labels", GRAFT_FORMAT},
        {"{\"version\":\"1\"}", "version", GRAFT_FORMAT},
        {"{\"version\":2,\"labels\":[\"a\",\"b\"]," GOOD_REST "}", "version 2", GRAFT_UNSUPPORTED},
        {"{\"version\":1,\"labels\":[\"a\"]," GOOD_REST "}", "1 labels", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"b\",\"a\"]," GOOD_REST "}", "not in order", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"a\"]," GOOD_REST "}", "not in order", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"../a\",\"b\"]," GOOD_REST "}", "label 0", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",7]," GOOD_REST "}", "label 1", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\",\"c\"]," GOOD_REST "}", "\"weight\"",
         GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\"],\"confusion\":[[1,0],[0,2]]}", "\"base\"",
         GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\"],\"base\":{\"fingerprint\":7},\"confusion\":[[1,0]"
         ",[0,2]]}",
         "\"base\"", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\"],\"base\":{\"fingerprint\":\"x\"},\"confusion\":[["
         "1,0],[0]]}",
         "\"confusion\"", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\"],\"base\":{\"fingerprint\":\"x\"},\"confusion\":[["
         "1,0],[0,-2]]}",
         "\"confusion\"", GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\"],\"seed\":0.5," GOOD_REST "}", "seed",
         GRAFT_FORMAT},
        {"{\"version\":1,\"labels\":[\"a\",\"b\"],\"right\":9," GOOD_REST "}", "right",
         GRAFT_FORMAT},
    };
    graft_error why;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        write_file(wrong[i].about, "weight", values, 2);
        assert_int_equal(parse_file(&why), wrong[i].status);
        assert_non_null(strstr(why.message, wrong[i].words));
    }
    static const char good[] = "{\"version\":1,\"labels\":[\"a\",\"b\"]," GOOD_REST "}";
    write_file(good, "weight", values, 2);
    assert_int_equal(parse_file(&why), GRAFT_OK);
    write_file(good, "weights", values, 2);
    assert_int_equal(parse_file(&why), GRAFT_FORMAT);
    write_file(good, "weight", values, 3);
    assert_int_equal(parse_file(&why), GRAFT_FORMAT);
    for (int i = 0; i < 10; i++) {
        float bad[10] = {0};
        bad[i] = i % 2 ? NAN : INFINITY;
        write_file(good, "weight", bad, 2);
        assert_int_equal(parse_file(&why), GRAFT_NUMERIC);
        assert_non_null(strstr(why.message, "not finite"));
    }
}

static void no_byte_of_a_file_can_be_lost_or_changed_unnoticed_by_the_checks(void **state)
{
    (void)state;
    static const float values[10] = {0};
    static const char good[] = "{\"version\":1,\"labels\":[\"a\",\"b\"]," GOOD_REST "}";
    char *bytes;
    size_t size;
    graft_error why;
    write_file(good, "weight", values, 2);
    MUST(file_read(NULL, at("router"), 1 << 20, &bytes, &size, error));
    for (size_t n = 0; n < size; n++) {
        struct router_table t = {.mem = NULL};
        assert_int_not_equal(router_table_parse(&t, NULL, (const uint8_t *)bytes, n, &why),
                             GRAFT_OK);
        for (int bit = 0; bit < 8; bit++) { /* whatever it is then: checked, and nothing is lost */
            bytes[n] = (char)(bytes[n] ^ (1 << bit));
            if (router_table_parse(&t, NULL, (const uint8_t *)bytes, size, &why) == GRAFT_OK) {
                assert_true(t.n_labels == 2 && t.width == 2);
                router_table_free(&t);
            }
            bytes[n] = (char)(bytes[n] ^ (1 << bit));
        }
    }
    mem_free(NULL, bytes);
}

static void a_lack_of_memory_is_an_error_wherever_it_comes(void **state)
{
    (void)state;
    static const float values[10] = {0};
    static const char good[] = "{\"version\":1,\"labels\":[\"a\",\"b\"]," GOOD_REST "}";
    static const char lines[] = "{\"prompt\":\"Sort these.\",\"adapter\":\"coder\"}\n";
    struct file_map map;
    write_file(good, "weight", values, 2);
    MUST(file_map_open(&map, NULL, at("router"), MAP_COPY, error));
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct router_table t = {.mem = NULL};
        struct router_prompts p;
        graft_error why;
        failing_init(&failing, &mem, n);
        router_prompts_init(&p, &mem);
        graft_status status = router_table_parse(&t, &mem, map.data, map.size, &why);
        if (status == GRAFT_OK) {
            status = router_prompts_parse(&p, "lines", lines, sizeof lines - 1, &why);
        }
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        router_table_free(&t);
        router_prompts_free(&p);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        if (!failing.failed) {
            break;
        }
    }
    file_map_close(&map);
}

static void a_lack_of_memory_ends_a_training_and_leaves_nothing(void **state)
{
    (void)state;
    struct random_model plain = {0};
    char *folder = random_model_make(&plain);
    struct failing_allocator failing = {0};
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = 1;
    o.allocator = (graft_allocator){failing_alloc, failing_resize, failing_release, &failing};
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_runtime_info before, after;
    static const char four[] =
        "{\"prompt\":\"((x))\",\"adapter\":\"a\"}\n{\"prompt\":\"yes\",\"adapter\":\"b\"}\n"
        "{\"prompt\":\"[z]\",\"adapter\":\"a\"}\n{\"prompt\":\"no\",\"adapter\":\"b\"}\n";
    put("prompts.jsonl", four, sizeof four - 1);
    const char *path = at("prompts.jsonl");
    graft_router_options how = graft_router_options_default();
    how.held_out_share = 0;
    MUST(graft_runtime_open(&o, &runtime, error));
    MUST(graft_model_open(runtime, folder, NULL, &model, error));
    for (size_t n = 1;; n++) {
        graft_router *router = NULL;
        graft_route route_of[1];
        graft_error why;
        MUST(graft_runtime_describe(runtime, &before, error));
        failing.failed = false;
        failing.fail_at = atomic_load(&failing.calls) + n;
        graft_status status = graft_router_train(model, &path, 1, &how, &router, &why);
        if (status == GRAFT_OK)
            status = graft_router_route(router, "((y))", 5, 1, 1, route_of, &why);
        failing.fail_at = 0;
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        graft_router_close(&router);
        MUST(graft_runtime_describe(runtime, &after, error));
        assert_int_equal(after.bytes_in_use, before.bytes_in_use);
        if (!failing.failed)
            break;
    }
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    random_model_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_read_from_lines_and_from_arrays),
        cmocka_unit_test(a_record_that_is_wrong_is_told_with_its_line),
        cmocka_unit_test(a_router_learns_what_prompts_ask_for),
        cmocka_unit_test(threads_change_no_byte_of_a_router),
        cmocka_unit_test(picks_obey_the_laws_of_top_k_and_temperature),
        cmocka_unit_test(a_router_that_was_written_picks_as_before_by_the_mean_of_hidden_states),
        cmocka_unit_test(threads_may_share_a_router),
        cmocka_unit_test(a_prompt_of_any_length_has_a_route),
        cmocka_unit_test(what_training_refuses),
        cmocka_unit_test(a_text_that_is_there_twice_is_on_one_side),
        cmocka_unit_test(what_routing_refuses),
        cmocka_unit_test(a_file_that_is_not_what_it_says_is_refused),
        cmocka_unit_test(no_byte_of_a_file_can_be_lost_or_changed_unnoticed_by_the_checks),
        cmocka_unit_test(a_lack_of_memory_is_an_error_wherever_it_comes),
        cmocka_unit_test(a_lack_of_memory_ends_a_training_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
