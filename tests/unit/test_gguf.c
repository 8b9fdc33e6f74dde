/* test_gguf.c: the GGUF reader, its typed values and the writer: what is refused and why, what is
 * read, round trips, lack of memory. The fixtures are specs (spec_bytes.h); each becomes a seed of
 * the fuzz target.
 */
#include "formats/formats.h"

#include "unit/failing_allocator.h"
#include "unit/spec_bytes.h"

#include <float.h>
#include <math.h>
#include <unistd.h>

#define HEAD(tensors, values) "raw=GGUF u32=3 u64=" #tensors " u64=" #values
/* One tensor "a" of 32 floats behind whatever metadata. */
#define TENSOR_A " str=a u32=1 u64=32 u32=0 u64=0"
#define DATA " pad=32 ramp=128"
/* A tensor of the given dims, type and offset with 128 bytes of data. */
#define ONE(dims, type, offset) HEAD(1, 0) " str=a " dims " u32=" #type " u64=" #offset DATA
#define VALUE(rest) HEAD(0, 1) " str=k " rest

struct fixture {
    const char *name, *spec;
    graft_status status;
    const char *message; /* a part of it */
    const char *tensor;  /* that graft_error names, NULL: none */
};

static const struct fixture REFUSED[] = {
    {"magic", "raw=GGUX u32=3 u64=0 u64=0", GRAFT_FORMAT, "does not begin with", NULL},
    {"ggjt", "raw=tjgg u32=3 u64=0 u64=0", GRAFT_UNSUPPORTED, "a GGJT file", NULL},
    {"lfs", "raw=version_https://git-lfs.github.com/spec/v1", GRAFT_UNSUPPORTED,
     "a Git-LFS pointer", NULL},
    {"pickle", "raw=\x80\2}q zeros=30", GRAFT_UNSUPPORTED, "a pickle", NULL},
    {"short", "raw=GGUF u32=3 u64=0", GRAFT_FORMAT, "too short", NULL},
    {"version_1", "raw=GGUF u32=1 u64=0 u64=0", GRAFT_UNSUPPORTED, "version 1", NULL},
    {"version_0", "raw=GGUF u32=0 u64=0 u64=0", GRAFT_UNSUPPORTED, "version 0", NULL},
    {"big_endian", "raw=GGUF u32=0x03000000 u64=0 u64=0", GRAFT_UNSUPPORTED, "a big-endian GGUF",
     NULL},
    {"many_values", HEAD(0, 0x1000000000000000), GRAFT_FORMAT, "metadata entries; the file is",
     NULL},
    {"values_beyond_the_bytes", HEAD(0, 100) " zeros=64", GRAFT_FORMAT, "100 metadata entries",
     NULL},
    {"tensors_beyond_the_bytes", HEAD(100, 0) " zeros=64", GRAFT_FORMAT, "100 tensors", NULL},
    {"many_tensors", HEAD(-1, 0) " zeros=64", GRAFT_FORMAT, "tensors; the file is", NULL},
    {"counts_together", HEAD(1, 1) " zeros=30", GRAFT_FORMAT, "claims 1 tensors", NULL},
    {"key_cut", HEAD(0, 1) " u64=100 raw=abcdefgh", GRAFT_FORMAT, "inside metadata entry 0", NULL},
    {"key_length_wraps", HEAD(0, 1) " u64=-8 raw=abcdefgh", GRAFT_FORMAT, "inside metadata entry 0",
     NULL},
    {"key_empty", HEAD(0, 1) " str= u32=4 u32=1", GRAFT_FORMAT, "\"\" cannot be a key", NULL},
    {"key_with_nul", HEAD(0, 1) " u64=3 raw=a u8=0 raw=b u32=4 u32=1", GRAFT_FORMAT, "\"a?b\"",
     NULL},
    {"key_no_utf8", HEAD(0, 1) " str=\xff u32=4 u32=1", GRAFT_FORMAT, "\"?\"", NULL},
    {"key_twice", HEAD(0, 2) " str=k u32=4 u32=1 str=k u32=4 u32=2", GRAFT_FORMAT, "twice", NULL},
    {"type_cut", HEAD(0, 1) " str=kkkkk u8=4", GRAFT_FORMAT, "inside metadata entry 0", NULL},
    {"type_unknown", VALUE("u32=13 u64=0"), GRAFT_FORMAT, "type 13 does not exist", NULL},
    {"value_cut", VALUE("u32=10 u32=1"), GRAFT_FORMAT, "ends past the file (4 bytes left)", NULL},
    {"string_cut", VALUE("u32=8 u64=9 raw=abcdefgh"), GRAFT_FORMAT, "ends past the file", NULL},
    {"string_wraps", VALUE("u32=8 u64=-1 raw=abcdefgh"), GRAFT_FORMAT, "ends past the file", NULL},
    {"bool_2", VALUE("u32=7 u8=2"), GRAFT_FORMAT, "a boolean is 2", NULL},
    {"bools_2", VALUE("u32=9 u32=7 u64=3 u8=0 u8=1 u8=2"), GRAFT_FORMAT, "a boolean is 2", NULL},
    {"array_cut", VALUE("u32=9 u32=4"), GRAFT_FORMAT, "inside metadata entry 0", NULL},
    {"array_long", VALUE("u32=9 u32=4 u64=3 u32=1 u32=2"), GRAFT_FORMAT, "3 values end past", NULL},
    {"array_wraps", VALUE("u32=9 u32=4 u64=0x4000000000000001 u32=1"), GRAFT_FORMAT, "end past",
     NULL},
    {"array_of_strings_long", VALUE("u32=9 u32=8 u64=-1 str=a"), GRAFT_FORMAT, "end past", NULL},
    {"array_of_arrays", VALUE("u32=9 u32=9 u64=1 u32=4 u64=0"), GRAFT_UNSUPPORTED,
     "array of arrays", NULL},
    {"alignment_0", HEAD(0, 1) " str=general.alignment u32=4 u32=0", GRAFT_FORMAT, "alignment",
     NULL},
    {"alignment_24", HEAD(0, 1) " str=general.alignment u32=4 u32=24", GRAFT_FORMAT,
     "no power of two", NULL},
    {"alignment_string", HEAD(0, 1) " str=general.alignment u32=8 str=32", GRAFT_FORMAT,
     "no integer", NULL},
    {"name_cut", HEAD(1, 0) " u64=30 zeros=24", GRAFT_FORMAT, "description of tensor 0", NULL},
    {"name_empty", HEAD(1, 0) " str= u32=1 u64=32 u32=0 u64=0" DATA, GRAFT_FORMAT,
     "cannot be a name", NULL},
    {"name_twice", HEAD(2, 0) TENSOR_A " str=a u32=1 u64=32 u32=0 u64=128" DATA DATA, GRAFT_FORMAT,
     "in the file twice", "a"},
    {"dims_cut", HEAD(1, 0) " str=aaaaaaaaaaaaaaaa", GRAFT_FORMAT, "description of tensor 0", NULL},
    {"ne_cut", HEAD(1, 0) " str=a u32=3 u64=1 u64=1", GRAFT_FORMAT, "description of tensor 0",
     NULL},
    {"offset_cut", HEAD(1, 0) " str=a u32=1 u64=1 u32=0", GRAFT_FORMAT, "description of tensor 0",
     NULL},
    {"dims_5", ONE("u32=5 u64=1 u64=1 u64=1 u64=1 u64=1", 0, 0), GRAFT_FORMAT, "5 dimensions", "a"},
    {"ne_zero", ONE("u32=2 u64=4 u64=0", 0, 0), GRAFT_FORMAT, "dimension 1 is 0", "a"},
    {"ne_negative", ONE("u32=1 u64=-32", 0, 0), GRAFT_FORMAT, "dimension 0 is 18446744073709551584",
     "a"},
    {"ne_wraps", ONE("u32=2 u64=0x100000000 u64=0x100000000", 0, 0), GRAFT_FORMAT, "too large",
     "a"},
    {"bytes_wrap", ONE("u32=1 u64=0x4000000000000000", 0, 0), GRAFT_FORMAT, "too large", "a"},
    {"ragged", ONE("u32=2 u64=33 u64=2", 2, 0), GRAFT_FORMAT,
     "rows of 33 values, and Q4_0 comes in blocks of 32", "a"},
    {"type_iq4", ONE("u32=1 u64=32", 20, 0), GRAFT_UNSUPPORTED, "type IQ4_NL (20)", "a"},
    {"type_tq1", ONE("u32=1 u64=32", 34, 0), GRAFT_UNSUPPORTED, "type TQ1_0 (34)", "a"},
    {"type_mxfp4", ONE("u32=1 u64=32", 39, 0), GRAFT_UNSUPPORTED, "type MXFP4 (39)", "a"},
    {"type_q4_2", ONE("u32=1 u64=32", 4, 0), GRAFT_UNSUPPORTED, "type Q4_2 (4)", "a"},
    {"type_unheard", ONE("u32=1 u64=32", 999, 0), GRAFT_UNSUPPORTED, "type 999", "a"},
    {"offset_odd", ONE("u32=1 u64=16", 0, 8), GRAFT_FORMAT, "no multiple of the alignment 32", "a"},
    {"offset_wraps", ONE("u32=1 u64=32", 0, -32), GRAFT_FORMAT, "end past the data (128 bytes)",
     "a"},
    {"past_the_end", ONE("u32=1 u64=33", 0, 0), GRAFT_FORMAT,
     "132 bytes at offset 0 end past the data (128 bytes)", "a"},
    {"no_data", HEAD(1, 0) TENSOR_A, GRAFT_FORMAT, "end past the data (0 bytes)", "a"},
    {"overlap",
     HEAD(2, 0) " str=late u32=1 u64=8 u32=0 u64=64 str=early u32=1 u64=17 u32=0 u64=0" DATA,
     GRAFT_FORMAT, "overlap those of tensor \"early\"", "late"},
};

