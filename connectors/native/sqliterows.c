/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a statement of SQLite as columns.
 *
 * Source: the C interface, https://www.sqlite.org/c3ref/intro.html. Its functions are
 * those of the library that Python's sqlite3 uses, and come as pointers: a process may
 * not have two of it. Each value has a type of its own; a column says what it takes,
 * and where a value is another one the page ends before its row, which stays the
 * statement's current row.
 */
#include "columns.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { INTEGER = 1, FLOAT = 2, TEXT = 3, BLOB = 4, NIL = 5 }; /* fundamental types */
enum { ROW = 100, DONE = 101 };                              /* result codes */

enum fep_as {       /* what a column takes */
    AS_TEXT = 0,    /* anything, as text or bytes */
    AS_WHOLE = 1,   /* integers */
    AS_TRUTH = 2,   /* 0 and 1 */
    AS_DOUBLE = 3,  /* floats, and integers that are floats */
    AS_DECIMAL = 4, /* numbers that are decimals of its scale */
};

enum fep_sqlite_status { /* besides those of columns.h */
    FEP_FULL = 1,  /* the page has its rows or bytes */
    FEP_END = 2,   /* there are no more rows */
    FEP_OTHER = 3, /* a value that `place` does not take */
    FEP_FAILED = 4 /* the statement did; SQLite knows why */
};

enum {
    MOST_PRECISION = 38,  /* of decimal128 */
    MOST_SCALE = 15,      /* of decimals: so many digits no two floats share (DBL_DIG) */
    MOST_TEXT = 400,      /* bytes of a float without exponent */
    DIGITS = 17           /* tell any float from its neighbours */
};

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;
typedef struct sqlite3_value sqlite3_value;
typedef struct sqlite3_mutex sqlite3_mutex;

struct fep_sqlite {
    int (*step)(sqlite3_stmt *);
    sqlite3_value *(*column_value)(sqlite3_stmt *, int);
    int (*value_type)(sqlite3_value *);
    int64_t (*value_int64)(sqlite3_value *);
    double (*value_double)(sqlite3_value *);
    const unsigned char *(*value_text)(sqlite3_value *);
    const void *(*value_blob)(sqlite3_value *);
    int (*value_bytes)(sqlite3_value *);
    sqlite3 *(*db_handle)(sqlite3_stmt *);
    sqlite3_mutex *(*db_mutex)(sqlite3 *);
    void (*mutex_enter)(sqlite3_mutex *);
    void (*mutex_leave)(sqlite3_mutex *);
};

struct fep_item {
    uint8_t as;
    uint8_t precision, scale; /* of AS_DECIMAL: within the bounds below */
};

struct fep_key { /* a part of the last row's key; its bytes stand in `last` */
    int32_t place; /* of the statement's columns */
    int32_t type;
    int64_t whole;
    double number;
};

struct fep_reading {
    const struct fep_sqlite *sqlite;
    sqlite3_stmt *statement;
    const struct fep_item *items; /* one for each column of a page */
    struct fep_key *keys;
    struct fep_page *last; /* one row, a column of bytes for each key */
    int32_t width, parts;  /* columns of a page; of the key */
    int32_t current;       /* whether the statement stands on a row not yet taken */
    int32_t place;         /* after FEP_OTHER: which column */
    int64_t run;           /* rows up to here whose key is the last row's */
};

/* --- texts of numbers --------------------------------------------------------------- */

