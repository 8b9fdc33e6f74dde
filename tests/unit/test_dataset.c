/* test_dataset.c: what becomes of examples: parts, statistics, batches of an epoch, saved datasets; and lack of memory.
 */
#include "unit/data_fixture.h"
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"

/* n texts "a", "aa", … of lengths that come again after `period`. */
static const char *many(struct data_fixture *f, int n, int period)
{
    struct buf text;
    buf_init(&text, NULL, SIZE_MAX);
    for (int i = 0; i < n; i++) {
        buf_puts(&text, "{\"text\":\"");
        for (int k = 0; k <= i % period; k++)
            buf_putc(&text, (char)('b' + i % 20));
        buf_puts(&text, "\"}\n");
    }
    const char *path = fixture_write(f, "many.jsonl", text.data);
    buf_free(&text);
    return path;
}

/* ---- parts -------------------------------------------------------------------------------- */

static void a_split_is_a_function_of_the_seed(void **state)
{
    (void)state;
    struct data_fixture f;
    int64_t first[40], second[40];
    fixture_open(&f, NULL);
    const char *path = many(&f, 200, 7);
    f.options.valid_share = 0.2;
    f.options.seed = 5;
    for (int round = 0; round < 2; round++) {
        fixture_read(&f, path);
        assert_int_equal(dataset_count(f.d, DATA_VALID), 40);
        assert_int_equal(dataset_count(f.d, DATA_TRAIN), 160);
        for (int i = 0; i < 40; i++)
            (round ? second : first)[i] = dataset_example(f.d, DATA_VALID, i).line;
    }
    assert_memory_equal(first, second, sizeof first);
    bool seen[201] = {0};
    for (int i = 0; i < 40; i++)
        seen[first[i]] = true;
    for (int i = 0; i < 160; i++)
        assert_false(seen[dataset_example(f.d, DATA_TRAIN, i).line]);
    /* A larger share keeps who was in the smaller one. */
    f.options.valid_share = 0.4;
    fixture_read(&f, path);
    int kept = 0;
    for (int i = 0; i < 80; i++)
        kept += seen[dataset_example(f.d, DATA_VALID, i).line];
    assert_int_equal(kept, 40);
    f.options.seed = 6;
    f.options.valid_share = 0.2;
    fixture_read(&f, path);
    int same = 0;
    for (int i = 0; i < 40; i++)
        same += seen[dataset_example(f.d, DATA_VALID, i).line];
    assert_in_range(same, 1, 20);
    fixture_close(&f);
}

static void a_split_leaves_something_on_both_sides(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    f.options.valid_share = 0.2;
    fixture_read(&f, many(&f, 2, 2));
    assert_int_equal(dataset_count(f.d, DATA_VALID), 1);
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 1);
    fixture_read(&f, many(&f, 1, 1));
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 1);
    fixture_lines(&f, "");
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 0);
    fixture_close(&f);
}

static void examples_of_one_conversation_stay_together(void **state)
{
    (void)state;
    struct data_fixture f;
    struct buf text;
    fixture_open(&f,
                 "{% for m in messages %}{{ m.role + m.content }}"
                 "{% if m.role == 'assistant' and loop.last %}!{% endif %}<|im_end|>{% endfor %}"
                 "{% if add_generation_prompt %}assistant{% endif %}");
    buf_init(&text, NULL, SIZE_MAX);
    for (int i = 0; i < 40; i++)
        buf_puts(&text,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
                 "\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"},"
                 "{\"role\":\"assistant\",\"content\":\"d\"}]}\n");
    f.options.valid_share = 0.3;
    fixture_lines(&f, text.data);
    buf_free(&text);
    assert_int_equal(dataset_count(f.d, DATA_VALID), 24);
    for (int i = 0; i < 24; i += 2)
        assert_int_equal(dataset_example(f.d, DATA_VALID, i).record,
                         dataset_example(f.d, DATA_VALID, i + 1).record);
    fixture_close(&f);
}

static void statistics_count_what_is_there(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    fixture_lines(&f, "{\"text\":\"ab\"}\n{\"text\":\"abcdefgh\"}\n{\"text\":\"\"}\n");
    const struct data_stats *s = dataset_stats(f.d);
    assert_int_equal(s->records, 3);
    assert_int_equal(s->examples[DATA_TRAIN], 2);
    assert_int_equal(s->tokens[DATA_TRAIN], 10);
    assert_int_equal(s->learned[DATA_TRAIN], 10);
    assert_int_equal(s->longest, 8);
    assert_int_equal(s->longest_line, 2);
    assert_int_equal(s->bucket, 1);
    assert_int_equal(s->histogram[1], 1);
    assert_int_equal(s->histogram[7], 1);
    fixture_close(&f);
}