static const struct fixture LOADED[] = {
    {"nothing", HEAD(0, 0), GRAFT_OK, NULL, NULL},
    {"version_2", "raw=GGUF u32=2 u64=1 u64=0" TENSOR_A DATA, GRAFT_OK, NULL, NULL},
    {"scalar", ONE("u32=0", 0, 0), GRAFT_OK, NULL, NULL},
    {"gap_and_tail", ONE("u32=1 u64=4", 0, 32) " zeros=3", GRAFT_OK, NULL, NULL},
    {"unordered",
     HEAD(2, 0) " str=late u32=1 u64=8 u32=0 u64=64 str=early u32=1 u64=16 u32=0 u64=0" DATA,
     GRAFT_OK, NULL, NULL},
    {"alignment_8",
     HEAD(1, 1) " str=general.alignment u32=10 u64=8 str=a u32=1 u64=2 u32=0 u64=8 pad=8 ramp=16",
     GRAFT_OK, NULL, NULL},
    {"wide_alignment", HEAD(0, 1) " str=general.alignment u32=4 u32=1048576", GRAFT_OK, NULL, NULL},
    {"empty_arrays", HEAD(0, 2) " str=a u32=9 u32=8 u64=0 str=b u32=9 u32=12 u64=0", GRAFT_OK, NULL,
     NULL},
};

