/* schema_text.c: strings of a JSON schema: characters and their escapes, lengths, formats, constant texts.
 *
 * A free text may hold any character as it is or escaped, but no U+0000 and no half of a surrogate pair. A constant text, and
 * what a pattern or a format gives, has one form: escapes only where JSON asks for them.
 */
#include "schema_internal.h"

/* ---- characters ---- */

/* How a character is written that cannot stand for itself; NULL: it can. `out` holds what is no letter. */
static const char *escape_of(uint32_t code, char out[8])
{
    static const char codes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = code != 0 && code < 0x80 ? strchr(codes, (int)code) : NULL;
    if (found == NULL && code >= 0x20) {
        return NULL;
    }
    if (found != NULL) {
        snprintf(out, 8, "\\%c", letters[found - codes]);
    } else {
        snprintf(out, 8, "\\u%04x", (unsigned)code);
    }
    return out;
}

expr_id schema_characters(struct builder *b, const struct range *ranges, size_t n, bool negated)
{
    expr_id all = expr_class(b, ranges, n, negated);
    if (all < 0) {
        return -1;
    }
    const struct expr class = b->exprs[all];
    expr_id list = expr_list(b, EXPR_ALT);
    struct range *plain = mem_calloc(b->mem, (size_t) class.b + 4, sizeof *plain);
    if (plain == NULL) {
        return builder_fail(b, GRAFT_NO_MEMORY, "no memory for a schema");
    }
    static const struct range direct[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    size_t kept = 0;
    for (int32_t i = 0; i < class.b; i++) {
        struct range r = b->ranges[class.a + i];
        for (size_t k = 0; k < ARRAY_LEN(direct); k++) {
            uint32_t lo = r.lo > direct[k].lo ? r.lo : direct[k].lo;
            uint32_t hi = r.hi < direct[k].hi ? r.hi : direct[k].hi;
            if (lo <= hi) {
                plain[kept++] = (struct range){lo, hi};
            }
        }
        for (uint32_t code = r.lo > 0 ? r.lo : 1; code <= r.hi && code <= '\\'; code++) {
            char text[8];
            if (escape_of(code, text) != NULL) {
                expr_add(b, list, expr_text(b, text));
            }
        }
    }
    expr_add(b, list, expr_class(b, plain, kept, false));
    mem_free(b->mem, plain);
    return list;
}

/* Any character but U+0000, in any of its forms. */
static expr_id any_character(struct schema *s)
{
    struct builder *b = s->b;
    static const struct range raw[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    static const struct range hex[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    static const struct range letters[] = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'},
                                           {'f', 'f'}, {'n', 'n'},   {'r', 'r'}, {'t', 't'}};
    static const struct range high[] = {{'8', '9'}, {'A', 'B'}, {'a', 'b'}};
    static const struct range low[] = {{'C', 'F'}, {'c', 'f'}};
    static const struct range not_zero[] = {{'1', '9'}, {'A', 'F'}, {'a', 'f'}};
    static const struct range not_d[] = {
        {'1', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}};
    static const struct range d[] = {{'D', 'D'}, {'d', 'd'}}, to_7[] = {{'0', '7'}};
#define CLASS(ranges) expr_class(b, ranges, ARRAY_LEN(ranges), false)
#define HEX(n) expr_repeat(b, CLASS(hex), n, n)
    if (s->character < 0) {
        s->character = rule_add(b, "character", 9);
        expr_id below_1000 =
            EXPR_SEQ_OF(b, expr_text(b, "0"),
                        EXPR_ALT_OF(b, EXPR_SEQ_OF(b, CLASS(not_zero), HEX(2)),
                                    EXPR_SEQ_OF(b, expr_text(b, "0"), CLASS(not_zero), HEX(1)),
                                    EXPR_SEQ_OF(b, expr_text(b, "00"), CLASS(not_zero))));
        expr_id pair = EXPR_SEQ_OF(b, CLASS(d), CLASS(high), HEX(2), expr_text(b, "\\u"), CLASS(d),
                                   CLASS(low), HEX(2));
        expr_id code = EXPR_ALT_OF(b, below_1000, EXPR_SEQ_OF(b, CLASS(not_d), HEX(3)),
                                   EXPR_SEQ_OF(b, CLASS(d), CLASS(to_7), HEX(2)), pair);
        expr_id escape =
            EXPR_SEQ_OF(b, expr_text(b, "\\"),
                        EXPR_ALT_OF(b, CLASS(letters), EXPR_SEQ_OF(b, expr_text(b, "u"), code)));
        rule_define(b, s->character, EXPR_ALT_OF(b, CLASS(raw), escape));
    }
    return expr_call(b, s->character, false);
#undef CLASS
#undef HEX
}

/* ---- texts ---- */

expr_id schema_text(struct schema *s, const char *text, size_t size)
{
    struct buf out;
    uint32_t code = 0;
    buf_init(&out, s->b->mem, 8 * (size_t)TEXT_MAX);
    buf_putc(&out, '"');
    for (size_t i = 0; i < size;) {
        char escape[8];
        int n = utf8_decode(text + i, size - i, &code);
        n = n > 0 ? n : 1; /* texts of a JSON file are UTF-8 */
        if (escape_of(code, escape) != NULL) {
            buf_puts(&out, escape);
        } else {
            buf_append(&out, text + i, (size_t)n);
        }
        i += (size_t)n;
    }
    buf_putc(&out, '"');
    expr_id e = out.status == GRAFT_OK ? expr_bytes(s->b, out.data, out.size)
                                       : builder_fail(s->b, out.status, "no memory for a schema");
    buf_free(&out);
    return e;
}

expr_id schema_any_string(struct schema *s)
{
    struct builder *b = s->b;
    if (s->string < 0) {
        s->string = rule_add(b, "string", 6);
        expr_id quote = expr_text(b, "\"");
        rule_define(b, s->string,
                    EXPR_SEQ_OF(b, quote, expr_repeat(b, any_character(s), 0, -1), quote));
    }
    return expr_call(b, s->string, false);
}

#define YEAR "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP_YEAR "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                                       \
    "(" YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"       \
    "|02-(0[1-9]|1[0-9]|2[0-8]))|" LEAP_YEAR "-02-29)"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"                                     \
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

