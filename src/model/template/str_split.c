/* str_split.c: methods of strings that take them apart (split, rsplit, splitlines, partition) or ask
 * what they consist of (isdigit, …).
 */
#include "model/template/render_internal.h"

static bool push_part(struct rt *rt, struct str *s, size_t begin, size_t end, struct list *list)
{
    struct value part;
    return str_slice(rt, s, begin, end, &part) && list_push(rt, list, part);
}

static void reverse_list(struct list *list)
{
    for (size_t i = 0, j = list->count; i + 1 < j; i++) {
        struct value v = list->items[i];
        list->items[i] = list->items[--j];
        list->items[j] = v;
    }
}

/* Start of the character that ends at `end`. */
static size_t step_back(const struct str *s, size_t end, uint32_t *c)
{
    size_t at = end - 1;
    while (at > 0 && ((unsigned char)s->data[at] & 0xC0) == 0x80)
        at--;
    str_decode(s->data + at, end - at, c);
    return at;
}

static bool split_spaces(struct rt *rt, struct str *s, int64_t limit, struct list *list)
{
    size_t i = 0;
    uint32_t c;
    for (;; limit -= limit > 0) {
        size_t n, begin;
        while (i < s->size && (n = (size_t)str_decode(s->data + i, s->size - i, &c), uni_space(c)))
            i += n;
        if (i == s->size)
            return true;
        begin = i;
        if (limit == 0)
            return push_part(rt, s, begin, s->size, list);
        while (i < s->size && (n = (size_t)str_decode(s->data + i, s->size - i, &c), !uni_space(c)))
            i += n;
        if (!push_part(rt, s, begin, i, list))
            return false;
    }
}

static bool rsplit_spaces(struct rt *rt, struct str *s, int64_t limit, struct list *list)
{
    size_t i = s->size, at;
    uint32_t c;
    for (;; limit -= limit > 0) {
        size_t end;
        while (i > 0 && (at = step_back(s, i, &c), uni_space(c)))
            i = at;
        if (i == 0)
            return true;
        end = i;
        if (limit == 0)
            return push_part(rt, s, 0, end, list);
        while (i > 0 && (at = step_back(s, i, &c), !uni_space(c)))
            i = at;
        if (!push_part(rt, s, i, end, list))
            return false;
    }
}

static bool split_text(struct rt *rt, struct str *s, const struct str *sep, int64_t limit,
                       struct list *list)
{
    size_t i = 0;
    const char *hit;
    while (limit != 0 &&
           (hit = bytes_find(s->data + i, s->size - i, sep->data, sep->size)) != NULL) {
        size_t at = (size_t)(hit - s->data);
        if (!push_part(rt, s, i, at, list))
            return false;
        i = at + sep->size;
        limit -= limit > 0;
    }
    return push_part(rt, s, i, s->size, list);
}

static bool rsplit_text(struct rt *rt, struct str *s, const struct str *sep, int64_t limit,
                        struct list *list)
{
    struct str left = *s;
    const char *hit;
    bool failed;
    while (limit != 0 && (hit = bytes_rfind(rt, &left, sep, &failed)) != NULL) {
        size_t at = (size_t)(hit - s->data);
        if (!push_part(rt, s, at + sep->size, left.size, list))
            return false;
        left.size = at;
        limit -= limit > 0;
    }
    return rt->status == GRAFT_OK && push_part(rt, s, 0, left.size, list);
}

static bool split(struct rt *rt, struct call *c, bool from_right, struct value *out)
{
    struct str *sep = NULL;
    int64_t limit;
    bool ok;
    if ((c->arg[0].kind != V_MISSING && c->arg[0].kind != V_NONE &&
         !arg_str(rt, c->arg[0], "separator", &sep)) ||
        !arg_int(rt, c->arg[1], -1, &limit) || !list_new(rt, V_LIST, 0, out) ||
        !spend_bytes(rt, c->self.s->size))
        return false;
    if (sep != NULL && sep->size == 0)
        return fail(rt, GRAFT_FORMAT, "empty separator");
    if (sep == NULL)
        ok = (from_right ? rsplit_spaces : split_spaces)(rt, c->self.s, limit, out->list);
    else
        ok = (from_right ? rsplit_text : split_text)(rt, c->self.s, sep, limit, out->list);
    if (from_right)
        reverse_list(out->list);
    return ok;
}

static bool method_split(struct rt *rt, struct call *c, struct value *out)
{
    return split(rt, c, false, out);
}

static bool method_rsplit(struct rt *rt, struct call *c, struct value *out)
{
    return split(rt, c, true, out);
}

