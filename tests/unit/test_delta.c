/* test_delta.c: sites, and what a mix refuses and keeps. What deltas compute: conformance/test_seam.c. */
#include "conformance/delta_support.h"
#include "model/delta_internal.h"

#include <math.h>

struct fixture {
    char *dir;
    struct graft_runtime rt;
    struct model *model;
    struct adapter adapter;
};

static int start(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct oracle_model weights;
    char path[768];
    f->dir = temp_dir();
    snprintf(path, sizeof(path), "%s/model", f->dir);
    oracle_model_make(&weights, oracle_config("llama"), 1);
    oracle_write_hf(&weights, path, GRAFT_TYPE_F32);
    oracle_model_free(&weights);
    runtime_start(&f->rt, 1, NULL);
    f->model = open_model(&f->rt, path);
    adapter_make(&f->adapter, f->model, NULL,
                 &(struct adapter_plan){
                     .rank = 3, .type = GRAFT_TYPE_F32, .scale = 1, .head = true, .seed = 1});
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    adapter_free(&f->adapter);
    model_close(&f->model);
    runtime_stop(&f->rt);
    temp_remove(f->dir);
    free(f->dir);
    free(f);
    return 0;
}

static void sites_are_the_linears_of_the_blocks_and_the_head(void **state)
{
    const struct fixture *f = *state;
    assert_int_equal(model_n_sites(f->model), 3 * LINEAR_COUNT + 1);
    assert_int_equal(model_head_site(f->model), 3 * LINEAR_COUNT);
    assert_ptr_equal(model_site_weight(f->model, model_head_site(f->model)), &f->model->head);
    assert_ptr_equal(model_site_weight(f->model, model_site(2, LINEAR_DOWN)),
                     &f->model->layers[2].linear[LINEAR_DOWN]);
    assert_int_equal(model_site(2, LINEAR_DOWN), model_head_site(f->model) - 1);
}

static void refuse(const struct fixture *f, float weight, graft_status status, const char *words)
{
    graft_error error = {0};
    struct delta_set *set = NULL;
    const struct delta_member member = {.lowranks = f->adapter.places, .weight = weight};
    graft_status found = delta_set_open(f->model, &member, 1, &set, &error);
    if (found != status || !strstr(error.message, words))
        fail_msg("status %d, \"%s\"; expected %d and \"%s\"", (int)found, error.message,
                 (int)status, words);
    assert_null(set);
}

static void factors_that_do_not_fit_are_refused_with_both_shapes(void **state)
{
    struct fixture *f = *state;
    struct lowrank *l = &f->adapter.own[model_site(1, LINEAR_GATE)], good = *l;
    l->a.n_in = 97;
    refuse(f, 1, GRAFT_SHAPE, "A at site 11 is [3, 97], expected [3, 96]");
    *l = good;
    l->a.n_out = 0;
    refuse(f, 1, GRAFT_SHAPE, "A at site 11 is [0, 96], expected [1, 96]");
    *l = good;
    l->a.n_out = 4;
    refuse(f, 1, GRAFT_SHAPE, "B in tiles at site 11 is [12, 64], expected [16, 64]");
    *l = good;
    l->b.n_in = 3;
    refuse(f, 1, GRAFT_SHAPE, "B in tiles at site 11 is [12, 3], expected [12, 64]");
    *l = good;
    l->a.type = GRAFT_TYPE_Q4_K;
    refuse(f, 1, GRAFT_UNSUPPORTED, "Q4_K");
    *l = good;
    l = &f->adapter.own[model_site(1, LINEAR_DOWN)];
    good = *l;
    l->a.type = GRAFT_TYPE_Q8_0; /* 208 columns are no whole blocks */
    refuse(f, 1, GRAFT_SHAPE, "A at site 13");
    *l = good;
    graft_error error = {0};
    struct delta_set *set = NULL;
    l->a.n_in = 209;
    /* weight 0: left out, and checked all the same */
    const struct delta_member member = {.lowranks = f->adapter.places};
    assert_int_equal(delta_set_open(f->model, &member, 1, &set, &error), GRAFT_SHAPE);
    assert_int_equal(error.expected[1], 208);
    assert_int_equal(error.found[1], 209);
    *l = good;
}

static void numbers_that_are_not_finite_are_refused(void **state)
{
    struct fixture *f = *state;
    refuse(f, NAN, GRAFT_INVALID_ARGUMENT, "weight of member 0");
    f->adapter.own[5].scale = INFINITY;
    refuse(f, 1, GRAFT_INVALID_ARGUMENT, "scale at site 5");
    f->adapter.own[5].scale = 1;
}

static void a_mix_keeps_the_order_of_its_members_and_leaves_out_weight_0(void **state)
{
    const struct fixture *f = *state;
    const struct lowrank **none = calloc((size_t)model_n_sites(f->model), sizeof(*none));
    const struct lowrank **one = calloc((size_t)model_n_sites(f->model), sizeof(*one));
    one[4] = &f->adapter.own[4];
    const struct delta_member members[] = {{f->adapter.places, 1, NULL},
                                           {none, 2, NULL},
                                           {one, 3, NULL},
                                           {f->adapter.places, 0, NULL},
                                           {one, -4, NULL}};
    struct delta_set *set = NULL;
    assert_int_equal(delta_set_open(f->model, members, 5, &set, NULL), GRAFT_OK);
    assert_int_equal(set->starts[4], 4);
    assert_int_equal(set->starts[5], 7);
    assert_int_equal(set->starts[model_n_sites(f->model)], model_n_sites(f->model) + 2);
    assert_true(set->deltas[4].weight == 1 && set->deltas[5].weight == 3);
    assert_true(set->deltas[6].weight == -4 && set->deltas[6].lowrank == one[4]);
    assert_int_equal(set->most_deltas, LINEAR_COUNT + 2);
    assert_int_equal(set->most_ranks, 3 * (LINEAR_COUNT + 2));
    delta_set_close(&set);
    assert_null(set);
    delta_set_close(&set);
    free(none);
    free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sites_are_the_linears_of_the_blocks_and_the_head),
        cmocka_unit_test(factors_that_do_not_fit_are_refused_with_both_shapes),
        cmocka_unit_test(numbers_that_are_not_finite_are_refused),
        cmocka_unit_test(a_mix_keeps_the_order_of_its_members_and_leaves_out_weight_0),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