static expr_id formatted(struct schema *s, const json_t *format)
{
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    };
    for (size_t i = 0; json_is_string(format) && i < ARRAY_LEN(formats); i++) {
        if (strcmp(json_string_value(format), formats[i].name) == 0) {
            return schema_pattern(s, formats[i].pattern, strlen(formats[i].pattern));
        }
    }
    return schema_refuse(s, "format", "it is none of date, time, date-time, uuid");
}

expr_id schema_string(struct schema *s, const json_t *schema)
{
    struct builder *b = s->b;
    const json_t *pattern = json_object_get(schema, "pattern"),
                 *format = json_object_get(schema, "format");
    int64_t min = schema_count(s, schema, "minLength", 0),
            max = schema_count(s, schema, "maxLength", -1);
    bool bounded = min > 0 || json_object_get(schema, "maxLength") != NULL;
    if (b->status != GRAFT_OK) {
        return -1;
    }
    if ((pattern != NULL || format != NULL) && (bounded || (pattern != NULL && format != NULL))) {
        return schema_refuse(s, pattern != NULL ? "pattern" : "format",
                             "it stands beside another of pattern, format, minLength, maxLength");
    }
    expr_id body;
    if (pattern != NULL) {
        if (!json_is_string(pattern)) {
            return schema_wrong(s, "pattern", "is no text");
        }
        body = schema_pattern(s, json_string_value(pattern), json_string_length(pattern));
    } else if (format != NULL) {
        body = formatted(s, format);
    } else if (!bounded) {
        return schema_any_string(s);
    } else if (max >= 0 && max < min) {
        return expr_list(b, EXPR_ALT);
    } else {
        body = expr_repeat(b, any_character(s), (int32_t)min, (int32_t)max);
    }
    expr_id quote = expr_text(b, "\"");
    return EXPR_SEQ_OF(b, quote, body, quote);
}
