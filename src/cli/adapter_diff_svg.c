/* adapter_diff_svg.c: how two adapters differ, as a heat map.
 *
 * A cell is a module, a row a layer (the first one: what is in no layer). Colour is one of two with an opacity, so that it
 * fades into the page, light or dark; every cell says its numbers to whoever points at it.
 */
#include "adapter_diff.h"
#include "train_chart.h"

#include <math.h>

enum {
    MAX_KINDS = 24,
    CELL = 34,
    LEFT = 64,
    TOP = 64,
    GAP = 84,
    RIGHT = 40,
    LABELS = 74,
    LEGEND = 64
};
static const double MOST_TIMES = 4; /* a length so many times the other's has the full colour */

static const char heat_style[] =
    ".chart .cell{stroke:#d0d7de;stroke-width:.6;fill:none}.chart .plus{fill:#2563eb}.chart "
    ".minus{fill:#c2570c}.chart .none{fill:#656d76;fill-opacity:.14}.chart "
    ".mark{font-size:9px;text-anchor:middle}\n"
    "@media (prefers-color-scheme:dark){.chart .cell{stroke:#343b44}.chart "
    ".plus{fill:#6ea8fe}.chart .minus{fill:#f5a04a}.chart .none{fill:#9aa3ad}}\n";

struct map {
    const char *kinds[MAX_KINDS];
    int n_kinds, n_rows; /* row 0: of no layer, if there is any */
    int cell;            /* height */
    bool outside;
    bool apart; /* one has a module that the other has not */
};

/* A number in −1 to 1 that a cell is coloured by; NaN: there is none. */
typedef double (*value_fn)(const json_t *module);

static double number_of(const json_t *module, const char *key)
{
    const json_t *value = json_object_get(module, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double cosine_of(const json_t *module)
{
    return number_of(module, "cosine");
}

/* Positive: b is larger. */
static double size_of(const json_t *module)
{
    const double a = number_of(module, "norm_a"), b = number_of(module, "norm_b");
    if (!(a > 0 && b > 0)) {
        return NAN;
    }
    return fmax(-1, fmin(1, log(b / a) / log(MOST_TIMES)));
}

/* ---- where things are ---------------------------------------------------------------------- */

static int kind_of(const struct map *m, const json_t *module)
{
    const char *kind = json_string_value(json_object_get(module, "kind"));
    for (int i = 0; i < m->n_kinds; i++) {
        if (strcmp(m->kinds[i], kind) == 0) {
            return i;
        }
    }
    return -1;
}

static int row_of(const struct map *m, const json_t *module)
{
    const json_t *layer = json_object_get(module, "layer");
    return layer != NULL ? (int)json_integer_value(layer) + m->outside : 0;
}

static void lay_out(struct map *m, const json_t *modules)
{
    const json_t *one;
    size_t i;
    *m = (struct map){.n_kinds = 0};
    json_array_foreach(modules, i, one)
    {
        m->outside = m->outside || json_object_get(one, "layer") == NULL;
        m->apart = m->apart || json_object_get(one, "only") != NULL;
    }
    json_array_foreach(modules, i, one)
    {
        if (kind_of(m, one) < 0 && m->n_kinds < MAX_KINDS) {
            m->kinds[m->n_kinds++] = json_string_value(json_object_get(one, "kind"));
        }
        m->n_rows = row_of(m, one) + 1 > m->n_rows ? row_of(m, one) + 1 : m->n_rows;
    }
    m->cell = m->n_rows > 40 ? 12 : 18;
}

/* ---- drawing ------------------------------------------------------------------------------- */

static void put_number(struct buf *out, const char *name, double value)
{
    if (isnan(value)) {
        buf_printf(out, ", %s none", name);
    } else {
        buf_printf(out, ", %s %.4g", name, value);
    }
}

static void draw_title(struct buf *out, const json_t *module)
{
    static const char *const keys[][2] = {
        {"cosine", "cosine"},     {"norm_a", "norm of A"},           {"norm_b", "norm of B"},
        {"distance", "distance"}, {"columns", "overlap of columns"}, {"rows", "overlap of rows"}};
    const char *name = json_string_value(json_object_get(module, "module"));
    buf_puts(out, "<title>");
    chart_text(out, name, strlen(name));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        put_number(out, keys[i][1], number_of(module, keys[i][0]));
    }
    buf_puts(out, "</title>");
}

static void draw_cell(struct buf *out, const struct map *m, const json_t *module, int left,
                      value_fn value)
{
    const int kind = kind_of(m, module);
    const double v = value(module), x = left + kind * CELL, y = TOP + row_of(m, module) * m->cell;
    const char *only = json_string_value(json_object_get(module, "only"));
    if (kind < 0) {
        return;
    }
    buf_puts(out, "<g>");
    draw_title(out, module);
    if (isnan(v)) {
        buf_printf(out, "<rect class=\"none\" x=\"%.0f\" y=\"%.0f\" width=\"%d\" height=\"%d\"/>",
                   x, y, CELL, m->cell);
    } else {
        buf_printf(out,
                   "<rect class=\"%s\" x=\"%.0f\" y=\"%.0f\" width=\"%d\" height=\"%d\" "
                   "fill-opacity=\"%.3f\"/>",
                   v < 0 ? "minus" : "plus", x, y, CELL, m->cell, fabs(v));
    }
    buf_printf(out,
               "<rect class=\"cell\" pointer-events=\"all\" x=\"%.0f\" y=\"%.0f\" width=\"%d\" "
               "height=\"%d\"/>",
               x, y, CELL, m->cell);
    if (only != NULL) {
        buf_printf(out, "<text class=\"mark\" x=\"%.1f\" y=\"%.1f\">%s</text>", x + CELL / 2.0,
                   y + m->cell / 2.0 + 3, only[0] == 'a' ? "A" : "B");
    }
    buf_puts(out, "</g>\n");
}

static void draw_labels(struct buf *out, const struct map *m, int left)
{
    const int bottom = TOP + m->n_rows * m->cell;
    buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">layer</text>\n", left - 8,
               TOP - 6);
    const int every = m->n_rows > 40 ? 4 : 1;
    for (int row = 0; row < m->n_rows; row++) {
        const double y = TOP + (row + 0.5) * m->cell + 4;
        const int layer = row - m->outside;
        if (layer < 0) {
            buf_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">model</text>\n",
                       left - 8, y);
        } else if (layer % every == 0) {
            buf_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d</text>\n", left - 8,
                       y, layer);
        }
    }
    for (int i = 0; i < m->n_kinds; i++) {
        const double x = left + (i + 0.6) * CELL;
        buf_printf(
            out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"end\" transform=\"rotate(-40 %.1f %d)\">",
            x, bottom + 14, x, bottom + 14);
        chart_text(out, m->kinds[i], strlen(m->kinds[i]));
        buf_puts(out, "</text>\n");
    }
}

