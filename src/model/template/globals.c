/* globals.c: the functions of the environment: range, dict, namespace, cycler, joiner,
 * raise_exception, strftime_now.
 */
#include "model/template/render_internal.h"

#define RANGE_LIMIT 100000 /* as in Jinja2's sandbox */

static bool make_range(struct rt *rt, struct call *c, struct value *out)
{
    int64_t first[3] = {0, 0, 1}, distance, step;
    struct range *r;
    if (c->args->n_keywords > 0 || c->args->count < 1 || c->args->count > 3)
        return fail(rt, GRAFT_FORMAT, "range takes 1 to 3 numbers");
    for (size_t i = 0; i < c->args->count; i++) {
        if (c->args->items[i].kind == V_NONE)
            return fail(rt, GRAFT_FORMAT, "'None' cannot be interpreted as an integer");
        if (!arg_int(rt, c->args->items[i], 0, &first[i + (c->args->count == 1)]))
            return false;
    }
    step = first[2];
    if (step == 0)
        return fail(rt, GRAFT_FORMAT, "range() step must not be zero");
    if ((r = rt_alloc(rt, sizeof *r)) == NULL)
        return false;
    *r = (struct range){.start = first[0], .stop = first[1], .step = step};
    if (step > 0 ? first[0] < first[1] : first[0] > first[1]) {
        if (__builtin_sub_overflow(first[1], first[0], &distance) || step == INT64_MIN)
            return fail(rt, GRAFT_FORMAT, "range too big");
        int64_t n = ((step > 0 ? distance : -distance) - 1) / (step > 0 ? step : -step) + 1;
        if (n > RANGE_LIMIT)
            return fail(rt, GRAFT_FORMAT, "range too big: %lld items, at most %d", (long long)n,
                        RANGE_LIMIT);
        r->count = (size_t)n;
    }
    *out = (struct value){.kind = V_RANGE, .range = r};
    return true;
}

static bool put_pair(struct rt *rt, struct dict *dict, struct value pair)
{
    struct value parts;
    if (!to_list(rt, pair, V_LIST, &parts))
        return false;
    if (parts.list->count != 2)
        return fail(rt, GRAFT_FORMAT, "dict needs pairs");
    return dict_put(rt, dict, parts.list->items[0], parts.list->items[1]);
}

/* dict(mapping or pairs, name=value, …) */
bool make_dict(struct rt *rt, const struct args *args, enum value_kind kind, struct value *out)
{
    struct iter it;
    struct value item;
    int more = 0;
    if (args->count > 1)
        return fail(rt, GRAFT_FORMAT, "dict takes at most one positional argument");
    if (!dict_new(rt, kind, out))
        return false;
    if (args->count == 1 && args->items[0].kind == V_DICT) {
        const struct dict *from = args->items[0].dict;
        for (size_t i = 0; i < from->count; i++)
            if (!dict_put(rt, out->dict, from->entries[i].key, from->entries[i].value))
                return false;
    } else if (args->count == 1) {
        if (!iter_begin(rt, args->items[0], &it))
            return false;
        while ((more = iter_next(rt, &it, &item)) == 1)
            if (!put_pair(rt, out->dict, item))
                return false;
    }
    for (size_t i = 0; more == 0 && i < args->n_keywords; i++)
        if (!dict_put(rt, out->dict, v_str(args->keywords[i].name), args->keywords[i].value))
            return false;
    return more == 0;
}

static bool global_dict(struct rt *rt, struct call *c, struct value *out)
{
    return make_dict(rt, c->args, V_DICT, out);
}

static bool global_namespace(struct rt *rt, struct call *c, struct value *out)
{
    return make_dict(rt, c->args, V_NAMESPACE, out);
}

static bool global_cycler(struct rt *rt, struct call *c, struct value *out)
{
    struct cycler *cycler = rt_alloc(rt, sizeof *cycler);
    if (cycler == NULL)
        return false;
    if (c->args->count == 0 || c->args->n_keywords > 0)
        return fail(rt, GRAFT_FORMAT, "a cycler needs at least one item");
    *cycler = (struct cycler){.items = c->args->items, .count = c->args->count};
    *out = (struct value){.kind = V_CYCLER, .cycler = cycler};
    return true;
}

static bool global_joiner(struct rt *rt, struct call *c, struct value *out)
{
    struct joiner *joiner = rt_alloc(rt, sizeof *joiner);
    struct value separator = c->arg[0];
    if (joiner == NULL || (separator.kind == V_MISSING ? !str_literal(rt, ", ", &separator)
                                                       : !to_soft_str(rt, separator, &separator)))
        return false;
    *joiner = (struct joiner){.separator = separator.s};
    *out = (struct value){.kind = V_JOINER, .joiner = joiner};
    return true;
}

/* The template's own words: no line in front, on one line, cut between characters. */
static bool global_raise(struct rt *rt, struct call *c, struct value *out)
{
    struct value text;
    char message[480];
    (void)out;
    if (!to_str(rt, c->arg[0], &text) || rt->status != GRAFT_OK)
        return false;
    size_t n = text.s->size;
    if (n >= sizeof message)
        n = utf8_complete(text.s->data, sizeof message - 1);
    for (size_t i = 0; i < n; i++)
        message[i] = (unsigned char)text.s->data[i] < 0x20 ? ' ' : text.s->data[i];
    rt->status = error_set(rt->error, GRAFT_INVALID_ARGUMENT, "%.*s", (int)n, message);
    return false;
}

/* ---- strftime_now ------------------------------------------------------------------------- */

/* Broken-down UTC time, of our own so that neither locale nor time zone comes in. */
struct date {
    int64_t year, days, seconds; /* days since the epoch, seconds of the day */
    int month, day, weekday, year_day;
};