/* Values of every type, and arrays. */
static const char VALUES[] = HEAD(
    0, 18) " str=u8 u32=0 u8=255 str=i8 u32=1 u8=-128 str=u16 u32=2 u16=65535 str=i16 u32=3 u16=-2"
           " str=u32 u32=4 u32=-1 str=i32 u32=5 u32=-3 str=f32 u32=6 f32=1.5 str=no u32=7 u8=0"
           " str=yes u32=7 u8=1 str=text u32=8 str=a_b str=u64 u32=10 u64=-1 str=i64 u32=11 u64=-4"
           " str=f64 u32=12 f64=-0.1 str=nan u32=6 f32=nan str=none u32=8 str="
           " str=words u32=9 u32=8 u64=3 str=one str= str=three"
           " str=i16s u32=9 u32=3 u64=2 u16=-5 u16=7 str=f32s u32=9 u32=6 u64=2 f32=0.25 f32=inf";

static uint8_t *build(const char *name, const char *spec, size_t *size)
{
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    spec_append(&out, spec);
    *size = out.size;
    uint8_t *bytes = exact_copy(out.data, out.size);
    save_seed("gguf", name, bytes, *size);
    buf_free(&out);
    return bytes;
}

static void malformed_files_are_refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(REFUSED); i++) {
        const struct fixture *f = &REFUSED[i];
        struct failing_allocator none;
        struct mem mem;
        struct gguf g;
        graft_error error;
        size_t size;
        uint8_t *bytes = build(f->name, f->spec, &size);
        failing_init(&none, &mem, 0);
        graft_error_init(&error);
        graft_status status = gguf_parse(&g, &mem, bytes, size, &error);
        if (status != f->status || !strstr(error.message, f->message) ||
            strcmp(error.tensor, f->tensor ? f->tensor : ""))
            fail_msg("%s: %s (status %d, tensor \"%s\")", f->name, error.message, status,
                     error.tensor);
        assert_int_equal(mem.bytes_in_use, 0);
        assert_true(none.largest < 16384);
        free(bytes);
    }
}