static size_t whole_text(int64_t value, char *out)
{
    char digits[20];
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
    size_t n = 0, size = 0;
    do {
        digits[n++] = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    if (value < 0)
        out[size++] = '-';
    while (n)
        out[size++] = digits[--n];
    return size;
}

/* Whether so many digits are `value`; they stand in `text` as d.dde+xx. */
static int rounds(double value, int digits, char *text, size_t room)
{
    snprintf(text, room, "%.*e", digits - 1, value);
    return strtod(text, NULL) == value;
}

/* The same text one unit further from zero in its last digit; 0 if that carries over
 * the first digit. */
static int further(char *text)
{
    char *at = strchr(text, 'e');
    while (at != NULL && at-- > text) {
        if (*at < '0' || *at > '9')
            continue; /* the point, in whatever locale */
        if (*at != '9') {
            ++*at;
            return 1;
        }
        *at = '0';
    }
    return 0;
}

/* The shortest text of digits that is this float, as d.dde+xx.
 *
 * 15 digits are one float's only (IEEE 754), unless it is subnormal: then fewer are
 * tried first. The float below a power of two is nearer than the one above it, so what
 * is further from zero may be it where the nearest is not. */
static void shortest(double value, char *text, size_t room)
{
    int digits = value < 2.2250738585072014e-308 ? 1 : MOST_SCALE;
    for (; digits < DIGITS; digits++) {
        if (rounds(value, digits, text, room))
            return;
        if (further(text) && strtod(text, NULL) == value)
            return;
    }
    snprintf(text, room, "%.*e", DIGITS - 1, value);
}

/* A float as the shortest decimal that gives it again, without exponent; `out` has
 * room for MOST_TEXT. As Python's repr: 100.0 has its zero, from 1e16 on none has. */
static size_t float_text(double value, char *out)
{
    size_t size = 0;
    char text[40], digits[DIGITS];
    if (signbit(value)) {
        out[size++] = '-';
        value = -value;
    }
    if (isinf(value)) {
        memcpy(out + size, "inf", 3);
        return size + 3;
    }
    shortest(value, text, sizeof text);
    int n = 0;
    const char *at = text;
    for (; *at && *at != 'e'; at++)
        if (*at >= '0' && *at <= '9' && n < DIGITS)
            digits[n++] = *at;
    int point = 1 + (*at ? atoi(at + 1) : 0); /* digits before the point */
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (value == 0)
        point = 1;
    if (point <= 0) {
        out[size++] = '0';
        out[size++] = '.';
        for (int i = point; i < 0; i++)
            out[size++] = '0';
    }
    for (int i = 0; i < n || i < point; i++) {
        if (i == point && i > 0)
            out[size++] = '.';
        out[size++] = i < n ? digits[i] : '0';
    }
    if (n <= point && point <= 16) {
        out[size++] = '.';
        out[size++] = '0';
    }
    return size;
}

/* --- values of a row ---------------------------------------------------------------- */

static const double POWERS[MOST_SCALE + 1] = {
    1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
};

#define E18 ((__int128)1000000000000000000)
static const __int128 TENS[] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000,
    E18 / 100000000, E18 / 10000000, E18 / 1000000, E18 / 100000, E18 / 10000,
    E18 / 1000, E18 / 100, E18 / 10,
    E18, E18 * 10, E18 * 100, E18 * 1000, E18 * 10000, E18 * 100000, E18 * 1000000,
    E18 * 10000000, E18 * 100000000, E18 * 1000000000,
    E18 * 10000000000, E18 * 100000000000, E18 * 1000000000000, E18 * 10000000000000,
    E18 * 100000000000000, E18 * 1000000000000000, E18 * 10000000000000000,
    E18 * 100000000000000000, E18 * E18, E18 * E18 * 10, E18 * E18 * 100,
};
_Static_assert(sizeof TENS == (MOST_PRECISION + 1) * sizeof *TENS, "10^0 to 10^38");

/* The bytes of a text or blob; NULL if memory is short. */
static const void *bytes_of(const struct fep_sqlite *lib, sqlite3_value *value,
                            int type, size_t *size)
{
    const void *data = type == TEXT ? (const void *)lib->value_text(value)
                                    : lib->value_blob(value);
    int found = lib->value_bytes(value);
    *size = found > 0 ? (size_t)found : 0;
    return data == NULL && *size == 0 && type == BLOB ? "" : data;
}

static int put_text(const struct fep_sqlite *lib, struct fep_page *page,
                    struct fep_column *c, sqlite3_value *value, int type)
{
    char text[MOST_TEXT];
    if (type == INTEGER)
        return fep_bytes(page, c, text, whole_text(lib->value_int64(value), text));
    if (type == FLOAT)
        return fep_bytes(page, c, text, float_text(lib->value_double(value), text));
    size_t size;
    const void *data = bytes_of(lib, value, type, &size);
    return data == NULL ? FEP_MEMORY : fep_bytes(page, c, data, size);
}

static int put_whole(const struct fep_sqlite *lib, struct fep_page *page,
                     struct fep_column *c, sqlite3_value *value, int as)
{
    int64_t whole = lib->value_int64(value);
    if (as == AS_WHOLE)
        fep_w8(page, c, whole);
    else if (whole == 0 || whole == 1)
        fep_bit(page, c, (int)whole);
    else
        return FEP_OTHER;
    return FEP_OK;
}

