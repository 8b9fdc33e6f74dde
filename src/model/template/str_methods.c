/* str_methods.c: methods of strings that give strings or positions; the shared workers behind the
 * filters of the same names. Indices count code points, as in Python.
 *
 * The result of a safe string (markupsafe) is safe.
 */
#include "model/template/render_internal.h"

/* ---- workers ------------------------------------------------------------------------------ */

static bool in_set(uint32_t c, const struct str *set)
{
    uint32_t d;
    if (set == NULL)
        return uni_space(c);
    for (size_t i = 0; i < set->size;) {
        i += (size_t)str_decode(set->data + i, set->size - i, &d);
        if (c == d)
            return true;
    }
    return false;
}

/* sides: 1 left, 2 right, 3 both; chars NULL: whitespace. */
bool strip(struct rt *rt, struct str *s, const struct str *chars, int sides, struct value *out)
{
    size_t begin = 0, end = s->size, cost = chars == NULL ? 0 : chars->size / 16;
    uint32_t c;
    while ((sides & 1) != 0 && begin < end) {
        int n = str_decode(s->data + begin, end - begin, &c);
        if (!in_set(c, chars))
            break;
        if (!spend(rt, cost))
            return false;
        begin += (size_t)n;
    }
    while ((sides & 2) != 0 && end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)s->data[at] & 0xC0) == 0x80)
            at--;
        str_decode(s->data + at, end - at, &c);
        if (!in_set(c, chars))
            break;
        if (!spend(rt, cost))
            return false;
        end = at;
    }
    return spend_bytes(rt, s->size) && str_slice(rt, s, begin, end, out);
}

static bool replace_empty(struct rt *rt, struct str *s, const struct str *new, int64_t count)
{
    uint32_t c;
    for (size_t i = 0;; count--) {
        if (count == 0)
            return write_bytes(rt, s->data + i, s->size - i);
        if (!write_bytes(rt, new->data, new->size) || !spend(rt, 1))
            return false;
        if (i == s->size)
            return true;
        size_t n = (size_t)str_decode(s->data + i, s->size - i, &c);
        if (!write_bytes(rt, s->data + i, n))
            return false;
        i += n;
    }
}

bool replace(struct rt *rt, struct str *s, const struct value *pair, int64_t count,
             struct value *out)
{
    const struct str *old = pair[0].s, *new = pair[1].s;
    size_t mark = rt->out.size, i = 0;
    const char *hit;
    if (old->size == 0) {
        if (!replace_empty(rt, s, new, count))
            return false;
    } else {
        while (count != 0 &&
               (hit = bytes_find(s->data + i, s->size - i, old->data, old->size)) != NULL) {
            size_t at = (size_t)(hit - s->data);
            if (!write_bytes(rt, s->data + i, at - i) || !write_bytes(rt, new->data, new->size) ||
                !spend(rt, 1))
                return false;
            i = at + old->size;
            count -= count > 0;
        }
        if (!write_bytes(rt, s->data + i, s->size - i))
            return false;
    }
    return str_capture(rt, mark, out) && str_mark(rt, s->safe, out);
}

