/* train_chart.c: panels of lines over steps, as SVG.
 *
 * An axis ends at round numbers, its ticks lie 1, 2 or 5 times a power of ten apart. Where there are more points than
 * columns of pixels, each column keeps its lowest and its highest, so that a spike is seen however long the run was.
 */
#include "train_chart.h"

#include <math.h>

enum { WIDTH = 840, LEFT = 66, RIGHT = 18, TOP = 40, GAP = 22, BOTTOM = 44, MAX_TICKS = 16 };

/* Blue and orange are told apart by nearly everybody; the marks of validations differ in shape, too. Colours are written
 * out, since not every program that shows SVG knows variables; one that knows no media shows the light ones. */
const char chart_style[] =
    "svg.chart{background:#fff;font-family:system-ui,sans-serif;font-size:12px;max-width:100%;"
    "height:auto}\n"
    ".chart text{fill:#656d76}.chart text.title{fill:#1f2328;font-weight:600;font-size:13px}\n"
    ".chart .grid{stroke:#e3e6ea;stroke-width:1}.chart .axis{stroke:#656d76;stroke-width:1}\n"
    ".chart .line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}\n"
    ".chart .line-each{stroke:#2563eb;stroke-width:1;opacity:.38}.chart "
    ".line-mean{stroke:#2563eb}\n"
    ".chart .line-valid{stroke:#c2570c;stroke-width:1.4}.chart .line-rate{stroke:#0f766e}\n"
    ".chart .dot{fill:#fff;stroke:#c2570c;stroke-width:1.8}.chart .bar{fill:#2563eb}\n"
    "@media (prefers-color-scheme:dark){svg.chart{background:#14171b}.chart text{fill:#9aa3ad}"
    ".chart text.title{fill:#e6e8eb}.chart .grid{stroke:#2c323a}.chart .axis{stroke:#9aa3ad}"
    ".chart .line-each,.chart .line-mean{stroke:#6ea8fe}.chart .line-valid{stroke:#f5a04a}"
    ".chart .line-rate{stroke:#4fd1b5}.chart .dot{fill:#14171b;stroke:#f5a04a}.chart "
    ".bar{fill:#6ea8fe}}\n";

/* ---- text ---------------------------------------------------------------------------------- */

static void put_character(struct buf *out, const char *text, size_t length, uint32_t code)
{
    bool control = code < 0x20 && code != '\n' && code != '\t';
    if (code == '<') {
        buf_puts(out, "&lt;");
    } else if (code == '>') {
        buf_puts(out, "&gt;");
    } else if (code == '&') {
        buf_puts(out, "&amp;");
    } else if (code == '"') {
        buf_puts(out, "&quot;");
    } else if (code == '\'') {
        buf_puts(out, "&#39;");
    } else if (control || (code >= 0x7f && code < 0xa0) || code == 0xfffe || code == 0xffff) {
        buf_puts(out, "\xEF\xBF\xBD");
    } else {
        buf_append(out, text, length);
    }
}

void chart_text(struct buf *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int n = utf8_decode(text + i, size - i, &code);
        if (n > 0) {
            put_character(out, text + i, (size_t)n, code);
        } else {
            buf_puts(out, "\xEF\xBF\xBD");
        }
        i += n > 0 ? (size_t)n : 1;
    }
}

/* ---- axes ---------------------------------------------------------------------------------- */

struct axis {
    double low, high; /* of the numbers; of their logarithms where log */
    double from, to;  /* pixels */
    double step;      /* between ticks; log: unused */
    double ticks[MAX_TICKS];
    int n_ticks;
    bool log;
};

static double place(const struct axis *a, double v)
{
    double x = a->log ? log10(v) : v;
    return a->from + (x - a->low) / (a->high - a->low) * (a->to - a->from);
}

/* The least of 1, 2, 5 times a power of ten that is not below x. */
static double round_up(double x)
{
    double power = pow(10, floor(log10(x)));
    double digits = x / power;
    return power * (digits <= 1 + 1e-9 ? 1 : digits <= 2 + 1e-9 ? 2 : digits <= 5 + 1e-9 ? 5 : 10);
}

/* Ticks within [low, high], about `want` of them; `widen`: the axis ends at ticks. */
static void lay_linear(struct axis *a, double low, double high, int want, bool widen)
{
    double wide = fmax(fabs(low), fabs(high));
    if (high - low <= wide * 1e-6) { /* a level line, in the middle */
        double room = wide > 0 ? wide * 0.1 : 1;
        low -= room;
        high += room;
    }
    a->step = round_up((high - low) / want);
    double first = widen ? floor(low / a->step + 1e-9) : ceil(low / a->step - 1e-9);
    double last = widen ? ceil(high / a->step - 1e-9) : floor(high / a->step + 1e-9);
    a->low = widen ? first * a->step : low;
    a->high = widen ? last * a->step : high;
    a->n_ticks = 0;
    for (double i = first; i <= last && a->n_ticks < MAX_TICKS; i++) {
        a->ticks[a->n_ticks++] = i * a->step;
    }
}