static void valid_files_load(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LOADED); i++) {
        struct gguf g;
        graft_error error;
        size_t size;
        uint8_t *bytes = build(LOADED[i].name, LOADED[i].spec, &size);
        if (gguf_parse(&g, NULL, bytes, size, &error))
            fail_msg("%s: %s", LOADED[i].name, error.message);
        assert_true(g.data_offset <= size);
        gguf_free(&g);
        free(bytes);
    }
}

static void cut_short_a_file_is_refused_at_every_length(void **state)
{
    size_t size;
    (void)state;
    uint8_t *bytes = build(
        "metadata_and_tensor",
        HEAD(1, 2) " str=s u32=9 u32=8 u64=2 str=x str=yy str=b u32=7 u8=1" TENSOR_A DATA, &size);
    for (size_t length = 0; length < size; length++) {
        struct gguf g;
        uint8_t *cut = exact_copy(bytes, length);
        assert_int_equal(gguf_parse(&g, NULL, cut, length, NULL), GRAFT_FORMAT);
        free(cut);
    }
    free(bytes);
}

static void shapes_come_outermost_first(void **state)
{
    struct gguf g;
    size_t size;
    (void)state;
    uint8_t *bytes = build("three_dims", ONE("u32=3 u64=2 u64=3 u64=4", 0, 0), &size);
    assert_int_equal(gguf_parse(&g, NULL, bytes, size, NULL), GRAFT_OK);
    const struct tensor_info *a = gguf_find_tensor(&g, "a");
    assert_non_null(a);
    assert_int_equal(a->n_dims, 3);
    assert_int_equal(a->shape[0], 4);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->shape[2], 2);
    assert_int_equal(a->size, 96);
    assert_ptr_equal(a->data, bytes + g.data_offset);
    assert_int_equal(a->data[5], 5);
    assert_null(gguf_find_tensor(&g, "b"));
    gguf_free(&g);
    free(bytes);
}

/* ---- values ------------------------------------------------------------------------------- */

static uint8_t *parse_values(struct gguf *g)
{
    size_t size;
    uint8_t *bytes = build("values", VALUES, &size);
    assert_int_equal(gguf_parse(g, NULL, bytes, size, NULL), GRAFT_OK);
    assert_int_equal(g->n_values, 18);
    return bytes;
}

static void integers_of_every_width_are_read(void **state)
{
    static const struct {
        const char *key;
        int64_t value;
    } EXPECTED[] = {{"u8", 255}, {"i8", -128},        {"u16", 65535}, {"i16", -2},
                    {"i32", -3}, {"u32", 4294967295}, {"i64", -4}};
    struct gguf g;
    uint8_t *bytes = parse_values(&g);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(EXPECTED); i++) {
        int64_t value = 0;
        double number = 0;
        assert_int_equal(gguf_get_int(&g, EXPECTED[i].key, INT64_MIN, INT64_MAX, &value, NULL),
                         GRAFT_OK);
        assert_int_equal(value, EXPECTED[i].value);
        assert_int_equal(gguf_get_number(&g, EXPECTED[i].key, &number, NULL), GRAFT_OK);
        assert_true(number == (double)EXPECTED[i].value);
    }
    gguf_free(&g);
    free(bytes);
}

