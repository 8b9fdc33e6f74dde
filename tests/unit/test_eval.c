/* What `graft eval` says of answers (trimmed, by a pattern, as numbers) and of sums (means, spreads, differences in
 * pairs), and the table that it makes of them. */
#include "cli/eval.h"
#include "test_support.h"

#include <math.h>

static struct eval_text text_of(const char *text)
{
    return eval_trim(text, strlen(text));
}

static void answers_are_compared_without_white_space_at_their_ends(void **state)
{
    (void)state;
    assert_true(eval_same(text_of("  A cat.\n\t"), text_of("A cat.")));
    assert_true(eval_same(text_of(" \n"), text_of("")));
    assert_false(eval_same(text_of("A  cat."), text_of("A cat.")));
    assert_false(eval_same(text_of("A cat"), text_of("A cat.")));
    assert_false(eval_same(text_of("a cat."), text_of("A cat.")));
}

static void an_answer_ends_when_it_cannot_be_the_reference_any_more(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        bool may;
    } known[] = {{"", true},         {"  ", true},        {" A", true},   {"A cat", true},
                 {"A cat.", true},   {"A cat.\n ", true}, {"B", false},   {"A dog", false},
                 {"A cat.x", false}, {"A cat. .", false}, {"Acat", false}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        const char *answer = known[i].answer;
        assert_int_equal(eval_may_become(text_of("A cat."), answer, strlen(answer)), known[i].may);
    }
    assert_true(eval_may_become(text_of(""), " \n", 2));
    assert_false(eval_may_become(text_of(""), "x", 1));
}

/* What the pattern finds; NULL: nothing. */
static void assert_finds(const char *pattern, const char *text, const char *expected)
{
    struct eval_pattern *p = NULL;
    struct eval_text found;
    assert_int_equal(eval_pattern_open(pattern, &p, NULL), GRAFT_OK);
    graft_status status = eval_pattern_find(p, text, strlen(text), &found, NULL);
    assert_int_equal(status, expected ? GRAFT_OK : GRAFT_NOT_FOUND);
    if (expected) {
        assert_int_equal(found.size, strlen(expected));
        assert_memory_equal(found.at, expected, found.size);
    }
    eval_pattern_close(&p);
    assert_null(p);
}

static void a_pattern_finds_its_first_group_or_the_whole_match(void **state)
{
    (void)state;
    assert_finds("#### (.*)", "3 + 4 = 7\n#### 7 \n#### 8", "7");
    assert_finds("\\d+", "about 12 or 13", "12");
    assert_finds("(?:A|B)\\b", "it is B.", "B");
    assert_finds("is (\\d+)|#### (\\d+)", "#### 18", "18");
    assert_finds("(x)?#### \\d+", "#### 5", "#### 5");
    assert_finds("#### (\\d*)", "#### none", "");
    assert_finds("\\w+ß", "  Straß", "Straß");
    assert_finds("#### (\\d+)", "7", NULL);
    assert_finds("\\d+", "", NULL);
    assert_finds("\\d", "\xff 7", NULL);
}

static void a_pattern_that_is_none_is_refused_with_the_place(void **state)
{
    (void)state;
    struct eval_pattern *p = NULL;
    graft_error error = {0};
    assert_int_equal(eval_pattern_open("#### (\\d+", &p, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "#### (\\d+"));
    assert_non_null(strstr(error.message, "at character 9"));
    assert_null(p);
}

static void a_pattern_that_never_ends_is_stopped(void **state)
{
    (void)state;
    struct eval_pattern *p = NULL;
    struct eval_text found;
    graft_error error = {0};
    char text[64];
    memset(text, 'a', sizeof text);
    assert_int_equal(eval_pattern_open("(?:a|a)*b$|(?:aa|a)*c(?<!d)", &p, NULL), GRAFT_OK);
    text[sizeof text - 1] = 'c';
    text[sizeof text - 2] = 'd';
    assert_int_equal(eval_pattern_find(p, text, sizeof text, &found, &error), GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "too long"));
    eval_pattern_close(&p);
}

static void numbers_agree_however_they_are_written(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool agree;
    } known[] = {{"1,000", "1000", true}, {"$18", "18.00", true}, {"-3", "-3.0", true},
                 {"18.", "18", true},     {"-$5", "-5", true},    {"B", "B", true},
                 {"", "", true},          {"18", "19", false},    {"-3", "3", false},
                 {"1e3", "1000", false},  {"0x10", "16", false},  {"nan", "NAN", false},
                 {"1.2.3", "1.2", false}, {"", "0", false},       {",", "0", false},
                 {"1-2", "1", false},     {"B", "b", false}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        assert_int_equal(eval_agree(text_of(known[i].a), text_of(known[i].b)), known[i].agree);
        assert_int_equal(eval_agree(text_of(known[i].b), text_of(known[i].a)), known[i].agree);
    }
}

