/* test_fuse_quality.c: what helps a small change through a coarse type: 8 bits, and rounding with feedback. Each
 * has to better what it claims to.
 */
#include "fuse_support.h"
#include "model/convert/convert.h"

#include <math.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, fuse_setup, fuse_teardown)

/* A base of 4 bits, as many are, and an adapter of a part of its weight. */
static void write_base(const char *arch)
{
    struct fuse_case c = {arch, "lora-all", true, GRAFT_TYPE_F32, {1, 0}};
    const graft_convert_options options = {.struct_size = sizeof options, .type = "q4_0"};
    graft_error error = {0};
    fuse_write_case(&c);
    if (model_convert(&fuse_rt, at("base"), at("base.gguf"), &options, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
}

struct outcome {
    double error, kept, least, most; /* of all matrices: mean relative error, shares retained */
    double kl;                       /* from the adapter beside the base */
    int n_wider;                     /* matrices with 8 bits */
};

static double divergence_from_mix(const char *fused, const graft_fuse_member *member,
                                  const char *sidecar)
{
    const graft_fuse_options quiet = {.struct_size = sizeof quiet};
    graft_token_id ids[96];
    graft_error error = {0};
    struct divergence d = {0};
    const graft_fuse_member beside = {.path = sidecar, .weight = 1};
    struct mix *mix = NULL, *side = NULL;
    for (int i = 0; i < 96; i++)
        ids[i] = 3 + i * i * 7 % 300;
    struct model *base = open_model(&fuse_rt, at("base.gguf")),
                 *m = open_model(&fuse_rt, at(fused));
    assert_int_equal(fuse_open_mix(base, member, 1, &mix, &error), GRAFT_OK);
    if (sidecar && fuse_open_mix(m, &beside, 1, &side, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    assert_int_equal(
        fuse_divergence(base, mix_deltas(mix), m, mix_deltas(side), ids, 96, &quiet, &d, &error),
        GRAFT_OK);
    assert_int_equal(d.positions, 96);
    mix_release(&mix);
    mix_release(&side);
    model_close(&base);
    model_close(&m);
    return d.mean;
}

static struct outcome fuse_with(float weight, const char *type, double fallback, bool compensate)
{
    const graft_fuse_options options = {.struct_size = sizeof options,
                                        .type = type,
                                        .fallback = fallback,
                                        .compensate = compensate};
    graft_fuse_member member = {.path = at("a0"), .weight = weight};
    graft_error error = {0};
    char *text = NULL;
    struct outcome o = {.least = INFINITY, .most = -INFINITY};
    if (fuse_write(&fuse_rt, at("base.gguf"), &member, 1, at("out.gguf"), &options, &text,
                   &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    json_t *json = json_loads(text, 0, NULL), *t;
    size_t i, n = json_array_size(json_object_get(json, "tensors"));
    json_array_foreach(json_object_get(json, "tensors"), i, t)
    {
        double kept = json_number_value(json_object_get(t, "retained"));
        o.error += json_number_value(json_object_get(t, "relative_error")) / (double)n;
        o.kept += kept / (double)n;
        o.least = fmin(o.least, kept);
        o.most = fmax(o.most, kept);
        o.n_wider += !strcmp(json_string_value(json_object_get(t, "type")), "Q8_0");
    }
    json_decref(json);
    mem_free(&fuse_rt.mem, text);
    member.path = at("a0");
    o.kl = divergence_from_mix("out.gguf", &member, NULL);
    return o;
}

/* An adapter of a fortieth of its weight is below half a step of 4 bits nearly everywhere. */
static void eight_bits_take_over_where_four_would_erase_the_change(void **state)
{
    (void)state;
    write_base("qwen2");
    struct outcome plain = fuse_with(0.025f, "q4_0", 0, false);
    struct outcome wide = fuse_with(0.025f, "q4_0", 0.9, false);
    assert_int_equal(plain.n_wider, 0);
    assert_true(plain.most < 0.1);
    assert_int_equal(wide.n_wider, 21);
    assert_true(wide.least > 0.98 && wide.most < 1.02);
    assert_true(wide.kl < plain.kl / 5);
}

static void a_change_that_gets_through_keeps_its_four_bits(void **state)
{
    (void)state;
    write_base("llama");
    struct outcome all = fuse_with(1, "q4_0", 0.9, false);
    struct outcome some = fuse_with(0.15f, "q4_0", 0.9, false);
    struct outcome strict = fuse_with(1, "q4_0", 0.9999, false);
    assert_int_equal(all.n_wider, 0);
    assert_true(all.least > 0.9);
    assert_true(some.n_wider > 0 && some.n_wider < 21);
    assert_true(some.least > 0.9);
    assert_true(strict.n_wider > 15);
}

static void feedback_retains_what_rounding_to_nearest_loses(void **state)
{
    (void)state;
    static const char *const TYPES[] = {"q4_0", "q4_1", "q5_0"};
    write_base("qwen2");
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        for (float weight = 0.06f; weight < 0.5f; weight *= 2.5f) {
            struct outcome plain = fuse_with(weight, TYPES[i], 0, false);
            struct outcome fed = fuse_with(weight, TYPES[i], 0, true);
            double lost = fmax(1 - plain.least, plain.most - 1);
            double still = fmax(1 - fed.least, fed.most - 1);
            if (!(still < lost / 2 || still < 0.005))
                fail_msg("%s at %g: %g without feedback, %g with", TYPES[i], (double)weight, lost,
                         still);
            assert_true(fed.error < 2 * plain.error); /* what it costs */
        }
}

/* ---- the sidecar -------------------------------------------------------------------------- */

/* Of one matrix of base and output: ‖W' − W'q − B A‖ / ‖W'‖ from the files, with W' from a fused F32 file. */
static double left_of(const struct model *exact, const struct model *got, const struct lowrank *l,
                      int site)
{
    const struct matrix *w = model_site_weight(exact, site), *q = model_site_weight(got, site);
    const struct kernels *k = fuse_rt.kernels;
    int64_t rank = l->a.n_out;
    float want[512], have[512], a[512], tile[LOWRANK_TILE];
    double norm = 0, left = 0;
    assert_true(w->n_in <= 512);
    for (int64_t o = 0; o < w->n_out; o++) {
        k->dequantize[w->type](w, o, 0, w->n_in, want);
        k->dequantize[q->type](q, o, 0, w->n_in, have);
        for (int64_t i = 0; i < w->n_in; i++)
            norm += (double)want[i] * (double)want[i];
        for (int64_t r = 0; r < rank; r++) {
            k->dequantize[l->a.type](&l->a, r, 0, w->n_in, a);
            k->dequantize[l->b.type](&l->b, o / LOWRANK_TILE * rank + r, 0, LOWRANK_TILE, tile);
            for (int64_t i = 0; i < w->n_in; i++)
                have[i] += l->scale * tile[o % LOWRANK_TILE] * a[i];
        }
        for (int64_t i = 0; i < w->n_in; i++)
            left += ((double)want[i] - (double)have[i]) * ((double)want[i] - (double)have[i]);
    }
    return sqrt(left / norm);
}

static void check_left(const json_t *certificate, const char *tensor, int site)
{
    graft_error error = {0};
    struct adapter *side = NULL;
    struct model *exact = open_model(&fuse_rt, at("exact.gguf")),
                 *got = open_model(&fuse_rt, at("out.gguf"));
    if (adapter_open(got, at("side"), NULL, &side, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    double left = left_of(exact, got, adapter_member(side, 1).lowranks[site], site);
    double said = fuse_number(certificate, tensor, "sidecar_error");
    double without = fuse_number(certificate, tensor, "relative_error");
    if (!(fabs(left - said) <= 1e-3 * without && left < 0.9 * without))
        fail_msg("%s: %g is left, %g by the certificate, of %g", tensor, left, said, without);
    adapter_release(&side);
    model_close(&exact);
    model_close(&got);
}

/* q of a Llama's GGUF has rows in another order than its sidecar. */
static void a_sidecar_holds_the_best_of_what_was_lost(void **state)
{
    (void)state;
    graft_fuse_options options = {.struct_size = sizeof options, .type = "f32"};
    graft_fuse_member member;
    graft_error error = {0};
    char *text = NULL;
    write_base("llama");
    member = (graft_fuse_member){.path = at("a0"), .weight = 0.025f};
    assert_int_equal(
        fuse_write(&fuse_rt, at("base.gguf"), &member, 1, at("exact.gguf"), &options, NULL, &error),
        GRAFT_OK);
    struct outcome plain = fuse_with(0.025f, "q4_0", 0, false);
    options = (graft_fuse_options){
        .struct_size = sizeof options, .type = "q4_0", .sidecar = at("side"), .sidecar_rank = 8};
    member.path = at("a0");
    if (fuse_write(&fuse_rt, at("base.gguf"), &member, 1, at("out.gguf"), &options, &text,
                   &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    json_t *certificate = json_loads(text, 0, NULL);
    check_left(certificate, "blk.1.attn_q.weight", model_site(1, LINEAR_Q));
    check_left(certificate, "blk.0.ffn_up.weight", model_site(0, LINEAR_UP));
    member.path = at("a0");
    double with = divergence_from_mix("out.gguf", &member, at("side"));
    if (!(with < plain.kl / 3))
        fail_msg("KL %g with the sidecar, %g without", with, plain.kl);
    json_decref(certificate);
    mem_free(&fuse_rt.mem, text);
}

static void a_sidecar_that_cannot_be_written_stops_the_work_before_it_begins(void **state)
{
    (void)state;
    const graft_fuse_options options = {
        .struct_size = sizeof options, .type = "q4_0", .sidecar = at("base"), .sidecar_rank = 8};
    graft_error error = {0};
    write_base("llama");
    graft_fuse_member member = {.path = at("a0"), .weight = 1};
    assert_int_equal(
        fuse_write(&fuse_rt, at("base.gguf"), &member, 1, at("out.gguf"), &options, NULL, &error),
        GRAFT_IO);
    assert_false(path_exists(at("out.gguf")));
}

static void feedback_leaves_floats_alone(void **state)
{
    (void)state;
    char *bytes[2];
    size_t sizes[2];
    write_base("qwen2");
    for (int i = 0; i < 2; i++) {
        fuse_with(0.06f, "f16", 0.9, i == 1);
        assert_int_equal(file_read(NULL, at("out.gguf"), 1 << 28, &bytes[i], &sizes[i], NULL), 0);
    }
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(bytes[0], bytes[1], sizes[0]);
    mem_free(NULL, bytes[0]);
    mem_free(NULL, bytes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(eight_bits_take_over_where_four_would_erase_the_change),
        TEST(a_change_that_gets_through_keeps_its_four_bits),
        TEST(feedback_retains_what_rounding_to_nearest_loses),
        TEST(a_sidecar_holds_the_best_of_what_was_lost),
        TEST(a_sidecar_that_cannot_be_written_stops_the_work_before_it_begins),
        TEST(feedback_leaves_floats_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
