/* graft/graft.h: all of graft. */
#ifndef GRAFT_H
#define GRAFT_H

#include <graft/adapter.h>
#include <graft/adapter_files.h>
#include <graft/bench.h>
#include <graft/constraint.h>
#include <graft/data.h>
#include <graft/draft.h>
#include <graft/engine.h>
#include <graft/fuse.h>
#include <graft/learn.h>
#include <graft/merge.h>
#include <graft/model.h>
#include <graft/registry.h>
#include <graft/router.h>
#include <graft/runtime.h>
#include <graft/session.h>
#include <graft/session_state.h>
#include <graft/train.h>
#include <graft/train_config.h>
#include <graft/types.h>
#include <graft/vectors.h>

#endif
