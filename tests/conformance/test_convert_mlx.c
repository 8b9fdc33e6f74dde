/* test_convert_mlx.c: MLX directories that graft writes: their groups against the weights they were made of, their
 * files as MLX has them, and fused ones.
 */
#include "fuse_support.h"
#include "model/convert/convert.h"

#include <math.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, fuse_setup, fuse_teardown)

static void convert(const char *from, const char *to, const char *type)
{
    const graft_convert_options options = {
        .struct_size = sizeof options, .format = GRAFT_FORMAT_MLX, .type = type};
    graft_error error = {0};
    if (model_convert(&fuse_rt, at(from), at(to), &options, &error) != GRAFT_OK)
        fail_msg("%s: %s", type, error.message);
}

/* Each value is half a step of its group off at most, and what half precision does to scale and bias. */
static void check_groups(const struct matrix *exact, const struct matrix *coded, int levels)
{
    float x[512], y[512];
    assert_true(exact->n_in <= 512);
    for (int64_t o = 0; o < exact->n_out; o++) {
        fuse_rt.kernels->dequantize[exact->type](exact, o, 0, exact->n_in, x);
        fuse_rt.kernels->dequantize[coded->type](coded, o, 0, coded->n_in, y);
        for (int64_t g = 0; g < exact->n_in; g += 64) {
            double low = (double)x[g], high = low;
            for (int i = 1; i < 64; i++) {
                low = (double)x[g + i] < low ? (double)x[g + i] : low;
                high = (double)x[g + i] > high ? (double)x[g + i] : high;
            }
            double step = (high - low) / levels, slack = 0.0006 * (high - low) + 0.0006 * fabs(low);
            for (int i = 0; i < 64; i++)
                assert_true(fabs((double)x[g + i] - (double)y[g + i]) <= step / 2 + slack);
        }
    }
}

static void groups_are_half_a_step_off_at_most(void **state)
{
    (void)state;
    const struct fuse_case c = {"llama", "lora-all", true, GRAFT_TYPE_F32, {1, 0}};
    static const struct {
        const char *type;
        graft_type held;
        int levels;
    } TYPES[] = {{"mlx4", GRAFT_TYPE_MLX4, 15}, {"mlx8", GRAFT_TYPE_MLX8, 255}};
    fuse_write_case(&c);
    for (size_t t = 0; t < ARRAY_LEN(TYPES); t++) {
        convert("base", TYPES[t].type, TYPES[t].type);
        struct model *base = open_model(&fuse_rt, at("base")),
                     *m = open_model(&fuse_rt, at(TYPES[t].type));
        for (int site = 0; site < model_n_sites(m); site++) {
            assert_int_equal(model_site_weight(m, site)->type, TYPES[t].held);
            check_groups(model_site_weight(base, site), model_site_weight(m, site),
                         TYPES[t].levels);
        }
        check_groups(&base->embed, &m->embed, TYPES[t].levels);
        assert_int_equal(m->config.mlx.group, 64);
        model_close(&base);
        model_close(&m);
    }
}

static void rows_that_are_no_whole_groups_stay_floats(void **state)
{
    (void)state;
    const struct fuse_case c = {"qwen2", "lora-all", false, GRAFT_TYPE_F32, {1, 0}};
    fuse_write_case(&c); /* 96 wide */
    convert("base", "out", "mlx4");
    struct model *m = open_model(&fuse_rt, at("out"));
    assert_int_equal(m->embed.type, GRAFT_TYPE_F16);
    assert_true(m->config.tied);
    model_close(&m);
}

static void a_fused_directory_has_8_bits_where_4_would_erase_the_change(void **state)
{
    (void)state;
    const struct fuse_case c = {"qwen2", "lora-all", true, GRAFT_TYPE_F32, {1, 0}};
    graft_fuse_options options = {
        .struct_size = sizeof options, .format = GRAFT_FORMAT_MLX, .type = "mlx4", .fallback = 0.9};
    graft_error error = {0};
    char *text = NULL;
    fuse_write_case(&c);
    convert("base", "coarse", "mlx4");
    graft_fuse_member member = {.path = at("a0"), .weight = 0.02f};
    if (fuse_write(&fuse_rt, at("coarse"), &member, 1, at("out"), &options, &text, &error) !=
        GRAFT_OK)
        fail_msg("%s", error.message);
    json_t *certificate = json_loads(text, 0, NULL);
    static const char NAME[] = "model.layers.1.mlp.up_proj.weight";
    assert_string_equal(fuse_type(certificate, NAME), "MLX8");
    assert_true(fabs(fuse_number(certificate, NAME, "retained") - 1) < 0.1);
    struct model *m = open_model(&fuse_rt, at("out"));
    assert_int_equal(m->layers[1].linear[LINEAR_UP].type, GRAFT_TYPE_MLX8);
    assert_int_equal(m->embed.type, GRAFT_TYPE_MLX4);
    model_close(&m);
    json_decref(certificate);
    mem_free(&fuse_rt.mem, text);
}

static void other_types_are_refused(void **state)
{
    (void)state;
    const struct fuse_case c = {"llama", "lora", false, GRAFT_TYPE_F32, {1, 0}};
    graft_convert_options options = {
        .struct_size = sizeof options, .format = GRAFT_FORMAT_MLX, .type = "q4_0"};
    graft_error error = {0};
    fuse_write_case(&c);
    assert_int_equal(model_convert(&fuse_rt, at("base"), at("out"), &options, &error),
                     GRAFT_INVALID_ARGUMENT);
    options.format = GRAFT_FORMAT_GGUF;
    options.type = "mlx4";
    assert_int_equal(model_convert(&fuse_rt, at("base"), at("out"), &options, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_false(path_exists(at("out")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(groups_are_half_a_step_off_at_most),
        TEST(rows_that_are_no_whole_groups_stay_floats),
        TEST(a_fused_directory_has_8_bits_where_4_would_erase_the_change),
        TEST(other_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