static void means_weigh_tokens_and_spreads_count_examples(void **state)
{
    (void)state;
    /* losses 2, 1, 3 per token of examples with 1, 2, 1 tokens; the last does not count */
    const double sum[] = {2, 2, 3, 99}, weight[] = {1, 2, 1, 0};
    struct eval_mean m = eval_mean_of(sum, NULL, weight, 4);
    assert_float_equal(m.mean, 7.0 / 4, 1e-12);
    /* residuals 2 - 7/4, 2 - 7/2, 3 - 7/4: squares 1/16, 9/4, 25/16 */
    assert_float_equal(m.error, sqrt(3.0 / 2 * (1.0 / 16 + 9.0 / 4 + 25.0 / 16)) / 4, 1e-12);
    /* of shares it is the error of a proportion: sqrt(p (1 - p) / (n - 1)) */
    const double right[] = {1, 0, 1, 1, 0}, one[] = {1, 1, 1, 1, 1};
    m = eval_mean_of(right, NULL, one, 5);
    assert_float_equal(m.mean, 0.6, 1e-12);
    assert_float_equal(m.error, sqrt(0.6 * 0.4 / 4), 1e-12);
}

static void differences_are_of_pairs(void **state)
{
    (void)state;
    const double sum[] = {10, 2, 7}, base[] = {11, 3, 8}, weight[] = {1, 1, 1};
    struct eval_mean m = eval_mean_of(sum, base, weight, 3);
    assert_float_equal(m.mean, -1, 1e-12);
    assert_float_equal(m.error, 0, 1e-12); /* though the losses lie far apart */
}

static void what_was_not_measured_is_no_number(void **state)
{
    (void)state;
    const double sum[] = {3, 5}, weight[] = {0, 2};
    assert_true(isnan(eval_mean_of(sum, NULL, weight, 0).mean));
    assert_true(isnan(eval_mean_of(sum, NULL, weight, 1).mean));
    struct eval_mean one = eval_mean_of(sum, NULL, weight, 2);
    assert_float_equal(one.mean, 2.5, 1e-12);
    assert_true(isnan(one.error));
}

/* ---- the table */

enum { ROWS = 3, COLUMNS = 2 };
struct fixture {
    struct eval_cell cells[ROWS * COLUMNS];
    struct eval_column columns[COLUMNS];
    const char *rows[ROWS];
    struct eval_table table;
};

static void make_table(struct fixture *f)
{
    static const double losses[ROWS][COLUMNS] = {{2, 1}, {1, 3}, {1.5, 1}};
    static const double exact[ROWS] = {0.25, 0.75, 0.75};
    *f = (struct fixture){.rows = {NULL, "./coder", "./tone"}};
    f->columns[0] = (struct eval_column){.path = "a.jsonl",
                                         .part = "valid",
                                         .records = 9,
                                         .dropped = 2,
                                         .count = 8,
                                         .examples = 4,
                                         .tokens = 100,
                                         .learned = 40,
                                         .questions = 4};
    f->columns[1] =
        (struct eval_column){.path = "b.jsonl", .part = "all", .count = 4, .examples = 4};
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLUMNS; c++) {
            struct eval_cell *cell = &f->cells[r * COLUMNS + c];
            cell->done = true;
            for (int m = 0; m < EVAL_METRICS; m++) {
                cell->of[m] = cell->change[m] = (struct eval_mean){NAN, NAN};
            }
            cell->of[EVAL_LOSS] = (struct eval_mean){losses[r][c], 0.125};
            cell->of[EVAL_PERPLEXITY] = (struct eval_mean){exp(losses[r][c]), 1};
            if (r > 0) {
                double change = losses[r][c] - losses[0][c];
                cell->change[EVAL_LOSS] = (struct eval_mean){change, 0.0625};
                cell->change[EVAL_PERPLEXITY] = (struct eval_mean){exp(change) - 1, NAN};
            }
        }
        f->cells[r * COLUMNS].of[EVAL_EXACT] = (struct eval_mean){exact[r], NAN};
    }
    f->table = (struct eval_table){.model = "tiny",
                                   .rows = f->rows,
                                   .columns = f->columns,
                                   .cells = f->cells,
                                   .n_rows = ROWS,
                                   .n_columns = COLUMNS,
                                   .max_tokens = 32};
}

/* *text is the caller's (free). */
static void print_table(const struct eval_table *t, size_t width, char **text)
{
    size_t size;
    FILE *out = open_memstream(text, &size);
    eval_print(t, out, width);
    fclose(out);
}