static void an_integer_out_of_range_or_of_another_type_names_the_key(void **state)
{
    static const char *const WRONG[] = {"f32", "text", "yes", "i16s", "nan"};
    struct gguf g;
    graft_error error;
    int64_t value = 77;
    uint8_t *bytes = parse_values(&g);
    (void)state;
    assert_int_equal(gguf_get_int(&g, "u64", INT64_MIN, INT64_MAX, &value, &error), GRAFT_FORMAT);
    assert_int_equal(gguf_get_int(&g, "u8", 0, 254, &value, &error), GRAFT_FORMAT);
    assert_int_equal(gguf_get_int(&g, "i8", -127, 0, &value, &error), GRAFT_FORMAT);
    assert_non_null(strstr(error.message, "\"i8\" is not within -127..0"));
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        assert_int_equal(gguf_get_int(&g, WRONG[i], INT64_MIN, INT64_MAX, &value, &error),
                         GRAFT_FORMAT);
        assert_non_null(strstr(error.message, WRONG[i]));
    }
    assert_int_equal(gguf_get_int(&g, "absent", 0, 1, &value, NULL), GRAFT_OK);
    assert_int_equal(value, 77);
    gguf_free(&g);
    free(bytes);
}

static void numbers_booleans_and_strings_are_read_and_nothing_is_reinterpreted(void **state)
{
    struct gguf g;
    double number = 9;
    bool flag = true;
    const char *text = "";
    size_t length = 9;
    uint8_t *bytes = parse_values(&g);
    (void)state;
    assert_int_equal(gguf_get_number(&g, "f32", &number, NULL), GRAFT_OK);
    assert_true(number == 1.5);
    assert_int_equal(gguf_get_number(&g, "f64", &number, NULL), GRAFT_OK);
    assert_true(number == -0.1);
    assert_int_equal(gguf_get_number(&g, "u64", &number, NULL), GRAFT_OK);
    assert_true(number == 0x1p64);
    assert_int_equal(gguf_get_number(&g, "nan", &number, NULL), GRAFT_FORMAT);
    assert_int_equal(gguf_get_number(&g, "text", &number, NULL), GRAFT_FORMAT);
    assert_int_equal(gguf_get_number(&g, "f32s", &number, NULL), GRAFT_FORMAT);
    assert_int_equal(gguf_get_number(&g, "absent", &number, NULL), GRAFT_OK);
    assert_true(number == 0x1p64);
    assert_int_equal(gguf_get_bool(&g, "no", &flag, NULL), GRAFT_OK);
    assert_false(flag);
    assert_int_equal(gguf_get_bool(&g, "yes", &flag, NULL), GRAFT_OK);
    assert_true(flag);
    assert_int_equal(gguf_get_bool(&g, "u8", &flag, NULL), GRAFT_FORMAT);
    assert_int_equal(gguf_get_bool(&g, "absent", &flag, NULL), GRAFT_OK);
    assert_int_equal(gguf_get_string(&g, "text", &text, &length, NULL), GRAFT_OK);
    assert_int_equal(length, 3);
    assert_memory_equal(text, "a b", 3);
    assert_int_equal(gguf_get_string(&g, "none", &text, &length, NULL), GRAFT_OK);
    assert_int_equal(length, 0);
    assert_non_null(text);
    assert_int_equal(gguf_get_string(&g, "words", &text, &length, NULL), GRAFT_FORMAT);
    assert_int_equal(gguf_get_string(&g, "u8", &text, &length, NULL), GRAFT_FORMAT);
    assert_int_equal(gguf_get_string(&g, "absent", &text, &length, NULL), GRAFT_OK);
    assert_null(text);
    gguf_free(&g);
    free(bytes);
}