/* ---- batches ------------------------------------------------------------------------------ */

static struct data_plan make_plan(struct data_fixture *f, struct data_plan_options options)
{
    struct data_plan plan;
    MUST(data_plan_make(NULL, f->d, DATA_TRAIN, &options, &plan, error));
    return plan;
}

/* Each example once, and no row above max_len. */
static void check_plan(const struct data_plan *p, bool packed)
{
    bool seen[1000] = {0};
    for (int64_t r = 0; r < p->n_rows; r++) {
        int length = 0;
        assert_true(p->starts[r] < p->starts[r + 1]);
        for (int64_t i = p->starts[r]; i < p->starts[r + 1]; i++) {
            assert_false(seen[p->order[i]]);
            seen[p->order[i]] = true;
            length += dataset_example(p->dataset, p->part, p->order[i]).n_tok;
        }
        assert_true(length <= dataset_max_len(p->dataset));
        assert_true(packed || p->starts[r + 1] - p->starts[r] == 1);
    }
    assert_int_equal(p->starts[p->n_rows], p->n_examples);
    assert_int_equal(p->n_batches, (p->n_rows + p->rows - 1) / p->rows);
}

static void rows_are_filled_up(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    f.options.max_len = 20;
    fixture_read(&f, many(&f, 500, 13)); /* 1..13 tokens: 3479 in all */
    struct data_plan plain = make_plan(&f, (struct data_plan_options){.rows = 4});
    struct data_plan full = make_plan(&f, (struct data_plan_options){.rows = 4, .pack = true});
    check_plan(&plain, false);
    check_plan(&full, true);
    assert_int_equal(plain.n_rows, 500);
    for (int i = 0; i < 500; i++)
        assert_int_equal(plain.order[i], i);
    int64_t tokens = dataset_stats(f.d)->tokens[DATA_TRAIN];
    assert_true(full.n_rows * 20 < tokens * 102 / 100 + 20); /* at most 2 % are empty */
    assert_true(full.most_tok <= 80 && full.most_tok > 70);
    data_plan_free(&plain);
    data_plan_free(&full);
    fixture_close(&f);
}

static void epochs_shuffle_anew_and_can_be_repeated(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    f.options.max_len = 20;
    fixture_read(&f, many(&f, 300, 13));
    for (int pack = 0; pack < 2; pack++) {
        struct data_plan_options o = {
            .rows = 4, .pack = pack != 0, .shuffle = true, .seed = 9, .epoch = 1};
        struct data_plan a = make_plan(&f, o), b = make_plan(&f, o);
        o.epoch = 2;
        struct data_plan next = make_plan(&f, o);
        o.epoch = 1;
        o.seed = 10;
        struct data_plan other = make_plan(&f, o);
        check_plan(&a, pack != 0);
        check_plan(&next, pack != 0);
        assert_memory_equal(a.order, b.order, 300 * sizeof *a.order);
        assert_memory_equal(a.starts, b.starts, (size_t)a.n_rows * sizeof *a.starts);
        assert_int_equal(a.n_batches, next.n_batches);
        assert_memory_not_equal(a.order, next.order, 300 * sizeof *a.order);
        assert_memory_not_equal(a.order, other.order, 300 * sizeof *a.order);
        data_plan_free(&a);
        data_plan_free(&b);
        data_plan_free(&next);
        data_plan_free(&other);
    }
    fixture_close(&f);
}

static void a_batch_has_targets_and_weights(void **state)
{
    (void)state;
    struct data_fixture f;
    struct data_batch batch;
    fixture_open(&f, NULL);
    f.options.raw = true;
    fixture_lines(&f, "{\"prompt\":\"ab\",\"completion\":\"c\",\"weight\":0.5}\n{\"text\":\"de\"}\n"
                      "{\"text\":\"fg\"}\n");
    struct data_plan plan = make_plan(&f, (struct data_plan_options){.rows = 2});
    assert_int_equal(plan.n_batches, 2);
    MUST(data_batch_open(NULL, plan.most_tok, plan.most_examples, &batch, error));
    data_batch_fill(&batch, &plan, 0);
    assert_int_equal(batch.n_tok, 5);
    assert_int_equal(batch.n_examples, 2);
    assert_memory_equal(batch.tokens, ((int32_t[]){'a', 'b', 'c', 'd', 'e'}), 20);
    assert_memory_equal(batch.targets, ((int32_t[]){'b', 'c', 277, 'e', 277}), 20);
    assert_memory_equal(batch.weights, ((float[]){0, 0.5f, 0.5f, 1, 1}), 20);
    assert_memory_equal(batch.starts, ((int[]){0, 3, 5}), 12);
    assert_int_equal(batch.examples[1], 1);
    assert_float_equal(batch.weight, 3, 0);
    assert_int_equal(batch.n_learned, 4);
    data_batch_fill(&batch, &plan, 1);
    assert_int_equal(batch.n_examples, 1);
    assert_int_equal(batch.tokens[0], 'f');
    data_batch_close(&batch);
    data_plan_free(&plan);
    fixture_close(&f);
}

