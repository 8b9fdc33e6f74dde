/* log.c: lines to the host's callback. The library itself never prints. */
#include "base_internal.h"

enum { LINE_BYTES = 1024 };

void runtime_log(const graft_runtime *runtime, graft_log_level level, const char *format, ...)
{
    if (!runtime || !runtime->log || level > runtime->log_level)
        return;
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (length < 0)
        return;
    if ((size_t)length >= sizeof(line))
        line[utf8_complete(line, sizeof(line) - 1)] = '\0';
    runtime->log(runtime->log_user, level, line);
}