static void arrays_are_read_item_by_item(void **state)
{
    static const char *const WORDS[] = {"one", "", "three"};
    struct gguf g;
    struct gguf_cursor cursor;
    const char *text;
    size_t length;
    double number;
    uint8_t *bytes = parse_values(&g);
    (void)state;
    assert_true(gguf_strings(gguf_find(&g, "words"), &cursor));
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++) {
        assert_true(gguf_next_string(&cursor, &text, &length));
        assert_int_equal(length, strlen(WORDS[i]));
        assert_memory_equal(text, WORDS[i], length);
    }
    assert_false(gguf_next_string(&cursor, &text, &length));
    assert_false(gguf_strings(gguf_find(&g, "text"), &cursor));
    assert_false(gguf_strings(gguf_find(&g, "i16s"), &cursor));
    assert_false(gguf_strings(NULL, &cursor));
    assert_true(gguf_item_number(gguf_find(&g, "i16s"), 0, &number) && number == -5);
    assert_true(gguf_item_number(gguf_find(&g, "i16s"), 1, &number) && number == 7);
    assert_false(gguf_item_number(gguf_find(&g, "i16s"), 2, &number));
    assert_true(gguf_item_number(gguf_find(&g, "f32s"), 0, &number) && number == 0.25);
    assert_true(gguf_item_number(gguf_find(&g, "f32s"), 1, &number) && isinf(number));
    assert_false(gguf_item_number(gguf_find(&g, "words"), 0, &number));
    assert_false(gguf_item_number(NULL, 0, &number));
    gguf_free(&g);
    free(bytes);
}

/* ---- writing ------------------------------------------------------------------------------ */

static const struct tensor_decl DECLS[] = {
    {"token_embd.weight", GRAFT_TYPE_Q4_K, 2, {2, 256}},
    {"odd", GRAFT_TYPE_F32, 1, {5}},
    {"four", GRAFT_TYPE_BF16, 4, {4, 3, 2, 1}},
    {"scalar", GRAFT_TYPE_F16, 0, {0}},
};
static const size_t SIZES[] = {288, 20, 48, 2};

static char *temporary_path(void)
{
    char name[] = "/tmp/graft-test-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    close(fd);
    return mem_strdup(NULL, name);
}

static void put_values(struct gguf_writer *w)
{
    static const char *const WORDS[] = {"a", "", "\xe2\x82\xac"};
    static const size_t LENGTHS[] = {1, 0, 3};
    static const float FLOATS[] = {1.0f, -FLT_MAX};
    static const int32_t INTS[] = {-1, 2, INT32_MAX};
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_u32(w, "u32", UINT32_MAX);
    gguf_put_f32(w, "f32", 0.1f);
    gguf_put_bool(w, "bool", true);
    gguf_put_strings(w, "words", WORDS, LENGTHS, 3);
    gguf_put_f32s(w, "floats", FLOATS, 2);
    gguf_put_i32s(w, "ints", INTS, 3);
}

static graft_status write_file(struct mem *mem, const char *path, const struct gguf *copy_from,
                               graft_error *error)
{
    struct gguf_writer w;
    struct file_writer file = {0};
    uint8_t bytes[512];
    graft_status status = GRAFT_OK;
    gguf_writer_init(&w, mem);
    put_values(&w);
    for (size_t i = 0; copy_from && i < copy_from->n_values; i++)
        gguf_put_value(&w, &copy_from->values[i]);
    for (size_t i = 0; !status && i < ARRAY_LEN(DECLS); i++)
        status = gguf_declare(&w, &DECLS[i], error);
    if (!status)
        status = file_writer_open(&file, mem, path, error);
    if (!status)
        status = gguf_write_head(&w, &file, error);
    for (size_t i = 0; !status && i < ARRAY_LEN(DECLS); i++) {
        memset(bytes, (int)(i + 1), sizeof bytes);
        status = gguf_write_tensor(&file, bytes, SIZES[i], error);
    }
    if (!status)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    gguf_writer_free(&w);
    return status;
}