static void lay_log(struct axis *a, double low, double high)
{
    double first = floor(log10(low) + 1e-9), last = ceil(log10(high) - 1e-9);
    double stride = ceil((last - first) / 6);
    last = first + stride * ceil((last - first) / stride);
    *a = (struct axis){.low = first, .high = last, .from = a->from, .to = a->to, .log = true};
    for (double i = first; i <= last; i += stride) {
        a->ticks[a->n_ticks++] = pow(10, i);
    }
}

/* All ticks of an axis are written in one way: as many digits as tell them apart. */
static void tick_text(const struct axis *a, double v, char out[32])
{
    double wide = fmax(fabs(a->low), fabs(a->high));
    if (a->log) {
        snprintf(out, 32, "%g", v);
    } else if (fabs(v) < a->step * 1e-6) {
        snprintf(out, 32, "0");
    } else if (wide < 1e6 && wide >= 1e-3 && a->step >= 1e-6) {
        snprintf(out, 32, "%.*f", (int)fmax(0, ceil(-log10(a->step) - 1e-9)), v);
    } else {
        double exponent = floor(log10(wide) + 1e-9);
        double digits = fmax(0, ceil(exponent - log10(a->step) - 1e-9));
        snprintf(out, 32, "%.*fe%.0f", (int)digits, v / pow(10, exponent), exponent);
    }
}

/* ---- lines --------------------------------------------------------------------------------- */

struct pen {
    struct buf *out;
    bool down;
};

static void draw_to(struct pen *pen, double x, double y)
{
    buf_printf(pen->out, "%s%.1f %.1f", pen->down ? " L" : " M", x, y);
    pen->down = true;
}

static bool drawable(const struct axis *a, double v)
{
    return !isnan(v) && (!a->log || v > 0);
}

struct plane {
    struct axis x, y;
};

/* The lowest and the highest of points [begin, end), which share a column of pixels, in their order. */
static void draw_column(struct pen *pen, const struct plane *p, const struct chart *c,
                        const double *y, size_t begin, size_t end)
{
    size_t low = end, high = end;
    for (size_t i = begin; i < end; i++) {
        if (!drawable(&p->y, y[i])) {
            continue;
        }
        low = low == end || y[i] < y[low] ? i : low;
        high = high == end || y[i] > y[high] ? i : high;
    }
    if (low == end) {
        return;
    }
    size_t first = low < high ? low : high, second = low < high ? high : low;
    draw_to(pen, place(&p->x, c->x[first]), place(&p->y, y[first]));
    if (second != first) {
        draw_to(pen, place(&p->x, c->x[second]), place(&p->y, y[second]));
    }
}

static void draw_path(struct buf *out, const struct plane *p, const struct chart *c,
                      const struct chart_line *line)
{
    struct pen pen = {.out = out};
    size_t columns = 2 * (WIDTH - LEFT - RIGHT);
    size_t share = c->n > 2 * columns ? (c->n + columns - 1) / columns : 1;
    buf_printf(out, "<path class=\"line line-%s\" d=\"", line->style);
    for (size_t i = 0; i < c->n; i += share) {
        size_t end = i + share < c->n ? i + share : c->n;
        if (share == 1 && !line->dots && !drawable(&p->y, line->y[i])) {
            pen.down = false;
        }
        draw_column(&pen, p, c, line->y, i, end);
    }
    buf_puts(out, "\"/>\n");
}

enum { MAX_DOTS = 400 };

/* Steps without a validation are no gaps between those that have one. */
static void draw_dots(struct buf *out, const struct plane *p, const struct chart *c,
                      const struct chart_line *line)
{
    size_t n = 0, seen = 0;
    for (size_t i = 0; i < c->n; i++) {
        n += drawable(&p->y, line->y[i]);
    }
    size_t every = n / MAX_DOTS + 1;
    for (size_t i = 0; i < c->n; i++) {
        if (!drawable(&p->y, line->y[i]) || seen++ % every != 0) {
            continue;
        }
        buf_printf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"><title>",
                   place(&p->x, c->x[i]), place(&p->y, line->y[i]));
        chart_text(out, line->name, strlen(line->name));
        buf_printf(out, ", step %.0f: %.5g</title></circle>\n", c->x[i], line->y[i]);
    }
}

/* ---- panels -------------------------------------------------------------------------------- */

