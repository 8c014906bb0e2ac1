/* SPDX-License-Identifier: Apache-2.0 */
/* A source that sends what a test says: the functions that append, callable one by one. */
#include "../../connectors/native/columns.h"

int fep_put_null(struct fep_page *page, int32_t i);
int fep_put_bytes(struct fep_page *page, int32_t i, const uint8_t *value, size_t size);
int fep_put_fixed(struct fep_page *page, int32_t i, const uint8_t value[16]);
int fep_end_row(struct fep_page *page);
int fep_put_far(struct fep_page *page, int32_t i, size_t used, size_t size);

int fep_put_null(struct fep_page *page, int32_t i)
{
    fep_null(page, &page->columns[i]);
    return FEP_OK;
}

int fep_put_bytes(struct fep_page *page, int32_t i, const uint8_t *value, size_t size)
{
    return fep_bytes(page, &page->columns[i], value, size);
}

/* The first bytes of a value of up to 16, little-endian. */
int fep_put_fixed(struct fep_page *page, int32_t i, const uint8_t value[16])
{
    struct fep_column *c = &page->columns[i];
    int32_t four;
    int64_t eight;
    __int128 sixteen;
    memcpy(&four, value, 4);
    memcpy(&eight, value, 8);
    memcpy(&sixteen, value, 16);
    switch (c->layout) {
    case FEP_BIT: fep_bit(page, c, value[0]); break;
    case FEP_W4: fep_w4(page, c, four); break;
    case FEP_W8: fep_w8(page, c, eight); break;
    case FEP_W16: fep_w16(page, c, sixteen); break;
    default: return FEP_MALFORMED;
    }
    return FEP_OK;
}

int fep_end_row(struct fep_page *page)
{
    fep_row(page);
    return page->rows < page->most;
}

/* What a column says to `size` more bytes if it held `used` already: nothing of it is
 * there, so whatever is not refused would crash. */
int fep_put_far(struct fep_page *page, int32_t i, size_t used, size_t size)
{
    struct fep_column *c = &page->columns[i];
    struct fep_column before = *c;
    c->size = c->room = used;
    int status = fep_bytes(page, c, "", size);
    *c = before;
    return status;
}
