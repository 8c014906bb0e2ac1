/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of PostgreSQL's binary COPY, cut into columns.
 *
 * Source: "Binary Format" of COPY and "COPY Operations" in PostgreSQL's manual, the
 * functions *_send of its backend (date.c, timestamp.c, numeric.c), libpq's
 * PQgetCopyData. Each message is one row; the first begins with the header, the last is
 * the trailer alone, or with the header where there is no row.
 *
 * libpq is no library that this one is linked with: whoever calls has a connection of
 * some libpq and gives the functions of that very one.
 */
#include "columns.h"

#include <endian.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <time.h>

enum kind {
    KIND_WHOLE = 0,   /* int2, int4, int8 -> FEP_W8 */
    KIND_BIT = 1,     /* bool -> FEP_BIT */
    KIND_DOUBLE = 2,  /* float8 -> FEP_W8 */
    KIND_DATE = 3,    /* date -> FEP_W4, days since 1970 */
    KIND_TIME = 4,    /* timestamp, timestamptz -> FEP_W8, microseconds since 1970 */
    KIND_DECIMAL = 5, /* numeric -> FEP_W16 of a precision and scale */
    KIND_BYTES = 6,   /* texts and bytea -> FEP_BYTES */
    KIND_INSTEAD = 7, /* text where the column before holds a strange value, else NULL */
};

/* More statuses of fep_pg_page(). */
enum {
    STATUS_FULL = 1,    /* the page is full, more is to come */
    STATUS_END = 2,     /* the last row was in it */
    STATUS_FAILED = 3,  /* libpq or the server say why */
    STATUS_STRANGE = 4, /* a value that its column cannot hold, and no text instead */
};

struct fep_pg_column {
    uint8_t kind, precision, scale;
};

struct fep_pg_copy {
    void *connection;
    int (*receive)(void *connection, char **message, int async); /* PQgetCopyData */
    void (*release)(void *message);                              /* PQfreemem */
    struct fep_pg_column *columns;
    int32_t socket; /* of the connection, or -1 */
    int32_t width;
    uint8_t begun, ended; /* the header, the trailer came */
};

struct input {
    const uint8_t *at, *end;
};

enum {
    ABSENT = -1, /* length of a NULL, and number of columns of the trailer */
    EPOCH_DAYS = 10957,
    FIRST_DAY = -719162 - EPOCH_DAYS, /* 0001-01-01 since 2000-01-01 */
    LAST_DAY = 2932896 - EPOCH_DAYS,  /* 9999-12-31 */
    NUMERIC_HEAD = 8,
    NUMERIC_MINUS = 0x4000,
    NUMERIC_SPECIAL = 0xC000, /* NaN; 0xD000 and 0xF000 are the infinities */
    BASE = 10000,             /* of numeric's digits */
    MOST_DIGITS = 38,         /* of a decimal128 */
    GATHERED = 65536,        /* bytes that are worth a look; a socket holds 100,000 */
    PAUSE_NS = 250000,       /* in which a server writes some 80,000 */
};

static const int64_t DAY = INT64_C(86400000000);
static const uint32_t POWERS[] = {1, 10, 100, 1000, BASE};
static const uint8_t SIGNATURE[11] = "PGCOPY\n\377\r\n"; /* and a zero */

typedef unsigned __int128 magnitude;

static uint16_t two(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return be16toh(value);
}

static uint32_t four(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return be32toh(value);
}

static uint64_t eight(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return be64toh(value);
}

static magnitude ten_to(int power)
{
    magnitude value = 1;
    for (; power >= 4; power -= 4)
        value *= BASE;
    return value * POWERS[power];
}

static int whole(struct fep_page *page, struct fep_column *c, const uint8_t *at,
                 size_t size)
{
    switch (size) {
    case 2: fep_w8(page, c, (int16_t)two(at)); return FEP_OK;
    case 4: fep_w8(page, c, (int32_t)four(at)); return FEP_OK;
    case 8: fep_w8(page, c, (int64_t)eight(at)); return FEP_OK;
    default: return FEP_MALFORMED;
    }
}

