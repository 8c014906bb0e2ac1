/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of MariaDB and MySQL: packets of a text result become columns in one walk.
 *
 * Sources: the MySQL client/server protocol, "Packets" (three bytes of length, one of
 * number; a packet of FFFFFF bytes goes on in the next one), "Text Resultset Row" (for
 * each column a length-encoded string, FB for NULL), "EOF_Packet" (FE, fewer than nine
 * bytes) and "ERR_Packet" (FF, two bytes of code).
 *
 * A value either stays the text that it is, or is parsed to the type that its item has.
 * Parsing never rounds and never guesses: a text that is not exactly such a value ends
 * the page before its row (MYSQL_ODD), and the caller goes on with its column as text.
 */
#include "columns.h"
#include "mysqlvalues.h"

enum {
    MYSQL_MORE = 1,  /* the next row has not arrived yet */
    MYSQL_FULL = 2,  /* the page has its rows or its bytes */
    MYSQL_END = 3,   /* there are no more rows */
    MYSQL_ERROR = 4, /* the server ended the rows: `code` */
    MYSQL_ODD = 5,   /* a value of column `odd` cannot be parsed; its row is not taken */
};

enum {
    HEAD = 4,           /* bytes before a packet's content */
    WHOLE = 0xFFFFFF,   /* a packet of this length goes on in the next one */
    ROW_MOST = 1 << 30, /* the largest max_allowed_packet */
    NULL_VALUE = 0xFB,
    TWO_BYTES = 0xFC,
    THREE_BYTES = 0xFD,
    EIGHT_BYTES = 0xFE,
    ENDING = 0xFE,
    FAILING = 0xFF,
    CODE = 3, /* bytes of a failing packet up to its code's end */
    SHORT = 32,
};

enum kind {
    TEXT = 0,
    INTEGER = 1,
    DECIMAL = 2,
    DATE = 3,
    MOMENT = 4, /* date and time of day: microseconds */
    TRUTH = 5,
};

/* How one column of the result is read. */
struct fep_mysql_column {
    int32_t kind;
    int32_t digits, scale; /* of DECIMAL: at most 38, and those after the point */
    int32_t also;          /* column of the page that gets the text besides, or -1 */
};

/* What is received, and how far it is read; Python has the same structure. */
struct fep_mysql {
    const struct fep_mysql_column *columns;
    uint8_t *data;
    size_t filled; /* bytes of data */
    size_t at;     /* the next packet's head */
    size_t joined; /* bytes of that packet after its pieces were joined, or 0 */
    size_t most;   /* bytes of a page, unless one row is larger */
    int32_t width; /* columns of the result */
    int32_t odd;
    int32_t code;
};

/* --- values to columns ------------------------------------------------------------ */

/* A text. Short ones are copied as 32 bytes if there are so many on both sides, which
 * is cheaper than to branch on their length. */
static int put_text(struct fep_page *page, struct fep_column *c, const uint8_t *p,
                    size_t size, size_t readable)
{
    if (size > SHORT || readable < SHORT || c->room - c->size < SHORT)
        return fep_bytes(page, c, p, size);
    memcpy(c->data + c->size, p, SHORT);
    c->size += size;
    page->bytes += size;
    c->offsets[page->rows + 1] = (int32_t)c->size;
    return FEP_OK;
}

static int put_date(struct fep_page *page, struct fep_column *c, const uint8_t *p,
                    size_t size)
{
    int32_t day;
    if (size != 10 || !parse_date(p, &day))
        return MYSQL_ODD;
    fep_w4(page, c, day);
    return FEP_OK;
}

static int put_decimal(struct fep_page *page, struct fep_column *c, const uint8_t *p,
                       size_t size, const struct fep_mysql_column *column)
{
    __int128 value;
    if (!parse_decimal(p, size, column->digits, column->scale, &value))
        return MYSQL_ODD;
    fep_w16(page, c, value);
    return FEP_OK;
}

static int put_parsed(struct fep_page *page, struct fep_column *c, const uint8_t *p,
                      size_t size, const struct fep_mysql_column *column)
{
    int64_t value;
    switch (column->kind) {
    case INTEGER:
        if (!parse_integer(p, size, &value))
            return MYSQL_ODD;
        break;
    case MOMENT:
        if (!parse_moment(p, size, &value))
            return MYSQL_ODD;
        break;
    case DATE:
        return put_date(page, c, p, size);
    case DECIMAL:
        return put_decimal(page, c, p, size, column);
    default:
        if (size != 1 || (*p != '0' && *p != '1'))
            return MYSQL_ODD;
        fep_bit(page, c, *p == '1');
        return FEP_OK;
    }
    fep_w8(page, c, value);
    return FEP_OK;
}

/* --- packets ---------------------------------------------------------------------- */

static uint64_t little(const uint8_t *p, int count)
{
    uint64_t found = 0;
    for (int i = 0; i < count; i++)
        found |= (uint64_t)p[i] << (8 * i);
    return found;
}

struct value {
    const uint8_t *begin; /* NULL if it is NULL */
    size_t size;
};

