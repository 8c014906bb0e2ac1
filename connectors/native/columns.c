/* SPDX-License-Identifier: Apache-2.0 */
#include "columns.h"

#include <stdlib.h>

enum { FIRST_BYTES = 16 }; /* of a column of bytes, for each row that it may get */

static int column_init(struct fep_column *c, uint8_t layout, int64_t most)
{
    size_t rows = (size_t)most, bits = (rows + 7) / 8;
    c->layout = layout;
    c->validity = malloc(bits + 1);
    if (c->validity == NULL)
        return FEP_MEMORY;
    memset(c->validity, 0xFF, bits + 1);
    if (layout == FEP_BYTES) {
        c->offsets = malloc((rows + 1) * sizeof *c->offsets);
        if (c->offsets == NULL)
            return FEP_MEMORY;
        c->offsets[0] = 0;
        return fep_grow(c, rows * FIRST_BYTES);
    }
    c->room = layout == FEP_BIT ? bits + 1 : rows * layout + 1;
    c->data = layout == FEP_BIT ? calloc(c->room, 1) : malloc(c->room);
    return c->data == NULL ? FEP_MEMORY : FEP_OK;
}

int fep_grow(struct fep_column *c, size_t more)
{
    if (more > (size_t)INT32_MAX - c->size)
        return FEP_LARGE;
    size_t room = c->size + more;
    if (room < 2 * c->room)
        room = 2 * c->room;
    if (room > INT32_MAX)
        room = INT32_MAX;
    uint8_t *data = realloc(c->data, room + 1);
    if (data == NULL)
        return FEP_MEMORY;
    c->data = data;
    c->room = room;
    return FEP_OK;
}

struct fep_page *fep_page_new(int32_t width, const uint8_t *layouts, int64_t most)
{
    if (width < 1 || most < 1 || most > INT32_MAX)
        return NULL;
    struct fep_page *page = calloc(1, sizeof *page);
    if (page == NULL)
        return NULL;
    page->most = most;
    page->columns = calloc((size_t)width, sizeof *page->columns);
    if (page->columns == NULL) {
        free(page);
        return NULL;
    }
    page->width = width;
    for (int32_t i = 0; i < width; i++) {
        if (column_init(&page->columns[i], layouts[i], most) != FEP_OK) {
            fep_page_free(page);
            return NULL;
        }
        page->fixed += layouts[i];
    }
    return page;
}

void fep_page_free(struct fep_page *page)
{
    if (page == NULL)
        return;
    for (int32_t i = 0; i < page->width; i++) {
        free(page->columns[i].validity);
        free(page->columns[i].offsets);
        free(page->columns[i].data);
    }
    free(page->columns);
    free(page);
}

void fep_page_column(const struct fep_page *page, int32_t i, uint64_t out[5])
{
    const struct fep_column *c = &page->columns[i];
    size_t size = c->size;
    if (c->layout == FEP_BIT)
        size = ((size_t)page->rows + 7) / 8;
    else if (c->layout != FEP_BYTES)
        size = (size_t)page->rows * c->layout;
    out[0] = (uintptr_t)c->validity;
    out[1] = (uintptr_t)c->offsets;
    out[2] = (uintptr_t)c->data;
    out[3] = size;
    out[4] = (uint64_t)c->nulls;
}

int64_t fep_page_rows(const struct fep_page *page) { return page->rows; }
size_t fep_page_bytes(const struct fep_page *page) { return page->bytes; }