static void check_written_tensors(const struct gguf *g, const uint8_t *bytes)
{
    assert_int_equal(g->n_tensors, ARRAY_LEN(DECLS));
    for (size_t i = 0; i < ARRAY_LEN(DECLS); i++) {
        const struct tensor_info *t = gguf_find_tensor(g, DECLS[i].name);
        assert_non_null(t);
        assert_int_equal(t->type, DECLS[i].type);
        assert_int_equal(t->n_dims, DECLS[i].n_dims);
        assert_memory_equal(t->shape, DECLS[i].shape, sizeof(int64_t) * (size_t)t->n_dims);
        assert_int_equal(t->size, SIZES[i]);
        assert_int_equal((size_t)(t->data - bytes) % 32, 0);
        for (size_t b = 0; b < t->size; b++)
            assert_int_equal(t->data[b], i + 1);
    }
}

static void what_is_written_reads_back(void **state)
{
    struct gguf values, g;
    struct file_map map;
    uint8_t *bytes = parse_values(&values);
    char *path = temporary_path();
    const char *text;
    size_t length;
    double number;
    int64_t whole = 0;
    (void)state;
    /* "u32" and "f32" are among both: a writer of copies has to leave them out. */
    values.values[4].key = "copied.u32";
    values.values[6].key = "copied.f32";
    values.values[15].key = "copied.words";
    assert_int_equal(write_file(NULL, path, &values, NULL), GRAFT_OK);
    assert_int_equal(file_map_open(&map, NULL, path, MAP_COPY, NULL), GRAFT_OK);
    save_seed("gguf", "written", map.data, map.size);
    assert_int_equal(gguf_parse(&g, NULL, map.data, map.size, NULL), GRAFT_OK);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.n_values, 7 + 18);
    check_written_tensors(&g, map.data);
    assert_int_equal(gguf_get_string(&g, "general.architecture", &text, &length, NULL), GRAFT_OK);
    assert_true(length == 5 && !memcmp(text, "llama", 5));
    assert_int_equal(gguf_get_int(&g, "u32", 0, UINT32_MAX, &whole, NULL), GRAFT_OK);
    assert_int_equal(whole, UINT32_MAX);
    assert_true(gguf_item_number(gguf_find(&g, "floats"), 1, &number));
    assert_true(number == -(double)FLT_MAX);
    assert_true(gguf_item_number(gguf_find(&g, "ints"), 2, &number) && number == INT32_MAX);
    for (size_t i = 0; i < values.n_values; i++) {
        const struct gguf_value *copy = gguf_find(&g, values.values[i].key);
        assert_non_null(copy);
        assert_int_equal(copy->type, values.values[i].type);
        assert_int_equal(copy->is_array, values.values[i].is_array);
        assert_int_equal(copy->size, values.values[i].size);
        assert_memory_equal(copy->data, values.values[i].data, copy->size);
    }
    gguf_free(&g);
    gguf_free(&values);
    file_map_close(&map);
    unlink(path);
    mem_free(NULL, path);
    free(bytes);
}