/* ---- saved -------------------------------------------------------------------------------- */

#define SAVED_LINES                                                                                \
    "{\"text\":\"ab\",\"task\":\"t\"}\n{\"text\":\"cdefghi\",\"domain\":\"d\",\"quality\":0.5}\n"  \
    "oops\n{\"prompt\":\"a\",\"completion\":\"b\"}\n"

static void save_as(struct data_fixture *f, char path[256])
{
    f->options.max_len = 5;
    f->options.valid_share = 0.34;
    fixture_lines(f, SAVED_LINES);
    snprintf(path, 256, "%s/saved", f->scratch.folder);
    MUST(dataset_save(f->d, path, error));
}

static void a_saved_dataset_is_the_same(void **state)
{
    (void)state;
    struct data_fixture f;
    char path[256];
    uint8_t before[32], after[32];
    fixture_open(&f, NULL);
    save_as(&f, path);
    struct data_stats stats = *dataset_stats(f.d);
    MUST(dataset_digest(f.d, before, error));
    f.options.max_len = 0;
    fixture_read(&f, path);
    MUST(dataset_digest(f.d, after, error));
    assert_memory_equal(before, after, 32);
    assert_memory_equal(&stats, dataset_stats(f.d), sizeof stats);
    assert_int_equal(dataset_max_len(f.d), 5);
    assert_int_equal(dataset_issues(f.d), 2);
    assert_int_equal(dataset_issue(f.d, 1)->line, 3);
    assert_string_equal(dataset_name(f.d, 1), "d");
    assert_non_null(strstr(dataset_file(f.d, 0), "data.jsonl"));
    /* Saved again it is the same file; and the split is the loader's. */
    char again[256];
    char *one, *two;
    size_t n, m;
    snprintf(again, sizeof again, "%s/again", f.scratch.folder);
    MUST(dataset_save(f.d, again, error));
    MUST(file_read(NULL, path, 1 << 20, &one, &n, error));
    MUST(file_read(NULL, again, 1 << 20, &two, &m, error));
    assert_int_equal(n, m);
    assert_memory_equal(one, two, n);
    mem_free(NULL, one);
    mem_free(NULL, two);
    f.options.valid_share = 0;
    fixture_read(&f, path);
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 3);
    fixture_close(&f);
}

static void assert_refused(struct data_fixture *f, const char *path, graft_status status,
                           const char *words)
{
    struct dataset *d = NULL;
    graft_error error = {0};
    assert_int_equal(dataset_open(NULL, &f->model, path, &f->options, &d, &error), status);
    if (!strstr(error.message, words))
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
    assert_null(d);
}

static void a_saved_dataset_of_something_else_is_refused(void **state)
{
    (void)state;
    struct data_fixture f;
    char path[256];
    fixture_open(&f, NULL);
    save_as(&f, path);
    f.options = (struct data_options){.loss = DATA_LOSS_ALL};
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "another loss");
    f.options = (struct data_options){.max_len = 6};
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "another sequence length");
    f.options = (struct data_options){.min_quality = 0.1};
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "another least quality");
    f.options = (struct data_options){.text_key = "body"};
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "another reading");
    f.options = (struct data_options){.valid_path = "x"};
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "no file for validation");
    f.options = (struct data_options){0};
    fixture_template(&f, FIXTURE_CHATML);
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "another chat template");
    fixture_template(&f, NULL);
    f.model.n_vocab = 299;
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "vocabulary");
    f.model.n_vocab = 300;
    tokenizer_close(&f.tokenizer);
    fixture_tokenizer(&f, "{\"eos_token\":\"</s>\"}");
    assert_refused(&f, path, GRAFT_INVALID_ARGUMENT, "another tokenizer");
    fixture_close(&f);
}