static int put_double(const struct fep_sqlite *lib, struct fep_page *page,
                      struct fep_column *c, sqlite3_value *value, int type)
{
    double number;
    int64_t bits;
    if (type == INTEGER) {
        int64_t whole = lib->value_int64(value);
        if (whole > INT64_C(1) << 53 || whole < -(INT64_C(1) << 53))
            return FEP_OTHER;
        number = (double)whole;
    } else {
        number = lib->value_double(value);
    }
    memcpy(&bits, &number, 8);
    fep_w8(page, c, bits);
    return FEP_OK;
}

/* A float is the decimal n / 10^s if n has at most 15 digits and that division, rounded
 * once, gives it again: see values.py. */
static int put_decimal(const struct fep_sqlite *lib, struct fep_page *page,
                       struct fep_column *c, sqlite3_value *value, int type,
                       const struct fep_item *item)
{
    __int128 units, limit = TENS[item->precision];
    if (type == INTEGER) {
        units = lib->value_int64(value) * TENS[item->scale];
    } else {
        double number = lib->value_double(value), scale = POWERS[item->scale];
        double found = number * scale;
        if (!(fabs(found) < 1e15))
            return FEP_OTHER;
        found = (found + 0x1.8p52) - 0x1.8p52; /* the nearest whole number */
        if (!(fabs(found) < 1e15) || found / scale != number)
            return FEP_OTHER;
        units = (int64_t)found;
    }
    if (units >= limit || -units >= limit)
        return FEP_OTHER;
    fep_w16(page, c, units);
    return FEP_OK;
}

static int put(const struct fep_sqlite *lib, struct fep_page *page,
               struct fep_column *c, const struct fep_item *item, sqlite3_value *value)
{
    int type = lib->value_type(value);
    if (type == NIL) {
        fep_null(page, c);
        return FEP_OK;
    }
    if (item->as == AS_TEXT)
        return put_text(lib, page, c, value, type);
    if (type == INTEGER && (item->as == AS_WHOLE || item->as == AS_TRUTH))
        return put_whole(lib, page, c, value, item->as);
    if (type != INTEGER && type != FLOAT)
        return FEP_OTHER;
    if (item->as == AS_DOUBLE)
        return put_double(lib, page, c, value, type);
    if (item->as == AS_DECIMAL)
        return put_decimal(lib, page, c, value, type, item);
    return FEP_OTHER;
}

/* Takes back the first columns of a row that is not finished; none follows in this
 * page, so what stands behind its rows does not matter. */
static void take_back(struct fep_page *page, int32_t columns)
{
    int64_t r = page->rows;
    for (int32_t i = 0; i < columns; i++) {
        struct fep_column *c = &page->columns[i];
        c->nulls -= !(c->validity[r >> 3] >> (r & 7) & 1);
        if (c->layout == FEP_BYTES)
            c->size = (size_t)c->offsets[r];
    }
}

static int put_row(struct fep_reading *reading, struct fep_page *page)
{
    const struct fep_sqlite *lib = reading->sqlite;
    for (int32_t i = 0; i < reading->width; i++) {
        sqlite3_value *value = lib->column_value(reading->statement, i);
        int status = put(lib, page, &page->columns[i], &reading->items[i], value);
        if (status != FEP_OK) {
            reading->place = i;
            take_back(page, i);
            return status;
        }
    }
    return FEP_OK;
}

/* --- keys --------------------------------------------------------------------------- */

static int same_number(const struct fep_key *a, const struct fep_key *b)
{
    if (a->type == b->type)
        return a->type == INTEGER ? a->whole == b->whole : a->number == b->number;
    int64_t whole = a->type == INTEGER ? a->whole : b->whole;
    double number = a->type == INTEGER ? b->number : a->number;
    return number >= -0x1p63 && number < 0x1p63 && number == (double)whole &&
           (int64_t)number == whole;
}

/* Remembers one part of the current row's key; whether it is the last row's, or a
 * status. Texts and bytes are compared as bytes: mixed keys come as texts. */