/* false: there is no number in it. */
static bool lay_panel(const struct chart *c, const struct chart_panel *panel, struct axis *y)
{
    double low = INFINITY, high = -INFINITY;
    for (int k = 0; k < panel->n_lines; k++) {
        for (size_t i = 0; i < c->n; i++) {
            double v = panel->lines[k].y[i];
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    if (low > high) {
        return false;
    }
    if (panel->log && low > 0 && high / low > 100) {
        lay_log(y, low, high);
    } else {
        low = panel->from_zero && low > 0 ? 0 : low;
        lay_linear(y, low, high, panel->height > 180 ? 8 : 3, true);
    }
    return true;
}

static void draw_axes(struct buf *out, const struct plane *p, bool last)
{
    char text[32];
    for (int i = 0; i < p->y.n_ticks; i++) {
        double at = place(&p->y, p->y.ticks[i]);
        tick_text(&p->y, p->y.ticks[i], text);
        buf_printf(out,
                   "<path class=\"grid\" d=\"M%d %.1f H%d\"/><text x=\"%d\" y=\"%.1f\" "
                   "text-anchor=\"end\">%s</text>\n",
                   LEFT, at, WIDTH - RIGHT, LEFT - 8, at + 4, text);
    }
    buf_printf(out, "<path class=\"axis\" d=\"M%d %.1f H%d\"/>\n", LEFT, p->y.from, WIDTH - RIGHT);
    for (int i = 0; i < p->x.n_ticks; i++) {
        double at = place(&p->x, p->x.ticks[i]);
        tick_text(&p->x, p->x.ticks[i], text);
        buf_printf(out, "<path class=\"axis\" d=\"M%.1f %.1f v4\"/>", at, p->y.from);
        if (last) {
            buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>", at,
                       p->y.from + 18, text);
        }
        buf_putc(out, '\n');
    }
    if (last) {
        buf_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"middle\">step</text>\n",
                   (LEFT + WIDTH - RIGHT) / 2, p->y.from + 36);
    }
}

/* The names of lines stand on the right, each behind a piece of it. How wide a text gets is the reader's affair:
 * there is room for letters of 7 pixels. */
static void draw_legend(struct buf *out, const struct chart_panel *panel, int y)
{
    double x = WIDTH - RIGHT;
    for (int k = panel->n_lines - 1; k >= 0 && panel->n_lines > 1; k--) {
        const struct chart_line *line = &panel->lines[k];
        x -= 7.0 * (double)strlen(line->name);
        buf_printf(out, "<path class=\"line line-%s\" d=\"M%.0f %d h22\"/>", line->style, x - 28,
                   y - 4);
        if (line->dots) {
            buf_printf(out, "<circle class=\"dot\" cx=\"%.0f\" cy=\"%d\" r=\"3.2\"/>", x - 17,
                       y - 4);
        }
        buf_printf(out, "<text x=\"%.0f\" y=\"%d\">", x, y);
        chart_text(out, line->name, strlen(line->name));
        buf_puts(out, "</text>\n");
        x -= 48;
    }
}

static void draw_panel(struct buf *out, const struct chart *c, const struct chart_panel *panel,
                       int top, bool last)
{
    struct plane p = {.x = {.from = LEFT, .to = WIDTH - RIGHT},
                      .y = {.from = top + panel->height, .to = top}};
    buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"%d\">", LEFT, top - 14);
    chart_text(out, panel->title, strlen(panel->title));
    buf_puts(out, "</text>\n");
    if (!lay_panel(c, panel, &p.y)) {
        buf_printf(out, "<text x=\"%d\" y=\"%d\">no numbers</text>\n", LEFT, top + 20);
        return;
    }
    double begin = c->x[0], end = c->x[c->n - 1];
    lay_linear(&p.x, begin, end > begin ? end : begin + 1, 8, false);
    if (p.x.step < 1) { /* there is no half a step */
        p.x.n_ticks = 0;
        p.x.step = 1;
        for (double i = ceil(p.x.low); i <= p.x.high && p.x.n_ticks < MAX_TICKS; i++) {
            p.x.ticks[p.x.n_ticks++] = i;
        }
    }
    draw_axes(out, &p, last);
    draw_legend(out, panel, top - 14);
    for (int k = 0; k < panel->n_lines; k++) {
        draw_path(out, &p, c, &panel->lines[k]);
        if (panel->lines[k].dots) {
            draw_dots(out, &p, c, &panel->lines[k]);
        }
    }
}

void chart_write(struct buf *out, const struct chart *chart, bool alone)
{
    int height = BOTTOM - GAP;
    for (int i = 0; i < chart->n_panels; i++) {
        height += TOP + chart->panels[i].height + GAP;
    }
    if (alone) {
        buf_puts(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    }
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" "
               "width=\"%d\" height=\"%d\" "
               "viewBox=\"0 0 %d %d\">\n<title>",
               WIDTH, height, WIDTH, height);
    chart_text(out, chart->title, strlen(chart->title));
    buf_puts(out, "</title>\n");
    if (alone) {
        buf_printf(out, "<style>\n%s</style>\n", chart_style);
    }
    int top = 0;
    for (int i = 0; i < chart->n_panels; i++) {
        draw_panel(out, chart, &chart->panels[i], top + TOP, i == chart->n_panels - 1);
        top += TOP + chart->panels[i].height + GAP;
    }
    buf_puts(out, "</svg>\n");
}
