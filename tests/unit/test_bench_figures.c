/* test_bench_figures.c: numbers in the tables of `graft bench`, from the smallest to those that are none. */
#include "cli/bench_figures.h"
#include "test_support.h"

#include <math.h>
#include <unistd.h>

/* What the command has of cli/report.c. */
void cli_progress_end(struct cli_progress *p)
{
    (void)p;
}

int cli_print_json(json_t *value)
{
    json_decref(value);
    return 0;
}

/* A table of this one figure, as it is printed. */
static void print_table(double value, char *out, size_t size)
{
    struct bench_figures f = {.info = {.tier = "scalar", .threads = 1}};
    const graft_bench_result r = {.bench = "decode",
                                  .name = "one",
                                  .subject = "mini",
                                  .unit = "ms",
                                  .clock = "wall",
                                  .value = value,
                                  .samples = 1,
                                  .limit_share = NAN};
    FILE *to = tmpfile();
    int before = dup(STDOUT_FILENO);
    assert_true(to != NULL && before >= 0);
    fflush(stdout);
    assert_true(dup2(fileno(to), STDOUT_FILENO) >= 0);
    bench_figures_begin(&f);
    bench_figures_take(&f, &r);
    bench_figures_end(&f);
    fflush(stdout);
    assert_true(dup2(before, STDOUT_FILENO) >= 0);
    close(before);
    rewind(to);
    out[fread(out, 1, size - 1, to)] = '\0';
    fclose(to);
}

static void numbers_have_four_digits_and_no_powers_of_ten(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } numbers[] = {{0, "0.000"},
                   {1, "1.000"},
                   {12.346, "12.35"},
                   {1234.5, "1234"},
                   {123456, "123456"},
                   {-2.5, "-2.500"},
                   {0.5, "0.5000"},
                   {0.0123, "0.01230"},
                   {0.0004, "0.0004000"},
                   {-0.0271, "-0.02710"},
                   {0.99999, "1.000"},
                   {9.99999, "10.00"},
                   {1e-9, "0.000000001000"},
                   {1e-300, "0.000000000000"},
                   {INFINITY, "inf"},
                   {NAN, "nan"}};
    char table[1000], row[64];
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        print_table(numbers[i].value, table, sizeof table);
        snprintf(row, sizeof row, " %s ms\n", numbers[i].text);
        if (!strstr(table, row))
            fail_msg("no \"%s\" in \"%s\"", numbers[i].text, table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_four_digits_and_no_powers_of_ten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