bool join(struct rt *rt, struct str *separator, struct value items, struct value *out)
{
    struct iter it;
    struct value item;
    size_t mark = rt->out.size;
    bool first = true;
    int more;
    if (!iter_begin(rt, items, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        if (separator->safe && !escape_html(rt, item, &item))
            return false;
        if ((!first && !write_bytes(rt, separator->data, separator->size)) || !write_str(rt, item))
            return false;
        first = false;
    }
    return more == 0 && str_capture(rt, mark, out) && str_mark(rt, separator->safe, out);
}

static bool write_fill(struct rt *rt, int64_t count, uint32_t fill)
{
    char bytes[4];
    int n = utf8_encode(fill, bytes);
    if (count > 0 && !spend_bytes(rt, (size_t)count))
        return false;
    for (int64_t i = 0; i < count; i++)
        if (!write_bytes(rt, bytes, (size_t)n))
            return false;
    return true;
}

bool pad(struct rt *rt, struct str *s, int64_t left, int64_t right, uint32_t fill,
         struct value *out)
{
    size_t mark = rt->out.size;
    return write_fill(rt, left, fill) && write_bytes(rt, s->data, s->size) &&
           write_fill(rt, right, fill) && str_capture(rt, mark, out) && str_mark(rt, s->safe, out);
}

/* ---- case and stripping ------------------------------------------------------------------- */

static bool method_lower(struct rt *rt, struct call *c, struct value *out)
{
    return map_case(rt, c->self.s, CASE_LOWER, out);
}

static bool method_upper(struct rt *rt, struct call *c, struct value *out)
{
    return map_case(rt, c->self.s, CASE_UPPER, out);
}

static bool method_title(struct rt *rt, struct call *c, struct value *out)
{
    return map_case(rt, c->self.s, CASE_TITLE, out);
}

static bool method_casefold(struct rt *rt, struct call *c, struct value *out)
{
    return map_case(rt, c->self.s, CASE_FOLD, out);
}

static bool method_capitalize(struct rt *rt, struct call *c, struct value *out)
{
    return capitalize(rt, c->self.s, out);
}

static bool method_swapcase(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s = c->self.s;
    size_t mark = rt->out.size;
    uint32_t point, mapped[3];
    char bytes[4];
    for (size_t i = 0; i < s->size;) {
        i += (size_t)str_decode(s->data + i, s->size - i, &point);
        int n = uni_map(point, uni_lower_letter(point) ? CASE_UPPER : CASE_LOWER, mapped);
        if (!uni_lower_letter(point) && !uni_upper_letter(point))
            n = 1, mapped[0] = point;
        for (int k = 0; k < n; k++)
            if (!write_bytes(rt, bytes, (size_t)utf8_encode(mapped[k], bytes)))
                return false;
    }
    return str_capture(rt, mark, out) && str_mark(rt, s->safe, out);
}

static bool method_strip_sides(struct rt *rt, struct call *c, int sides, struct value *out)
{
    struct str *chars = NULL;
    if (c->arg[0].kind != V_MISSING && c->arg[0].kind != V_NONE &&
        !arg_str(rt, c->arg[0], "strip argument", &chars))
        return false;
    return strip(rt, c->self.s, chars, sides, out);
}

static bool method_strip(struct rt *rt, struct call *c, struct value *out)
{
    return method_strip_sides(rt, c, 3, out);
}

static bool method_lstrip(struct rt *rt, struct call *c, struct value *out)
{
    return method_strip_sides(rt, c, 1, out);
}

static bool method_rstrip(struct rt *rt, struct call *c, struct value *out)
{
    return method_strip_sides(rt, c, 2, out);
}

static bool method_remove(struct rt *rt, struct call *c, bool suffix, struct value *out)
{
    struct str *s = c->self.s, *part;
    if (!arg_str(rt, c->arg[0], "argument", &part))
        return false;
    size_t rest = s->size - part->size;
    if (part->size > s->size ||
        memcmp(suffix ? s->data + rest : s->data, part->data, part->size) != 0)
        return str_slice(rt, s, 0, s->size, out);
    return suffix ? str_slice(rt, s, 0, rest, out) : str_slice(rt, s, part->size, s->size, out);
}

static bool method_removeprefix(struct rt *rt, struct call *c, struct value *out)
{
    return method_remove(rt, c, false, out);
}

static bool method_removesuffix(struct rt *rt, struct call *c, struct value *out)
{
    return method_remove(rt, c, true, out);
}

/* ---- searching ---------------------------------------------------------------------------- */

/* Bytes [*begin, *end) of self[start:end]; *inside false when start lies behind the end. */
static bool part_of(struct rt *rt, struct call *c, int first, struct str *part, int64_t *start,
                    bool *inside)
{
    struct str *s = c->self.s;
    int64_t n = (int64_t)str_chars(s), stop;
    if (!arg_int(rt, c->arg[first], 0, start) || !arg_int(rt, c->arg[first + 1], n, &stop))
        return false;
    *start += *start < 0 ? n : 0;
    stop += stop < 0 ? n : 0;
    *start = *start < 0 ? 0 : *start;
    stop = stop > n ? n : stop;
    *inside = *start <= n && *start <= stop;
    if (!*inside)
        return true;
    size_t begin = str_offset(s, (size_t)*start), end = str_offset(s, (size_t)stop);
    *part = (struct str){.data = s->data + begin, .size = end - begin, .chars = CHARS_UNKNOWN};
    return spend_bytes(rt, s->size);
}

static bool find_in(struct rt *rt, struct call *c, bool last, int64_t *out)
{
    struct str part, *needle;
    int64_t start;
    bool inside, failed = false;
    const char *hit;
    *out = -1;
    if (!arg_str(rt, c->arg[0], "argument", &needle) || !part_of(rt, c, 1, &part, &start, &inside))
        return false;
    if (!inside)
        return true;
    hit = last ? bytes_rfind(rt, &part, needle, &failed)
               : bytes_find(part.data, part.size, needle->data, needle->size);
    if (hit != NULL) {
        part.size = (size_t)(hit - part.data);
        *out = start + (int64_t)str_chars(&part);
    }
    return !failed;
}

static bool method_find(struct rt *rt, struct call *c, struct value *out)
{
    *out = v_int(0);
    return find_in(rt, c, false, &out->i);
}

static bool method_rfind(struct rt *rt, struct call *c, struct value *out)
{
    *out = v_int(0);
    return find_in(rt, c, true, &out->i);
}

static bool method_index(struct rt *rt, struct call *c, struct value *out)
{
    return method_find(rt, c, out) &&
           (out->i >= 0 || fail(rt, GRAFT_FORMAT, "substring not found"));
}

static bool method_rindex(struct rt *rt, struct call *c, struct value *out)
{
    return method_rfind(rt, c, out) &&
           (out->i >= 0 || fail(rt, GRAFT_FORMAT, "substring not found"));
}

static bool method_count(struct rt *rt, struct call *c, struct value *out)
{
    struct str part, *needle;
    int64_t start, n = 0;
    bool inside;
    if (!arg_str(rt, c->arg[0], "argument", &needle) || !part_of(rt, c, 1, &part, &start, &inside))
        return false;
    if (inside && needle->size == 0) {
        n = (int64_t)str_chars(&part) + 1;
    } else if (inside) {
        const char *at = part.data, *end = part.data + part.size;
        while ((at = bytes_find(at, (size_t)(end - at), needle->data, needle->size)) != NULL) {
            at += needle->size;
            n++;
        }
    }
    *out = v_int(n);
    return true;
}

static bool affix(struct rt *rt, struct call *c, bool suffix, struct value *out)
{
    struct value one = c->arg[0], *items = &one;
    struct str part, *fix;
    int64_t start;
    size_t count = 1;
    bool inside;
    if (one.kind == V_TUPLE) {
        items = one.list->items;
        count = one.list->count;
    }
    *out = v_bool(false);
    if (!part_of(rt, c, 1, &part, &start, &inside))
        return false;
    for (size_t i = 0; i < count && !out->b; i++) {
        if (!arg_str(rt, items[i], suffix ? "endswith argument" : "startswith argument", &fix) ||
            !spend_bytes(rt, fix->size))
            return false;
        out->b = inside && fix->size <= part.size &&
                 memcmp(suffix ? part.data + part.size - fix->size : part.data, fix->data,
                        fix->size) == 0;
    }
    return true;
}

static bool method_startswith(struct rt *rt, struct call *c, struct value *out)
{
    return affix(rt, c, false, out);
}

static bool method_endswith(struct rt *rt, struct call *c, struct value *out)
{
    return affix(rt, c, true, out);
}

/* ---- building ----------------------------------------------------------------------------- */

static bool method_replace(struct rt *rt, struct call *c, struct value *out)
{
    struct value pair[2];
    struct str *checked;
    int64_t count;
    for (int i = 0; i < 2; i++) {
        if (!arg_str(rt, c->arg[i], "replace argument", &checked))
            return false;
        pair[i] = c->arg[i];
        if (c->self.s->safe && !escape_html(rt, pair[i], &pair[i]))
            return false;
    }
    return arg_int(rt, c->arg[2], -1, &count) && replace(rt, c->self.s, pair, count, out);
}

/* "x".join(items): every item must be a string, unlike the filter. */
static bool method_join(struct rt *rt, struct call *c, struct value *out)
{
    struct value items;
    if (!to_list(rt, c->arg[0], V_LIST, &items))
        return false;
    for (size_t i = 0; i < items.list->count && !c->self.s->safe; i++)
        if (items.list->items[i].kind != V_STR)
            return fail(rt, GRAFT_FORMAT, "join: item %zu is no str but %s", i,
                        type_name(items.list->items[i]));
    return join(rt, c->self.s, items, out);
}

static bool pad_method(struct rt *rt, struct call *c, char side, struct value *out)
{
    struct str *s = c->self.s, *fill_text;
    int64_t width, n = (int64_t)str_chars(s), left = 0, right = 0;
    uint32_t fill = ' ';
    if (!arg_int(rt, c->arg[0], 0, &width))
        return false;
    if (c->arg[1].kind != V_MISSING) {
        if (!arg_str(rt, c->arg[1], "fill character", &fill_text))
            return false;
        if (str_chars(fill_text) != 1)
            return fail(rt, GRAFT_FORMAT, "the fill character must be one character long");
        str_decode(fill_text->data, fill_text->size, &fill);
    }
    if (width > n && side == 'c') {
        left = (width - n) / 2 + ((width - n) & width & 1);
        right = width - n - left;
    } else if (width > n && side == 'l') {
        right = width - n;
    } else if (width > n) {
        left = width - n;
    }
    return pad(rt, s, left, right, fill, out);
}

static bool method_center(struct rt *rt, struct call *c, struct value *out)
{
    return pad_method(rt, c, 'c', out);
}

static bool method_ljust(struct rt *rt, struct call *c, struct value *out)
{
    return pad_method(rt, c, 'l', out);
}

static bool method_rjust(struct rt *rt, struct call *c, struct value *out)
{
    return pad_method(rt, c, 'r', out);
}

static bool method_zfill(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s = c->self.s;
    int64_t width, n = (int64_t)str_chars(s);
    size_t mark = rt->out.size, sign = s->size > 0 && (s->data[0] == '-' || s->data[0] == '+');
    return arg_int(rt, c->arg[0], 0, &width) && write_bytes(rt, s->data, sign) &&
           write_fill(rt, width - n, '0') && write_bytes(rt, s->data + sign, s->size - sign) &&
           str_capture(rt, mark, out) && str_mark(rt, s->safe, out);
}

static bool method_expandtabs(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s = c->self.s;
    size_t mark = rt->out.size;
    int64_t size, column = 0;
    uint32_t point;
    if (!arg_int(rt, c->arg[0], 8, &size))
        return false;
    if (size > INT32_MAX || size < INT32_MIN)
        return fail(rt, GRAFT_FORMAT, "expandtabs: size too big");
    for (size_t i = 0, n; i < s->size; i += n) {
        n = (size_t)str_decode(s->data + i, s->size - i, &point);
        if (point == '\t') {
            int64_t gap = size > 0 ? size - column % size : 0;
            column += gap;
            if (!write_fill(rt, gap, ' '))
                return false;
            continue;
        }
        column = point == '\n' || point == '\r' ? 0 : column + 1;
        if (!write_bytes(rt, s->data + i, n))
            return false;
    }
    return str_capture(rt, mark, out) && str_mark(rt, s->safe, out);
}

const struct builtin str_methods[] = {{"lower", "", method_lower},
                                      {"upper", "", method_upper},
                                      {"title", "", method_title},
                                      {"casefold", "", method_casefold},
                                      {"capitalize", "", method_capitalize},
                                      {"swapcase", "", method_swapcase},
                                      {"strip", "/chars?", method_strip},
                                      {"lstrip", "/chars?", method_lstrip},
                                      {"rstrip", "/chars?", method_rstrip},
                                      {"removeprefix", "/prefix", method_removeprefix},
                                      {"removesuffix", "/suffix", method_removesuffix},
                                      {"find", "/sub start? end?", method_find},
                                      {"rfind", "/sub start? end?", method_rfind},
                                      {"index", "/sub start? end?", method_index},
                                      {"rindex", "/sub start? end?", method_rindex},
                                      {"count", "/sub start? end?", method_count},
                                      {"startswith", "/prefix start? end?", method_startswith},
                                      {"endswith", "/suffix start? end?", method_endswith},
                                      {"replace", "/old new count?", method_replace},
                                      {"join", "/iterable", method_join},
                                      {"center", "/width fillchar?", method_center},
                                      {"ljust", "/width fillchar?", method_ljust},
                                      {"rjust", "/width fillchar?", method_rjust},
                                      {"zfill", "/width", method_zfill},
                                      {"expandtabs", "tabsize?", method_expandtabs},
                                      {"format", "*", method_format},
                                      {"format_map", "/mapping", method_format_map},
                                      {NULL, NULL, NULL}};
