/* adapter.h: the verbs of `graft adapter`, one file each, and what they share. */
#ifndef GRAFT_CLI_ADAPTER_H
#define GRAFT_CLI_ADAPTER_H

#include "cli.h"

int verb_adapter_new(int argc, char **argv);
int verb_adapter_convert(int argc, char **argv);
int verb_adapter_show(int argc, char **argv);
int verb_adapter_verify(int argc, char **argv);

/* Bytes as people read them: "1.5 MB". */
enum { CLI_SIZE_TEXT = 32 };
void cli_size_text(uint64_t bytes, char out[CLI_SIZE_TEXT]);

#endif