static void split_time(int64_t now, struct date *d)
{
    int64_t days = now / 86400, rest = now % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    /* Years that begin in March: a leap day then stands at the end. */
    int64_t shifted = days + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    d->days = days;
    d->seconds = rest;
    d->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    d->month = (int)(month < 10 ? month + 3 : month - 9);
    d->year = year_of_era + era * 400 + (d->month <= 2);
    d->weekday = (int)(((days + 4) % 7 + 7) % 7);
    bool leap = (d->year % 4 == 0 && d->year % 100 != 0) || d->year % 400 == 0;
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    d->year_day = before[d->month - 1] + d->day + (leap && d->month > 2);
}

static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};
static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};

static int hour12(const struct date *d)
{
    int hour = (int)(d->seconds / 3600) % 12;
    return hour == 0 ? 12 : hour;
}

/* One field by its letter into out; false: no such letter. */
static bool date_field(const struct date *d, int64_t now, char letter, char out[32])
{
    int hour = (int)(d->seconds / 3600), minute = (int)(d->seconds / 60 % 60);
    int second = (int)(d->seconds % 60), monday = (d->weekday + 6) % 7;
    const struct {
        char letter;
        const char *format;
        int64_t number;
    } numbers[] = {{'d', "%02lld", d->day},
                   {'e', "%2lld", d->day},
                   {'m', "%02lld", d->month},
                   {'y', "%02lld", (d->year % 100 + 100) % 100},
                   {'Y', "%lld", d->year},
                   {'C', "%02lld", d->year / 100},
                   {'H', "%02lld", hour},
                   {'k', "%2lld", hour},
                   {'I', "%02lld", hour12(d)},
                   {'l', "%2lld", hour12(d)},
                   {'M', "%02lld", minute},
                   {'S', "%02lld", second},
                   {'f', "%06lld", 0},
                   {'j', "%03lld", d->year_day},
                   {'w', "%lld", d->weekday},
                   {'u', "%lld", monday + 1},
                   {'s', "%lld", now},
                   {'U', "%02lld", (d->year_day + 6 - d->weekday) / 7},
                   {'W', "%02lld", (d->year_day + 6 - monday) / 7}};
    const struct {
        char letter;
        const char *text;
        int size;
    } texts[] = {{'B', months[d->month - 1], 20},
                 {'b', months[d->month - 1], 3},
                 {'h', months[d->month - 1], 3},
                 {'A', weekdays[d->weekday], 20},
                 {'a', weekdays[d->weekday], 3},
                 {'p', hour < 12 ? "AM" : "PM", 2},
                 {'P', hour < 12 ? "am" : "pm", 2},
                 {'n', "\n", 1},
                 {'t', "\t", 1},
                 {'%', "%", 1},
                 {'Z', "", 1},
                 {'z', "", 1}};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (numbers[i].letter == letter) {
            snprintf(out, 32, numbers[i].format, (long long)numbers[i].number);
            return true;
        }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].letter == letter) {
            snprintf(out, 32, "%.*s", texts[i].size, texts[i].text);
            return true;
        }
    return false;
}

static bool write_date(struct rt *rt, const struct date *d, const char *format, size_t size,
                       int depth)
{
    static const struct {
        char letter;
        const char *format;
    } composed[] = {{'F', "%Y-%m-%d"},
                    {'T', "%H:%M:%S"},
                    {'R', "%H:%M"},
                    {'D', "%m/%d/%y"},
                    {'c', "%a %b %e %H:%M:%S %Y"},
                    {'x', "%m/%d/%y"},
                    {'X', "%H:%M:%S"},
                    {'r', "%I:%M:%S %p"}};
    char field[32];
    for (size_t i = 0; i < size; i++) {
        const char *inner = NULL;
        if (format[i] != '%' || i + 1 == size) {
            if (!write_bytes(rt, format + i, 1))
                return false;
            continue;
        }
        char letter = format[++i];
        bool bare = letter == '-' && i + 1 < size; /* glibc: without padding */
        if (bare)
            letter = format[++i];
        for (size_t k = 0; k < ARRAY_LEN(composed) && depth == 0; k++)
            if (composed[k].letter == letter)
                inner = composed[k].format;
        if (inner != NULL) {
            if (!write_date(rt, d, inner, strlen(inner), 1))
                return false;
            continue;
        }
        if (!date_field(d, rt->now, letter, field))
            return fail(rt, GRAFT_FORMAT, "strftime_now: unknown field");
        const char *text = field;
        while (bare && (*text == '0' || *text == ' ') && text[1] != 0)
            text++;
        if (!write_text(rt, text))
            return false;
    }
    return true;
}

static bool strftime_now(struct rt *rt, struct call *c, struct value *out)
{
    struct str *format;
    struct date date;
    size_t mark = rt->out.size;
    if (!arg_str(rt, c->arg[0], "format", &format))
        return false;
    split_time(rt->now, &date);
    return write_date(rt, &date, format->data, format->size, 0) && str_capture(rt, mark, out);
}

/* ---- the table ------------------------------------------------------------------------------ */

static const struct builtin globals[] = {{"range", "*", make_range},
                                         {"dict", "*", global_dict},
                                         {"namespace", "*", global_namespace},
                                         {"cycler", "*", global_cycler},
                                         {"joiner", "sep?", global_joiner},
                                         {"raise_exception", "message", global_raise},
                                         {"strftime_now", "format", strftime_now},
                                         {NULL, NULL, NULL}};

const struct builtin *global_find(const char *name, size_t size)
{
    return builtin_find(globals, name, size);
}