/* From −1 to 1, with words for the ends and the middle. */
static void draw_legend(struct buf *out, const struct map *m, int left, const char *const words[3])
{
    enum { STEPS = 40, WIDE = 5 };
    const int y = TOP + m->n_rows * m->cell + LABELS;
    for (int i = 0; i <= STEPS; i++) {
        const double v = 2.0 * i / STEPS - 1;
        buf_printf(out,
                   "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"12\" "
                   "fill-opacity=\"%.3f\"/>",
                   v < 0 ? "minus" : "plus", left + i * WIDE, y, WIDE, fabs(v));
    }
    buf_printf(out, "<rect class=\"cell\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"12\"/>\n", left,
               y, (STEPS + 1) * WIDE);
    for (int i = 0; i < 3; i++) {
        static const char *const anchors[] = {"start", "middle", "end"};
        buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%s</text>\n",
                   left + i * (STEPS + 1) * WIDE / 2, y + 28, anchors[i], words[i]);
    }
}

static void draw_panel(struct buf *out, const struct map *m, const json_t *modules, int left,
                       const char *title, const char *const words[3], value_fn value)
{
    const json_t *one;
    size_t i;
    buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", left, TOP - 14, title);
    json_array_foreach(modules, i, one)
    {
        draw_cell(out, m, one, left, value);
    }
    draw_labels(out, m, left);
    draw_legend(out, m, left, words);
    if (m->apart) {
        buf_printf(out, "<text x=\"%d\" y=\"%d\">grey, A or B: only that one has it</text>\n", left,
                   TOP + m->n_rows * m->cell + LABELS + 48);
    }
}

static void put_names(struct buf *out, const char *a, const char *b)
{
    buf_puts(out, "A: ");
    chart_text(out, a, strlen(a));
    buf_puts(out, ", B: ");
    chart_text(out, b, strlen(b));
}

void diff_draw(struct buf *out, const json_t *report, const char *a, const char *b)
{
    static const char *const cosines[] = {"-1: opposite", "0", "1: alike"};
    static const char *const sizes[] = {"A 4 times", "equal", "B 4 times"};
    const json_t *modules = json_object_get(report, "modules");
    struct map m;
    lay_out(&m, modules);
    const int panel = m.n_kinds * CELL > 240 ? m.n_kinds * CELL : 240;
    const int second = LEFT + panel + GAP, width = second + panel + RIGHT;
    const int height = TOP + m.n_rows * m.cell + LABELS + LEGEND;
    buf_printf(out,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg "
               "xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" width=\"%d\" "
               "height=\"%d\" viewBox=\"0 0 %d %d\">\n<title>How two adapters differ. ",
               width, height, width, height);
    put_names(out, a, b);
    buf_printf(out, "</title>\n<style>\n%s%s</style>\n", chart_style, heat_style);
    buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"22\">", LEFT);
    put_names(out, a, b);
    buf_puts(out, "</text>\n");
    draw_panel(out, &m, modules, LEFT, "Cosine of the changes", cosines, cosine_of);
    draw_panel(out, &m, modules, second, "Which change is larger", sizes, size_of);
    buf_puts(out, "</svg>\n");
}
