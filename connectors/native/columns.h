/* SPDX-License-Identifier: Apache-2.0 */
/* Columns that grow row by row, in the buffers that Apache Arrow defines.
 *
 * A page is a set of columns of equally many rows. Whoever reads a source appends one
 * value to every column and then calls fep_row(). The buffers are those of the Arrow
 * columnar format (https://arrow.apache.org/docs/format/Columnar.html): a bit a row
 * that says whether there is a value, and either int32 offsets with bytes, or one fixed
 * width. All of it is bounded: by the rows a page was made for, and 2 GiB a column.
 */
#ifndef FEP_COLUMNS_H
#define FEP_COLUMNS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum fep_layout {
    FEP_BYTES = 0,  /* offsets and bytes: text or binary */
    FEP_BIT = 1,    /* a bit a row: boolean */
    FEP_W4 = 4,     /* 4 bytes a row: date32 */
    FEP_W8 = 8,     /* 8 bytes a row: int64, double, timestamp */
    FEP_W16 = 16,   /* 16 bytes a row: decimal128 */
};

enum fep_status {
    FEP_OK = 0,
    FEP_MEMORY = -1,    /* malloc gave nothing */
    FEP_LARGE = -2,     /* a column would be 2 GiB or more */
    FEP_MALFORMED = -3, /* the source sent what its protocol does not allow */
};

enum { FEP_BLOCK = 32 }; /* bytes; most texts of a register have fewer */

struct fep_column {
    uint8_t layout;
    int64_t nulls;
    uint8_t *validity; /* bit r: row r has a value */
    int32_t *offsets;  /* of FEP_BYTES: rows + 1 */
    uint8_t *data;
    size_t size, room; /* bytes of data in use, and at hand */
};

struct fep_page {
    int32_t width;
    int64_t rows, most; /* so far; room for */
    size_t bytes;       /* of all values so far */
    size_t fixed;       /* of a row, without columns of FEP_BYTES */
    struct fep_column *columns;
};

/* Columns of the given layouts for at most `most` rows; NULL without memory. */
struct fep_page *fep_page_new(int32_t width, const uint8_t *layouts, int64_t most);
void fep_page_free(struct fep_page *page);
/* validity, offsets, data, bytes of data, nulls of column i; how Python sees them. */
void fep_page_column(const struct fep_page *page, int32_t i, uint64_t out[5]);
int64_t fep_page_rows(const struct fep_page *page);
size_t fep_page_bytes(const struct fep_page *page);
/* Room for more bytes in a column of FEP_BYTES. */
int fep_grow(struct fep_column *column, size_t more);

/* --- appending: `page->rows` is the row that is being written; the caller has seen to
 * it that there are fewer than `most` ------------------------------------------------ */

static inline void fep_null(struct fep_page *page, struct fep_column *c)
{
    int64_t r = page->rows;
    c->validity[r >> 3] &= (uint8_t)~(1u << (r & 7));
    c->nulls++;
    if (c->layout == FEP_BYTES)
        c->offsets[r + 1] = (int32_t)c->size;
    else if (c->layout != FEP_BIT) /* bits are 0 at first */
        memset(c->data + (size_t)r * c->layout, 0, c->layout);
}

/* A value behind which more may be read: `readable` bytes from its first on. A block of
 * a length that the compiler knows is copied faster than a few bytes are; what is too
 * much of it lies in the column's room and is written over, or never looked at. */
static inline int fep_some_bytes(struct fep_page *page, struct fep_column *c,
                                 const void *value, size_t size, size_t readable)
{
    if (size > c->room - c->size) {
        int status = fep_grow(c, size);
        if (status != FEP_OK)
            return status;
    }
    if (size <= FEP_BLOCK && readable >= FEP_BLOCK && c->room - c->size >= FEP_BLOCK)
        memcpy(c->data + c->size, value, FEP_BLOCK);
    else if (size)
        memcpy(c->data + c->size, value, size);
    c->size += size;
    page->bytes += size;
    c->offsets[page->rows + 1] = (int32_t)c->size;
    return FEP_OK;
}

static inline int fep_bytes(struct fep_page *page, struct fep_column *c,
                            const void *value, size_t size)
{
    return fep_some_bytes(page, c, value, size, size);
}

static inline void fep_w4(struct fep_page *page, struct fep_column *c, int32_t value)
{
    memcpy(c->data + (size_t)page->rows * 4, &value, 4);
}

static inline void fep_w8(struct fep_page *page, struct fep_column *c, int64_t value)
{
    memcpy(c->data + (size_t)page->rows * 8, &value, 8);
}

static inline void fep_w16(struct fep_page *page, struct fep_column *c,
                           __int128 value)
{
    memcpy(c->data + (size_t)page->rows * 16, &value, 16);
}

static inline void fep_bit(struct fep_page *page, struct fep_column *c, int value)
{
    int64_t r = page->rows;
    if (value)
        c->data[r >> 3] |= (uint8_t)(1u << (r & 7));
}

/* Ends the row: each column has its value. */
static inline void fep_row(struct fep_page *page)
{
    page->bytes += page->fixed;
    page->rows++;
}

#endif
