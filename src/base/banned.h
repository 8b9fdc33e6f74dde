/* banned.h: functions whose use is a compile error, because each has a safe sibling in base.h.
 * Included by base.h after the system headers. */
#ifndef GRAFT_BANNED_H
#define GRAFT_BANNED_H

#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat sprintf vsprintf gets atoi atol atof strtok strncpy

#endif