static void a_damaged_one_is_refused_wherever_it_is(void **state)
{
    (void)state;
    struct data_fixture f;
    char path[256], *bytes;
    size_t size;
    fixture_open(&f, NULL);
    save_as(&f, path);
    f.options = (struct data_options){0};
    MUST(file_read(NULL, path, 1 << 20, &bytes, &size, error));
    for (size_t at = 12; at < size; at += at < 128 ? 1 : 37) {
        struct dataset *d = NULL;
        bytes[at] ^= 0x40;
        MUST(file_write_atomic(NULL, path, bytes, size, error));
        graft_status status = dataset_open(NULL, &f.model, path, &f.options, &d, NULL);
        bytes[at] ^= 0x40;
        /* Only the zeros at the end of the header carry nothing. */
        if (status == GRAFT_OK) {
            assert_in_range(at, 72, 127);
            dataset_close(&d);
        }
    }
    for (size_t cut = 12; cut < size; cut += 61) {
        MUST(file_write_atomic(NULL, path, bytes, cut, error));
        assert_refused(&f, path, GRAFT_FORMAT, "damaged");
    }
    mem_free(NULL, bytes);
    fixture_close(&f);
}

/* ---- lack of memory, cancelling ----------------------------------------------------------- */

static graft_status all_of_it(struct mem *mem, struct data_fixture *f, const char *path,
                              graft_error *error)
{
    struct dataset *d = NULL;
    struct data_plan plan = {0};
    struct data_batch batch = {0};
    struct data_plan_options options = {.rows = 2, .pack = true, .shuffle = true};
    graft_status status = dataset_open(mem, &f->model, path, &f->options, &d, error);
    if (!status)
        assert_int_equal(dataset_issues(d), 1); /* what is whole was not dropped */
    if (!status)
        status = data_plan_make(mem, d, DATA_TRAIN, &options, &plan, error);
    if (!status)
        status = data_batch_open(mem, plan.most_tok, plan.most_examples, &batch, error);
    if (!status)
        data_batch_fill(&batch, &plan, 0);
    if (!status) {
        char saved[256];
        snprintf(saved, sizeof saved, "%s/saved", f->scratch.folder);
        status = dataset_save(d, saved, error);
    }
    data_batch_close(&batch);
    data_plan_free(&plan);
    if (d)
        dataset_close(&d);
    return status;
}

static const char everything[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"
    "[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"tool_use\",\"name\":\"x\",\"input\":{}}]}],"
    "\"tools\":[{\"name\":\"x\",\"input_schema\":{}}],\"task\":\"t\"}\n"
    "{\"instruction\":\"i\",\"input\":\"j\",\"output\":\"k\"}\noops\n{\"text\":"
    "\"abcdefghijklmnop\"}\n";

static void no_memory_at_any_call_is_said(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    f.options.max_len = 100;
    f.options.valid_share = 0.3;
    const char *path = fixture_write(&f, "all.jsonl", everything);
    size_t n = 1;
    for (;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        graft_error error = {0};
        failing_init(&failing, &mem, n);
        graft_status status = all_of_it(&mem, &f, path, &error);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        if (!failing.failed) {
            assert_int_equal(status, GRAFT_OK);
            break;
        }
        assert_int_equal(status, GRAFT_NO_MEMORY);
    }
    assert_true(n > 50);
    fixture_close(&f);
}

static void no_memory_for_json_is_said(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    const char *path = fixture_write(&f, "all.jsonl", everything);
    for (size_t n = 1;; n++) {
        graft_error error = {0};
        failing_json_begin(n);
        graft_status status = all_of_it(NULL, &f, path, &error);
        if (!failing_json_end()) {
            assert_int_equal(status, GRAFT_OK);
            break;
        }
        if (status != GRAFT_OK) /* a line that could not be parsed is parsed again */
            assert_int_equal(status, GRAFT_NO_MEMORY);
    }
    fixture_close(&f);
}

static bool stop(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)what;
    assert_true(done <= total);
    ++*(int *)user;
    return false;
}

static void reading_can_be_cancelled(void **state)
{
    (void)state;
    struct data_fixture f;
    int calls = 0;
    fixture_open(&f, NULL);
    f.options.progress = stop;
    f.options.progress_user = &calls;
    assert_refused(&f, many(&f, 500, 3), GRAFT_CANCELLED, "cancelled");
    assert_int_equal(calls, 1);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_is_a_function_of_the_seed),
        cmocka_unit_test(a_split_leaves_something_on_both_sides),
        cmocka_unit_test(examples_of_one_conversation_stay_together),
        cmocka_unit_test(statistics_count_what_is_there),
        cmocka_unit_test(rows_are_filled_up),
        cmocka_unit_test(epochs_shuffle_anew_and_can_be_repeated),
        cmocka_unit_test(a_batch_has_targets_and_weights),
        cmocka_unit_test(a_saved_dataset_is_the_same),
        cmocka_unit_test(a_saved_dataset_of_something_else_is_refused),
        cmocka_unit_test(a_damaged_one_is_refused_wherever_it_is),
        cmocka_unit_test(no_memory_at_any_call_is_said),
        cmocka_unit_test(no_memory_for_json_is_said),
        cmocka_unit_test(reading_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