static int bit(struct fep_page *page, struct fep_column *c, const uint8_t *at,
               size_t size)
{
    if (size != 1 || *at > 1)
        return FEP_MALFORMED;
    fep_bit(page, c, *at);
    return FEP_OK;
}

static int date(struct fep_page *page, struct fep_column *c, const uint8_t *at,
                size_t size)
{
    if (size != 4)
        return FEP_MALFORMED;
    int32_t days = (int32_t)four(at);
    if (days < FIRST_DAY || days > LAST_DAY) /* the infinities, too */
        return STATUS_STRANGE;
    fep_w4(page, c, days + EPOCH_DAYS);
    return FEP_OK;
}

static int instant(struct fep_page *page, struct fep_column *c, const uint8_t *at,
                   size_t size)
{
    if (size != 8)
        return FEP_MALFORMED;
    int64_t micros = (int64_t)eight(at);
    if (micros < FIRST_DAY * DAY || micros >= (LAST_DAY + 1) * DAY)
        return STATUS_STRANGE;
    fep_w8(page, c, micros + EPOCH_DAYS * DAY);
    return FEP_OK;
}

/* The digits of a numeric as a whole number of units of 10^-scale. Strange is what has
 * digits beyond the scale, or more than a decimal can have. */
static int units_of(const uint8_t *digits, int count, int weight, int scale,
                    magnitude *units)
{
    magnitude found = 0;
    int power = 4 * weight + scale, left = 0; /* of ten, of a digit's unit */
    for (int i = 0; i < count; i++, power -= 4) {
        uint32_t digit = two(digits + 2 * i);
        if (digit >= BASE)
            return FEP_MALFORMED;
        if (power <= -4) {
            if (digit)
                return STATUS_STRANGE;
            continue;
        }
        int kept = power < 0 ? 4 + power : 4; /* decimals of this digit */
        if (digit % POWERS[4 - kept])
            return STATUS_STRANGE;
        if (4 * (i + 1) > MOST_DIGITS && found >= ten_to(MOST_DIGITS - kept))
            return STATUS_STRANGE;
        found = found * POWERS[kept] + digit / POWERS[4 - kept];
        left = power < 0 ? 0 : power;
    }
    if (found && left) {
        if (left > MOST_DIGITS || found >= ten_to(MOST_DIGITS - left))
            return STATUS_STRANGE;
        found *= ten_to(left);
    }
    *units = found;
    return FEP_OK;
}

static int decimal(struct fep_page *page, struct fep_column *c, const uint8_t *at,
                   size_t size, const struct fep_pg_column *as)
{
    if (size < NUMERIC_HEAD)
        return FEP_MALFORMED;
    int count = two(at), weight = (int16_t)two(at + 2), sign = two(at + 4);
    if (size != NUMERIC_HEAD + 2 * (size_t)count)
        return FEP_MALFORMED;
    if ((sign & NUMERIC_SPECIAL) == NUMERIC_SPECIAL)
        return STATUS_STRANGE;
    if (sign != 0 && sign != NUMERIC_MINUS)
        return FEP_MALFORMED;
    magnitude units;
    int status = units_of(at + NUMERIC_HEAD, count, weight, as->scale, &units);
    if (status != FEP_OK)
        return status;
    if (units >= ten_to(as->precision))
        return STATUS_STRANGE;
    fep_w16(page, c, sign ? -(__int128)units : (__int128)units);
    return FEP_OK;
}

/* One value that is none of NULL; `left` bytes of its row are there, its own included. */
static int value(struct fep_page *page, struct fep_column *c, const uint8_t *at,
                 size_t size, size_t left, const struct fep_pg_column *as)
{
    switch (as->kind) {
    case KIND_WHOLE: return whole(page, c, at, size);
    case KIND_BIT: return bit(page, c, at, size);
    case KIND_DATE: return date(page, c, at, size);
    case KIND_TIME: return instant(page, c, at, size);
    case KIND_DECIMAL: return decimal(page, c, at, size, as);
    case KIND_DOUBLE: return size == 8 ? whole(page, c, at, size) : FEP_MALFORMED;
    default: return fep_some_bytes(page, c, at, size, left);
    }
}

