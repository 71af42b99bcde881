// A model compiled for one target or several: what `compile` builds and links.
#ifndef TENON_DRIVER_FAT_H
#define TENON_DRIVER_FAT_H
#include "codegen/fat.h"
#include "codegen/link.h"
#include "driver/build.h"

// One build a target, best first. The first one's parts make the blob, which all read.
typedef struct {
    Arena *arena;
    Build builds[MAX_VARIANTS];
    BuildOptions options[MAX_VARIANTS];
    int count;
    const char *targets; // their names: "amx,x86-64-v3"
    Text texts[MAX_LINK_OBJECTS];
    LinkObject objects[MAX_LINK_OBJECTS]; // after fat_code: one a target and, for several, the list of them
    int object_count;
} Fat;

bool fat_open(Fat *fat, const char *path, const BuildOptions *options, Diags *diags);
bool fat_code(Fat *fat, uint64_t blob_hash, Diags *diags);
void fat_close(Fat *fat);

#endif