static void the_best_of_a_column_is_the_lowest_loss_and_the_highest_share(void **state)
{
    (void)state;
    struct fixture f;
    make_table(&f);
    assert_false(eval_is_best(&f.table, 0, 0, EVAL_LOSS));
    assert_true(eval_is_best(&f.table, 1, 0, EVAL_LOSS));
    assert_true(eval_is_best(&f.table, 1, 0, EVAL_PERPLEXITY));
    assert_true(eval_is_best(&f.table, 0, 1, EVAL_LOSS)); /* two are equal, and */
    assert_true(eval_is_best(&f.table, 2, 1, EVAL_LOSS)); /* better than the third */
    assert_true(eval_is_best(&f.table, 2, 0, EVAL_EXACT));
    assert_false(eval_is_best(&f.table, 0, 0, EVAL_EXACT));
    for (int r = 0; r < ROWS;
         r++) { /* nothing is best where all are equal, or nothing was measured */
        f.cells[r * COLUMNS].of[EVAL_LOSS].mean = 2;
        assert_false(eval_is_best(&f.table, 1, 1, EVAL_EXACT));
    }
    assert_false(eval_is_best(&f.table, 0, 0, EVAL_LOSS));
}

static void the_table_shows_values_changes_and_the_best(void **state)
{
    (void)state;
    struct fixture f;
    make_table(&f);
    char *text;
    print_table(&f.table, SIZE_MAX, &text);
    assert_non_null(strstr(text, "  base      2.0000 ± 0.1250  "));
    assert_non_null(
        strstr(text, "  ./coder  *1.0000 ± 0.1250 (-1.0000 ± 0.0625)   3.0000 ± 0.1250"));
    assert_non_null(strstr(text, " *1.0000 ± 0.1250 (+0.0000 ± 0.0625)\n"));
    assert_non_null(strstr(text, "*2.72 (-63.2 %)"));
    assert_non_null(strstr(text, "  base      25.0 "));
    assert_non_null(strstr(text, "  ./coder  *75.0 "));
    assert_non_null(strstr(text, " -\n")); /* b.jsonl asks nothing */
    assert_non_null(strstr(text, "a.jsonl: part valid, 4 of 8 examples, 100 tokens, 40 of them "
                                 "learned; 4 asked; of 9 records 2 dropped; 0 cut\n"));
    assert_non_null(strstr(text, "b.jsonl: part all, 4 examples, "));
    assert_non_null(strstr(text, "at most 32 tokens"));
    assert_null(strstr(text, "accuracy"));
    free(text);
}

static void a_narrow_terminal_gets_columns_below_each_other(void **state)
{
    (void)state;
    struct fixture f;
    make_table(&f);
    char *wide, *narrow;
    print_table(&f.table, 120, &wide);
    print_table(&f.table, 50, &narrow);
    assert_null(strstr(strstr(wide, "loss (") + 1, "loss ("));
    assert_non_null(strstr(strstr(narrow, "loss (") + 1, "loss ("));
    assert_true(strstr(narrow, "b.jsonl") > strstr(narrow, "exact"));
    free(wide);
    free(narrow);
}

static void json_has_what_is_done_and_null_for_what_is_unknown(void **state)
{
    (void)state;
    struct fixture f;
    make_table(&f);
    f.cells[(ROWS - 1) * COLUMNS + 1].done = false; /* Ctrl-C came */
    f.table.interrupted = true;
    json_t *json = eval_json(&f.table);
    const json_t *results = json_object_get(json, "results");
    assert_int_equal(json_array_size(results), ROWS * COLUMNS - 1);
    const json_t *first = json_array_get(results, 0), *third = json_array_get(results, 2);
    assert_true(json_is_null(json_object_get(first, "adapter")));
    assert_string_equal(json_string_value(json_object_get(third, "adapter")), "./coder");
    assert_string_equal(json_string_value(json_object_get(third, "file")), "a.jsonl");
    const json_t *loss = json_object_get(third, "loss");
    assert_float_equal(json_real_value(json_object_get(loss, "value")), 1, 0);
    assert_float_equal(json_real_value(json_object_get(loss, "change")), -1, 0);
    assert_true(json_is_true(json_object_get(loss, "best")));
    assert_true(json_is_null(json_object_get(json_object_get(first, "loss"), "change")));
    assert_null(json_object_get(json_array_get(results, 1), "exact"));
    assert_true(json_is_true(json_object_get(json, "interrupted")));
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_compared_without_white_space_at_their_ends),
        cmocka_unit_test(an_answer_ends_when_it_cannot_be_the_reference_any_more),
        cmocka_unit_test(a_pattern_finds_its_first_group_or_the_whole_match),
        cmocka_unit_test(a_pattern_that_is_none_is_refused_with_the_place),
        cmocka_unit_test(a_pattern_that_never_ends_is_stopped),
        cmocka_unit_test(numbers_agree_however_they_are_written),
        cmocka_unit_test(means_weigh_tokens_and_spreads_count_examples),
        cmocka_unit_test(differences_are_of_pairs),
        cmocka_unit_test(what_was_not_measured_is_no_number),
        cmocka_unit_test(the_best_of_a_column_is_the_lowest_loss_and_the_highest_share),
        cmocka_unit_test(the_table_shows_values_changes_and_the_best),
        cmocka_unit_test(a_narrow_terminal_gets_columns_below_each_other),
        cmocka_unit_test(json_has_what_is_done_and_null_for_what_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
