/* address.c: NAME[@VERSION][=WEIGHT], semantic versions, and times as RFC 3339 writes them.
 *
 * Names never become paths (files are named by their content), and are narrow all the same, so that they can stand
 * in commands, URLs and logs. No function here asks for the locale.
 */
#include "registry_internal.h"

#include <time.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool registry_name_valid(const char *name)
{
    size_t length = strlen(name);
    if (!length || length > REGISTRY_NAME_MAX || !is_alnum(name[0]))
        return false;
    for (size_t i = 1; i < length; i++)
        if (!is_alnum(name[i]) && !strchr("._-", name[i]))
            return false;
    return true;
}

/* ---- versions ------------------------------------------------------------------------------- */

/* A number without leading zeros at *at; moves behind it. */
static bool skip_number(const char **at)
{
    const char *begin = *at;
    while (is_digit(**at))
        ++*at;
    return *at > begin && (*begin != '0' || *at == begin + 1);
}

/* Identifiers between dots, to the end of the string or a '+'. Those of a pre-release that are numbers have
 * no leading zero; a build may have any. */
static bool skip_identifiers(const char **at, bool build)
{
    for (;;) {
        const char *begin = *at;
        bool number = true;
        for (; is_alnum(**at) || **at == '-'; ++*at)
            number = number && is_digit(**at);
        if (*at == begin || (!build && number && *begin == '0' && *at > begin + 1))
            return false;
        if (**at != '.')
            return true;
        ++*at;
    }
}

bool registry_version_valid(const char *version)
{
    const char *at = version;
    if (strlen(version) > REGISTRY_NAME_MAX)
        return false;
    for (int part = 0; part < 3; part++)
        if (!skip_number(&at) || (part < 2 && *at++ != '.'))
            return false;
    if (*at == '-' && (at++, !skip_identifiers(&at, false)))
        return false;
    if (*at == '+' && (at++, !skip_identifiers(&at, true)))
        return false;
    return !*at;
}

static int compare_lengths(size_t a, size_t b)
{
    return a < b ? -1 : a > b;
}

/* Two identifiers: numbers by size and before words, words by their bytes. Numbers may have 60 digits. */
static int compare_identifiers(const char *a, size_t na, const char *b, size_t nb)
{
    size_t digits_a = 0, digits_b = 0;
    while (digits_a < na && is_digit(a[digits_a]))
        digits_a++;
    while (digits_b < nb && is_digit(b[digits_b]))
        digits_b++;
    bool number_a = digits_a == na, number_b = digits_b == nb;
    if (number_a != number_b)
        return number_a ? -1 : 1;
    if (number_a && na != nb)
        return compare_lengths(na, nb);
    int order = memcmp(a, b, na < nb ? na : nb);
    return order ? order : compare_lengths(na, nb);
}

/* Identifiers between dots, until a character of `stop` or the end. */
static int compare_lists(const char **a, const char **b, const char *stop)
{
    for (;;) {
        size_t na = strcspn(*a, stop), nb = strcspn(*b, stop);
        na = strcspn(*a, ".") < na ? strcspn(*a, ".") : na;
        nb = strcspn(*b, ".") < nb ? strcspn(*b, ".") : nb;
        int order = compare_identifiers(*a, na, *b, nb);
        *a += na;
        *b += nb;
        if (order)
            return order;
        if (**a != '.' || **b != '.')
            return (**a == '.') - (**b == '.'); /* the longer list is the later one */
        ++*a;
        ++*b;
    }
}

int registry_version_compare(const char *a, const char *b)
{
    const char *whole_a = a, *whole_b = b;
    int order = compare_lists(&a, &b, "-+");
    if (order)
        return order;
    if ((*a == '-') != (*b == '-'))
        return *a == '-' ? -1 : 1; /* a pre-release comes before its release */
    if (*a == '-') {
        a++;
        b++;
        order = compare_lists(&a, &b, "+");
        if (order)
            return order;
    }
    return strcmp(whole_a, whole_b);
}

/* ---- addresses ------------------------------------------------------------------------------ */