static void declarations_that_cannot_be_written_are_refused(void **state)
{
    static const struct tensor_decl BAD[] = {
        {"", GRAFT_TYPE_F32, 1, {1}},
        {"\xff", GRAFT_TYPE_F32, 1, {1}},
        {"n234567890123456789012345678901234567890123456789012345678901234",
         GRAFT_TYPE_F32,
         1,
         {1}},
        {"n", GRAFT_TYPE_U8, 1, {1}},
        {"n", GRAFT_TYPE_F32, 5, {1, 1, 1, 1, 1}},
        {"n", GRAFT_TYPE_F32, -1, {1}},
        {"n", GRAFT_TYPE_F32, 2, {0, 1}},
        {"n", GRAFT_TYPE_F32, 1, {-1}},
        {"n", GRAFT_TYPE_Q8_0, 1, {33}},
        {"n", GRAFT_TYPE_I8, 2, {INT64_MAX, 4}},
        {"n", GRAFT_TYPE_I8, 1, {INT64_MAX}},
    };
    struct gguf_writer w;
    (void)state;
    gguf_writer_init(&w, NULL);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(gguf_declare(&w, &BAD[i], NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(w.n_tensors, 0);
    assert_int_equal(w.infos.size, 0);
    gguf_writer_free(&w);
}

static void a_file_with_nothing_in_it_can_be_written(void **state)
{
    struct gguf_writer w;
    struct file_writer file;
    struct file_map map;
    struct gguf g;
    char *path = temporary_path();
    (void)state;
    gguf_writer_init(&w, NULL);
    assert_int_equal(file_writer_open(&file, NULL, path, NULL), GRAFT_OK);
    assert_int_equal(gguf_write_head(&w, &file, NULL), GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    gguf_writer_free(&w);
    assert_int_equal(file_map_open(&map, NULL, path, MAP_COPY, NULL), GRAFT_OK);
    assert_int_equal(gguf_parse(&g, NULL, map.data, map.size, NULL), GRAFT_OK);
    assert_int_equal(g.n_values + g.n_tensors, 0);
    gguf_free(&g);
    file_map_close(&map);
    unlink(path);
    mem_free(NULL, path);
}

/* ---- lack of memory ----------------------------------------------------------------------- */

static void parsing_without_memory_fails_cleanly_at_every_allocation(void **state)
{
    size_t size;
    (void)state;
    uint8_t *bytes =
        build("for_memory", HEAD(1, 2) " str=s u32=8 str=x str=b u32=7 u8=1" TENSOR_A DATA, &size);
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct gguf g;
        failing_init(&failing, &mem, n);
        graft_status status = gguf_parse(&g, &mem, bytes, size, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!status)
            gguf_free(&g);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!status)
            break;
    }
    free(bytes);
}

/* Names that fill several chunks of the arena, so that its later allocations fail too. */
static void long_names_without_memory_fail_cleanly(void **state)
{
    struct buf out;
    char name[3001];
    (void)state;
    memset(name, 'n', 3000);
    name[3000] = '\0';
    buf_init(&out, NULL, SIZE_MAX);
    spec_append(&out, HEAD(4, 4));
    for (int i = 0; i < 4; i++) {
        name[0] = (char)('a' + i);
        spec_append(&out, "u64=3000");
        buf_puts(&out, name);
        spec_append(&out, "u32=0 u8=1");
    }
    for (int i = 0; i < 4; i++) {
        name[0] = (char)('a' + i);
        char rest[64];
        spec_append(&out, "u64=3000");
        buf_puts(&out, name);
        snprintf(rest, sizeof rest, "u32=1 u64=1 u32=0 u64=%d", i * 32);
        spec_append(&out, rest);
    }
    spec_append(&out, "pad=32 zeros=128");
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct gguf g;
        failing_init(&failing, &mem, n);
        graft_status status = gguf_parse(&g, &mem, (const uint8_t *)out.data, out.size, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!status)
            gguf_free(&g);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!status)
            break;
    }
    buf_free(&out);
}

static void writing_without_memory_fails_cleanly_at_every_allocation(void **state)
{
    char *path = temporary_path();
    (void)state;
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        failing_init(&failing, &mem, n);
        graft_status status = write_file(&mem, path, NULL, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!status)
            break;
    }
    unlink(path);
    mem_free(NULL, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_files_are_refused_with_the_reason),
        cmocka_unit_test(valid_files_load),
        cmocka_unit_test(cut_short_a_file_is_refused_at_every_length),
        cmocka_unit_test(shapes_come_outermost_first),
        cmocka_unit_test(integers_of_every_width_are_read),
        cmocka_unit_test(an_integer_out_of_range_or_of_another_type_names_the_key),
        cmocka_unit_test(numbers_booleans_and_strings_are_read_and_nothing_is_reinterpreted),
        cmocka_unit_test(arrays_are_read_item_by_item),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(declarations_that_cannot_be_written_are_refused),
        cmocka_unit_test(a_file_with_nothing_in_it_can_be_written),
        cmocka_unit_test(parsing_without_memory_fails_cleanly_at_every_allocation),
        cmocka_unit_test(long_names_without_memory_fail_cleanly),
        cmocka_unit_test(writing_without_memory_fails_cleanly_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