static int key_part(struct fep_reading *reading, struct fep_key *last,
                    struct fep_column *c)
{
    const struct fep_sqlite *lib = reading->sqlite;
    sqlite3_value *value = lib->column_value(reading->statement, last->place);
    struct fep_key now = *last;
    now.type = lib->value_type(value);
    if (now.type == INTEGER)
        now.whole = lib->value_int64(value);
    if (now.type == FLOAT)
        now.number = lib->value_double(value);
    int same = now.type == last->type;
    if (now.type <= FLOAT)
        same = last->type <= FLOAT && same_number(&now, last);
    if (now.type == TEXT || now.type == BLOB) {
        size_t size;
        const void *data = bytes_of(lib, value, now.type, &size);
        if (data == NULL)
            return FEP_MEMORY;
        same = same && size == c->size && memcmp(data, c->data, size) == 0;
        c->size = 0;
        int status = fep_bytes(reading->last, c, data, size);
        if (status != FEP_OK)
            return status;
    }
    *last = now;
    return same;
}

/* Remembers the current row's key; whether it is the last row's, or a status. */
static int put_key(struct fep_reading *reading)
{
    int same = 1;
    for (int32_t i = 0; i < reading->parts; i++) {
        int found = key_part(reading, &reading->keys[i], &reading->last->columns[i]);
        if (found < 0)
            return found;
        same &= found;
    }
    return same;
}

/* --- rows --------------------------------------------------------------------------- */

static int next(struct fep_reading *reading)
{
    if (reading->current)
        return FEP_OK;
    int code = reading->sqlite->step(reading->statement);
    reading->current = code == ROW;
    return code == ROW ? FEP_OK : code == DONE ? FEP_END : FEP_FAILED;
}

static int fill(struct fep_reading *reading, struct fep_page *page, size_t bytes)
{
    while (page->rows < page->most && page->bytes < bytes) {
        int status = next(reading);
        if (status == FEP_OK)
            status = put_row(reading, page);
        int same = status == FEP_OK ? put_key(reading) : status;
        if (status != FEP_OK || same < 0)
            return status != FEP_OK ? status : same;
        reading->run = same ? reading->run + 1 : 1;
        fep_row(page);
        reading->current = 0;
    }
    return FEP_FULL;
}

/* Passes over the first rows whose key is the one that is remembered, at most so many. */
static int skip(struct fep_reading *reading, int64_t rows)
{
    while (reading->run < rows) {
        int status = next(reading);
        int same = status == FEP_OK ? put_key(reading) : status;
        if (status != FEP_OK || same < 0)
            return status != FEP_OK ? status : same;
        if (!same) {
            reading->run = 0; /* this row is to come, and has another key */
            return FEP_OK;
        }
        reading->run++;
        reading->current = 0;
    }
    return FEP_OK;
}

/* --- what Python calls: the connection is ours meanwhile, which makes its values
 * "protected" ------------------------------------------------------------------------ */

/* Passes over `skipped` rows at most, then takes rows until the page has all that it has
 * room for, or so many bytes, or another status. */
int fep_sqlite_fill(struct fep_reading *reading, struct fep_page *page, int64_t skipped,
                    size_t bytes)
{
    const struct fep_sqlite *lib = reading->sqlite;
    sqlite3_mutex *mutex = lib->db_mutex(lib->db_handle(reading->statement));
    lib->mutex_enter(mutex);
    int status = skipped ? skip(reading, skipped) : FEP_OK;
    if (status == FEP_OK)
        status = fill(reading, page, bytes);
    lib->mutex_leave(mutex);
    return status;
}

/* Remembers bytes as part of the key of the last row. */
int fep_sqlite_remember(struct fep_reading *reading, int32_t part, const void *data,
                        size_t size)
{
    struct fep_column *c = &reading->last->columns[part];
    c->size = 0;
    return fep_bytes(reading->last, c, data, size);
}

/* --- which handle a connection has -------------------------------------------------- */

/* What this thread has opened since fep_sqlite_expect. SQLite gives its extensions
 * nothing to tell callers by, and a callback made by ctypes would need memory that is
 * both written and executed, which our service is denied. */
static _Thread_local struct {
    sqlite3 *last;
    int count;
} opened;

/* Called by SQLite with each connection, as an extension that is always loaded. */
int fep_sqlite_opened(sqlite3 *db, char **message, const void *api)
{
    (void)message;
    (void)api;
    opened.last = db;
    opened.count++;
    return 0;
}

void fep_sqlite_expect(void) { opened.count = 0; }

/* The one connection that was opened; NULL if it was none, or more. */
sqlite3 *fep_sqlite_handle(void) { return opened.count == 1 ? opened.last : NULL; }

/* The text of a float; `out` has room for 400 bytes. */
size_t fep_sqlite_float(double value, char *out) { return float_text(value, out); }