static graft_status parse_path(const char *text, struct registry_address *out)
{
    const char *equals = strrchr(text, '=');
    out->is_path = true;
    out->path_length = strlen(text);
    /* A path may have a '=' of its own. */
    if (equals && decimal_parse(equals + 1, &out->weight)) {
        out->has_weight = true;
        out->path_length = (size_t)(equals - text);
    }
    return GRAFT_OK;
}

/* text[0..length) into a field of REGISTRY_NAME_MAX + 1 bytes. */
static bool take(char *field, const char *text, size_t length)
{
    if (length > REGISTRY_NAME_MAX)
        return false;
    memcpy(field, text, length);
    field[length] = '\0';
    return true;
}

graft_status registry_parse_address(const char *text, struct registry_address *out,
                                    graft_error *error)
{
    struct registry_address address = {.weight = 1};
    if (strchr(text, '/')) {
        parse_path(text, &address);
        *out = address;
        return GRAFT_OK;
    }
    size_t name = strcspn(text, "@=");
    const char *at = text + name;
    if (!take(address.name, text, name) || !registry_name_valid(address.name))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.*s\" is no adapter name: a letter or digit, then at most %d letters, "
                         "digits, '.', '_' or '-' (a path contains '/')",
                         (int)(name < 100 ? name : 100), text, REGISTRY_NAME_MAX - 1);
    if (*at == '@') {
        size_t version = strcspn(++at, "=");
        if (!take(address.version, at, version) || !registry_version_valid(address.version))
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "\"%.*s\" is no version of an adapter: MAJOR.MINOR.PATCH is",
                             (int)(version < 100 ? version : 100), at);
        at += version;
    }
    if (*at == '=') {
        if (!decimal_parse(at + 1, &address.weight))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%.100s\" is no weight: a number is",
                             at + 1);
        address.has_weight = true;
    }
    *out = address;
    return GRAFT_OK;
}

graft_status registry_parse_name(const char *text, struct registry_address *out, graft_error *error)
{
    graft_status status = registry_parse_address(text, out, error);
    if (status == GRAFT_OK && out->is_path)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%.200s\" is a path, not a name", text);
    return status;
}

/* ---- times ---------------------------------------------------------------------------------- */

/* Exactly n digits. */
static bool read_digits(const char **at, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, ++*at) {
        if (!is_digit(**at))
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

static bool skip(const char **at, const char *any)
{
    if (!**at || !strchr(any, **at))
        return false;
    ++*at;
    return true;
}

/* "Z", "+02:00"; seconds to take away. */
static bool read_offset(const char **at, int *out)
{
    int hours, minutes;
    *out = 0;
    if (skip(at, "Zz"))
        return true;
    bool west = **at == '-';
    if (!skip(at, "+-") || !read_digits(at, 2, &hours) || !skip(at, ":") ||
        !read_digits(at, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *out = (west ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

bool registry_parse_time(const char *text, int64_t *out)
{
    struct tm t = {0};
    const char *at = text;
    int offset;
    if (!read_digits(&at, 4, &t.tm_year) || !skip(&at, "-") || !read_digits(&at, 2, &t.tm_mon) ||
        !skip(&at, "-") || !read_digits(&at, 2, &t.tm_mday) || !skip(&at, "Tt ") ||
        !read_digits(&at, 2, &t.tm_hour) || !skip(&at, ":") || !read_digits(&at, 2, &t.tm_min) ||
        !skip(&at, ":") || !read_digits(&at, 2, &t.tm_sec))
        return false;
    if (skip(&at, ".")) {
        if (!is_digit(*at))
            return false;
        while (is_digit(*at))
            at++;
    }
    if (!read_offset(&at, &offset) || *at)
        return false;
    if (t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 60)
        return false;
    t.tm_sec -= t.tm_sec == 60; /* a leap second */
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    int day = t.tm_mday, month = t.tm_mon;
    int64_t seconds = timegm(&t);
    if (t.tm_mday != day || t.tm_mon != month) /* the 31st of February had become a day of March */
        return false;
    *out = seconds - offset;
    return true;
}

void registry_format_time(int64_t seconds, char out[32])
{
    struct tm t;
    time_t when = (time_t)seconds;
    /* Years of more than four digits are beyond RFC 3339. */
    if (seconds < 0 || seconds > 253402300799 || !gmtime_r(&when, &t))
        snprintf(out, 32, "unknown");
    else
        strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &t);
}