/* The values of a row. A strange one is NULL if the next column has its text. */
static int row(const struct fep_pg_copy *copy, struct fep_page *page, struct input *in)
{
    bool strange = false;
    for (int32_t i = 0; i < copy->width; i++) {
        const struct fep_pg_column *as = &copy->columns[i];
        struct fep_column *c = &page->columns[i];
        if (in->end - in->at < 4)
            return FEP_MALFORMED;
        int32_t size = (int32_t)four(in->at);
        in->at += 4;
        if (strange && (as->kind != KIND_INSTEAD || size == ABSENT))
            return STATUS_STRANGE;
        strange = false;
        if (size == ABSENT) {
            fep_null(page, c);
            continue;
        }
        if (size < 0 || size > in->end - in->at)
            return FEP_MALFORMED;
        size_t left = (size_t)(in->end - in->at);
        int status = value(page, c, in->at, (size_t)size, left, as);
        in->at += size;
        if (status == STATUS_STRANGE) {
            strange = true;
            fep_null(page, c);
        } else if (status != FEP_OK) {
            return status;
        }
    }
    if (strange)
        return STATUS_STRANGE;
    fep_row(page);
    return FEP_OK;
}

static int header(struct input *in)
{
    const size_t least = sizeof SIGNATURE + 8;
    if ((size_t)(in->end - in->at) < least
        || memcmp(in->at, SIGNATURE, sizeof SIGNATURE) != 0
        || four(in->at + sizeof SIGNATURE) != 0) /* flags: none is known */
        return FEP_MALFORMED;
    uint32_t more = four(in->at + sizeof SIGNATURE + 4);
    in->at += least;
    if (more > (size_t)(in->end - in->at))
        return FEP_MALFORMED;
    in->at += more;
    return FEP_OK;
}

/* One message: a row or the trailer, perhaps with the header before it. */
static int message(struct fep_pg_copy *copy, struct fep_page *page, struct input in)
{
    int status = FEP_OK;
    if (copy->ended)
        return FEP_MALFORMED;
    if (!copy->begun) {
        if ((status = header(&in)) != FEP_OK)
            return status;
        copy->begun = 1;
        if (in.at == in.end) /* it may have a message to itself */
            return FEP_OK;
    }
    if (in.end - in.at < 2)
        return FEP_MALFORMED;
    int16_t width = (int16_t)two(in.at);
    in.at += 2;
    if (width == ABSENT)
        copy->ended = 1;
    else if (width == copy->width)
        status = row(copy, page, &in);
    else
        return FEP_MALFORMED;
    return status == FEP_OK && in.at != in.end ? FEP_MALFORMED : status;
}

/* Lets the server get ahead a little. It writes eight KiB at a time, and whoever waits
 * for them is woken by each: two switches of process for some forty rows. */
static void gather(int socket)
{
    static const struct timespec pause = {0, PAUSE_NS};
    int waiting;
    if (socket >= 0 && ioctl(socket, FIONREAD, &waiting) == 0 && waiting < GATHERED)
        nanosleep(&pause, NULL);
}

/* The next message; its length, or what PQgetCopyData says instead. */
static int receive(const struct fep_pg_copy *copy, char **bytes)
{
    int size = copy->receive(copy->connection, bytes, 1);
    if (size != 0 || *bytes != NULL)
        return size;
    gather(copy->socket);
    return copy->receive(copy->connection, bytes, 0);
}

/* Receives rows until the page has no room or so many bytes, or there are no more. */
int fep_pg_page(struct fep_pg_copy *copy, struct fep_page *page, size_t full)
{
    if (copy->width != page->width)
        return FEP_MALFORMED;
    while (page->rows < page->most && page->bytes < full) {
        char *bytes = NULL;
        int size = receive(copy, &bytes);
        if (size == -1)
            return copy->ended ? STATUS_END : STATUS_FAILED;
        if (size < 0)
            return STATUS_FAILED;
        const uint8_t *at = (const uint8_t *)bytes;
        int status = message(copy, page, (struct input){at, at + size});
        copy->release(bytes);
        if (status != FEP_OK)
            return status;
    }
    return STATUS_FULL;
}