/* The length-encoded string at *at, which is moved behind it. */
static int next_value(const uint8_t **at, const uint8_t *end, struct value *out)
{
    const uint8_t *p = *at;
    if (p == end)
        return FEP_MALFORMED;
    uint64_t size = *p++;
    if (size >= NULL_VALUE) {
        *out = (struct value){NULL, 0};
        *at = p;
        if (size == NULL_VALUE)
            return FEP_OK;
        if (size > EIGHT_BYTES)
            return FEP_MALFORMED;
        int count = size == TWO_BYTES ? 2 : size == THREE_BYTES ? 3 : 8;
        if (end - p < count)
            return FEP_MALFORMED;
        size = little(p, count);
        p += count;
    }
    if (size > (uint64_t)(end - p))
        return FEP_MALFORMED;
    *out = (struct value){p, (size_t)size};
    *at = p + size;
    return FEP_OK;
}

static int put_row(struct fep_page *page, struct fep_mysql *r, const uint8_t *p,
                   size_t size)
{
    const uint8_t *end = p + size, *all = r->data + r->filled;
    for (int32_t i = 0; i < r->width; i++) {
        const struct fep_mysql_column *column = &r->columns[i];
        struct fep_column *c = &page->columns[i];
        struct value v;
        int status = next_value(&p, end, &v);
        if (status != FEP_OK)
            return status;
        if (column->also >= 0) {
            struct fep_column *text = &page->columns[column->also];
            if (v.begin == NULL)
                fep_null(page, text);
            else if ((status = fep_bytes(page, text, v.begin, v.size)) != FEP_OK)
                return status;
        }
        if (v.begin == NULL)
            fep_null(page, c);
        else if (column->kind == TEXT)
            status = put_text(page, c, v.begin, v.size, (size_t)(all - v.begin));
        else
            status = put_parsed(page, c, v.begin, v.size, column);
        if (status != FEP_OK) {
            r->odd = i;
            return status;
        }
    }
    return p == end ? FEP_OK : FEP_MALFORMED;
}

/* Forget what was written of the row that was not ended. */
static void undo_row(struct fep_page *page, size_t bytes)
{
    int64_t row = page->rows;
    uint8_t bit = (uint8_t)(1u << (row & 7));
    page->bytes = bytes;
    for (int32_t i = 0; i < page->width; i++) {
        struct fep_column *c = &page->columns[i];
        if (!(c->validity[row >> 3] & bit)) {
            c->validity[row >> 3] |= bit;
            c->nulls--;
        }
        if (c->layout == FEP_BYTES)
            c->size = (size_t)c->offsets[row];
        else if (c->layout == FEP_BIT)
            c->data[row >> 3] &= (uint8_t)~bit;
    }
}

/* The pieces of a long packet moved together, once all of them have arrived. */
static int join(struct fep_mysql *r, size_t *size)
{
    size_t from = r->at, total = 0, piece;
    do {
        if (r->filled - from < HEAD)
            return MYSQL_MORE;
        piece = little(r->data + from, 3);
        total += piece;
        if (total > ROW_MOST)
            return FEP_LARGE;
        if (r->filled - from - HEAD < piece)
            return MYSQL_MORE;
        from += HEAD + piece;
    } while (piece == WHOLE);
    size_t source = r->at, target = r->at + HEAD;
    do {
        piece = little(r->data + source, 3);
        memmove(r->data + target, r->data + source + HEAD, piece);
        source += HEAD + piece;
        target += piece;
    } while (piece == WHOLE);
    memmove(r->data + target, r->data + from, r->filled - from);
    r->filled -= from - target;
    *size = r->joined = total;
    return FEP_OK;
}

/* Bytes of the next packet's content, which stands behind its head. */
static int next_packet(struct fep_mysql *r, size_t *size)
{
    *size = r->joined;
    if (*size)
        return FEP_OK;
    if (r->filled - r->at < HEAD)
        return MYSQL_MORE;
    *size = little(r->data + r->at, 3);
    if (*size == WHOLE)
        return join(r, size);
    return r->filled - r->at - HEAD < *size ? MYSQL_MORE : FEP_OK;
}

/* Whether a packet is a row, and if not, how the rows end. */
static int judged(struct fep_mysql *r, const uint8_t *p, size_t size)
{
    if (size == 0)
        return FEP_MALFORMED;
    if (*p == ENDING && size < 9)
        return MYSQL_END;
    if (*p != FAILING)
        return FEP_OK;
    if (size < CODE)
        return FEP_MALFORMED;
    r->code = (int32_t)little(p + 1, 2);
    return MYSQL_ERROR;
}

/* Append rows to a page until there is a reason to stop, which is given back. The
 * page has a column for each of the result, with the layout of its kind, and those
 * that `also` names. */
int fep_mysql_rows(struct fep_page *page, struct fep_mysql *r)
{
    for (;;) {
        size_t size, before = page->bytes;
        int status = next_packet(r, &size);
        if (status != FEP_OK)
            return status;
        const uint8_t *content = r->data + r->at + HEAD;
        status = judged(r, content, size);
        if (status != FEP_OK)
            return status;
        if (page->rows == page->most || (page->rows && before + size > r->most))
            return MYSQL_FULL;
        status = put_row(page, r, content, size);
        if (status != FEP_OK) {
            undo_row(page, before);
            return status;
        }
        fep_row(page);
        r->at += HEAD + size;
        r->joined = 0;
        if (page->rows == page->most)
            return MYSQL_FULL;
    }
}