static bool line_break(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool split_lines(struct rt *rt, struct str *s, bool keep_ends, struct value *out)
{
    size_t begin = 0;
    uint32_t c;
    if (!list_new(rt, V_LIST, 0, out) || !spend_bytes(rt, s->size))
        return false;
    for (size_t i = 0; i < s->size;) {
        size_t n = (size_t)str_decode(s->data + i, s->size - i, &c);
        if (!line_break(c)) {
            i += n;
            continue;
        }
        if (c == '\r' && i + 1 < s->size && s->data[i + 1] == '\n')
            n = 2;
        if (!push_part(rt, s, begin, keep_ends ? i + n : i, out->list))
            return false;
        begin = i += n;
    }
    return begin == s->size || push_part(rt, s, begin, s->size, out->list);
}

static bool method_splitlines(struct rt *rt, struct call *c, struct value *out)
{
    return split_lines(rt, c->self.s, arg_bool(c->arg[0], false), out);
}

static bool partition(struct rt *rt, struct call *c, bool last, struct value *out)
{
    struct str *s = c->self.s, *sep;
    bool failed = false;
    if (!arg_str(rt, c->arg[0], "separator", &sep) || !list_new(rt, V_TUPLE, 3, out) ||
        !spend_bytes(rt, s->size))
        return false;
    if (sep->size == 0)
        return fail(rt, GRAFT_FORMAT, "empty separator");
    const char *hit = last ? bytes_rfind(rt, s, sep, &failed)
                           : bytes_find(s->data, s->size, sep->data, sep->size);
    size_t begin = hit == NULL ? (last ? 0 : s->size) : (size_t)(hit - s->data);
    size_t end = hit == NULL ? begin : begin + sep->size;
    return !failed && push_part(rt, s, 0, begin, out->list) &&
           push_part(rt, s, begin, end, out->list) && push_part(rt, s, end, s->size, out->list);
}

static bool method_partition(struct rt *rt, struct call *c, struct value *out)
{
    return partition(rt, c, false, out);
}

static bool method_rpartition(struct rt *rt, struct call *c, struct value *out)
{
    return partition(rt, c, true, out);
}

const struct builtin str_split_methods[] = {
    {"split", "sep? maxsplit?", method_split},      {"rsplit", "sep? maxsplit?", method_rsplit},
    {"splitlines", "keepends?", method_splitlines}, {"partition", "/sep", method_partition},
    {"rpartition", "/sep", method_rpartition},      {NULL, NULL, NULL}};

/* ---- what a string consists of ------------------------------------------------------------ */

/* Every character has the property, and there is at least one. */
static bool all(struct rt *rt, struct str *s, bool (*property)(uint32_t c), struct value *out)
{
    uint32_t c;
    *out = v_bool(s->size > 0);
    for (size_t i = 0; i < s->size && out->b;) {
        i += (size_t)str_decode(s->data + i, s->size - i, &c);
        out->b = property(c);
    }
    return spend_bytes(rt, s->size);
}

static bool alnum(uint32_t c)
{
    return uni_alpha(c) || uni_numeric(c);
}

/* Digits that are not decimals: superscripts and circled numbers. */
static bool digit(uint32_t c)
{
    return uni_digit(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
           (c >= 0x2460 && c <= 0x2468) || (c >= 0x2776 && c <= 0x277E);
}

static bool method_isalnum(struct rt *rt, struct call *c, struct value *out)
{
    return all(rt, c->self.s, alnum, out);
}

static bool method_isalpha(struct rt *rt, struct call *c, struct value *out)
{
    return all(rt, c->self.s, uni_alpha, out);
}

static bool method_isdecimal(struct rt *rt, struct call *c, struct value *out)
{
    return all(rt, c->self.s, uni_digit, out);
}

static bool method_isdigit(struct rt *rt, struct call *c, struct value *out)
{
    return all(rt, c->self.s, digit, out);
}

static bool method_isnumeric(struct rt *rt, struct call *c, struct value *out)
{
    return all(rt, c->self.s, uni_numeric, out);
}

static bool method_isspace(struct rt *rt, struct call *c, struct value *out)
{
    return all(rt, c->self.s, uni_space, out);
}

static bool method_isprintable(struct rt *rt, struct call *c, struct value *out)
{
    if (!all(rt, c->self.s, uni_printable, out))
        return false;
    out->b |= c->self.s->size == 0;
    return true;
}

static bool method_isascii(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    *out = v_bool(str_is_ascii(c->self.s));
    return true;
}

static bool method_islower(struct rt *rt, struct call *c, struct value *out)
{
    *out = v_bool(case_test(c->self.s, false));
    return spend_bytes(rt, c->self.s->size);
}

static bool method_isupper(struct rt *rt, struct call *c, struct value *out)
{
    *out = v_bool(case_test(c->self.s, true));
    return spend_bytes(rt, c->self.s->size);
}

static bool method_istitle(struct rt *rt, struct call *c, struct value *out)
{
    const struct str *s = c->self.s;
    bool any = false, in_word = false, ok = true;
    uint32_t point;
    for (size_t i = 0; i < s->size && ok;) {
        i += (size_t)str_decode(s->data + i, s->size - i, &point);
        bool capital = uni_upper_letter(point) || uni_title_letter(point);
        bool small = !capital && uni_lower_letter(point);
        ok = capital ? !in_word : small ? in_word : true;
        in_word = capital || small;
        any |= in_word;
    }
    *out = v_bool(ok && any);
    return spend_bytes(rt, s->size);
}

static bool method_isidentifier(struct rt *rt, struct call *c, struct value *out)
{
    uint32_t first = '0';
    if (c->self.s->size > 0)
        str_decode(c->self.s->data, c->self.s->size, &first);
    if (!all(rt, c->self.s, uni_word, out))
        return false;
    out->b &= first == '_' || uni_alpha(first);
    return true;
}

const struct builtin str_test_methods[] = {{"isalnum", "", method_isalnum},
                                           {"isalpha", "", method_isalpha},
                                           {"isascii", "", method_isascii},
                                           {"isdecimal", "", method_isdecimal},
                                           {"isdigit", "", method_isdigit},
                                           {"isidentifier", "", method_isidentifier},
                                           {"islower", "", method_islower},
                                           {"isnumeric", "", method_isnumeric},
                                           {"isprintable", "", method_isprintable},
                                           {"isspace", "", method_isspace},
                                           {"istitle", "", method_istitle},
                                           {"isupper", "", method_isupper},
                                           {NULL, NULL, NULL}};
