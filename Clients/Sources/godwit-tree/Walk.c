#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "Tree.h"

static size_t add_entry(tree *tree, const char *path, int64_t parent, const struct stat *attributes, uint32_t depth) {
    if (tree->count == tree->capacity) {
        tree->capacity = tree->capacity ? tree->capacity * 2 : 4096;
        tree->entries = realloc(tree->entries, tree->capacity * sizeof *tree->entries);
        if (tree->entries == NULL) {
            kit_fail("out of memory.");
        }
    }
    entry *added = &tree->entries[tree->count];
    memset(added, 0, sizeof *added);
    added->path = strdup(path);
    const char *slash = strrchr(added->path, '/');
    added->name = slash ? slash + 1 : added->path;
    added->parent = parent;
    added->mode = attributes->st_mode;
    added->size = (uint64_t)attributes->st_size;
    added->depth = depth;
    if (depth > tree->depth_max) {
        tree->depth_max = depth;
    }
    return tree->count++;
}

static bool is_wanted(tree *tree, const char *path, const struct stat *attributes) {
    if (S_ISDIR(attributes->st_mode)) {
        return access(path, R_OK | X_OK) == 0;
    }
    if (S_ISREG(attributes->st_mode)) {
        return access(path, R_OK) == 0;
    }
    return S_ISLNK(attributes->st_mode);
}

static void walk_directory(tree *tree, size_t parent, uint32_t depth) {
    const char *path = tree->entries[parent].path;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        kit_fail("%s: %s", path, strerror(errno));
    }
    const struct dirent *found;
    char child[4096];
    while ((found = readdir(directory)) != NULL) {
        struct stat attributes;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) {
            continue;
        }
        // The table of entries may have moved since the last child.
        path = tree->entries[parent].path;
        if (snprintf(child, sizeof child, "%s/%s", path, found->d_name) >= (int)sizeof child
            || lstat(child, &attributes) != 0 || !is_wanted(tree, child, &attributes)) {
            tree->skipped++;
            continue;
        }
        size_t index = add_entry(tree, child, (int64_t)parent, &attributes, depth);
        tree->entries[parent].child_count++;
        if (S_ISDIR(attributes.st_mode)) {
            walk_directory(tree, index, depth + 1);
        }
    }
    closedir(directory);
}

void tree_walk(tree *tree, const char *path) {
    struct stat attributes;
    if (stat(path, &attributes) != 0 || !S_ISDIR(attributes.st_mode)) {
        kit_fail("%s: not a directory that can be read.", path);
    }
    walk_directory(tree, add_entry(tree, path, -1, &attributes, 0), 1);
}
