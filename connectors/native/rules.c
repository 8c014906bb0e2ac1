/* SPDX-License-Identifier: Apache-2.0 */
/* Which values of a column of texts a rule does not take.
 *
 * Each function marks rows and says how many it has marked. A value that is taken is
 * surely right; one that is marked may still be asked about by itself. Null is never
 * marked. Whatever the offsets say, no byte outside of the column's data is read.
 * Sources: GB 11643-1999 (citizen numbers), GB 32100-2015 (credit codes).
 */
#include "columns.h"

struct fep_texts {
    const uint8_t *validity; /* a bit a row as in fep_column, or NULL: no row is null */
    const int32_t *offsets;
    const uint8_t *data;
    int64_t size;        /* bytes of data */
    int64_t first, rows; /* of validity and offsets */
};

struct text {
    const uint8_t *p;
    size_t size;
};

static inline int is_null(const struct fep_texts *texts, int64_t row)
{
    int64_t r = texts->first + row;
    return texts->validity && !(texts->validity[r >> 3] >> (r & 7) & 1);
}

/* 0 if the row's value does not lie in the data. */
static inline int text_of(const struct fep_texts *texts, int64_t row, struct text *out)
{
    const int32_t *at = texts->offsets + texts->first + row;
    if (at[0] < 0 || at[1] < at[0] || at[1] > texts->size)
        return 0;
    out->size = (size_t)at[1] - (size_t)at[0];
    out->p = out->size ? texts->data + at[0] : NULL;
    return 1;
}

/* --- numbers of 18 characters ----------------------------------------------------- */

enum { SIZE = 18, CHECKED = 17 };

/* The number that digits mean; what they are, the caller has seen. */
static inline uint32_t number(const uint8_t *p, int count)
{
    uint32_t found = 0;
    for (int i = 0; i < count; i++)
        found = found * 10 + (uint32_t)(p[i] - '0');
    return found;
}

/* Eight digits: a day that was. There was no year 0. */
static inline int is_day(const uint8_t *p)
{
    static const uint8_t longest[13] = {0,  31, 29, 31, 30, 31, 30,
                                        31, 31, 30, 31, 30, 31};
    uint32_t year = number(p, 4), month = number(p + 4, 2), day = number(p + 6, 2);
    if (year == 0 || month > 12 || day == 0 || day > longest[month])
        return 0;
    if (month != 2 || day != 29)
        return 1;
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static inline int is_citizen_id(const uint8_t *p)
{
    static const uint8_t weights[CHECKED] = {7, 9, 10, 5, 8, 4, 2, 1, 6,
                                             3, 7, 9,  10, 5, 8, 4, 2};
    static const char check[] = "10X98765432";
    uint16_t total = 0;
    uint8_t odd = 0;
    for (int i = 0; i < CHECKED; i++) {
        uint8_t digit = (uint8_t)(p[i] - '0');
        odd |= digit > 9;
        total = (uint16_t)(total + digit * weights[i]);
    }
    return !odd && p[CHECKED] == (uint8_t)check[total % 11] && is_day(p + 6);
}

static inline int is_credit_code(const uint8_t *p)
{
    static const uint8_t weights[CHECKED] = {1,  3,  9,  27, 19, 26, 16, 17, 20,
                                             29, 25, 13, 8,  24, 10, 30, 28};
    /* Where a character stands in the code's alphabet, from 1 on: it has no I, O, S, V
     * and Z. */
    static const uint8_t place[256] = {
        ['0'] = 1,  2,  3,  4,  5,  6,  7,  8, 9, 10,
        ['A'] = 11, 12, 13, 14, 15, 16, 17, 18,
        ['J'] = 19, 20, 21, 22, 23,
        ['P'] = 24, 25, 26,
        ['T'] = 27, 28,
        ['W'] = 29, 30, 31,
    };
    uint32_t total = 0, odd = 0;
    for (int i = 0; i < CHECKED; i++) {
        odd |= place[p[i]] == 0;
        total += (place[p[i]] - 1u) * weights[i];
    }
    uint32_t check = place[p[CHECKED]] - 1u;
    return !odd && check < 31 && (total + check) % 31 == 0;
}

/* Marks are no part of a column: `restrict` saves to look at it anew after each. */
static inline int64_t doubtful(const struct fep_texts *texts, uint8_t *restrict marks,
                               int (*good)(const uint8_t *p))
{
    int64_t found = 0;
    for (int64_t i = 0; i < texts->rows; i++) {
        struct text t;
        marks[i] = !is_null(texts, i)
                   && !(text_of(texts, i, &t) && t.size == SIZE && good(t.p));
        found += marks[i];
    }
    return found;
}

int64_t fep_doubtful_citizen_ids(const struct fep_texts *texts, uint8_t *restrict marks)
{
    return doubtful(texts, marks, is_citizen_id);
}

int64_t fep_doubtful_credit_codes(const struct fep_texts *texts,
                                  uint8_t *restrict marks)
{
    return doubtful(texts, marks, is_credit_code);
}

/* --- lists ------------------------------------------------------------------------ */

enum { MOST = 128, SLOT_BITS = 9, SLOTS = 1 << SLOT_BITS };

/* A text with its first and its last bytes: of up to 16 they and its size say all. */
struct listed {
    struct text text;
    uint64_t begin, end;
};

struct list {
    struct listed values[MOST];
    uint8_t slots[SLOTS]; /* a value's number from 1 on, at its hash or behind; or 0 */
};

static inline uint64_t eight(const uint8_t *p)
{
    uint64_t found;
    memcpy(&found, p, sizeof found);
    return found;
}

static inline uint32_t four(const uint8_t *p)
{
    uint32_t found;
    memcpy(&found, p, sizeof found);
    return found;
}

static inline struct listed with_ends(struct text t)
{
    struct listed out = {t, 0, 0};
    if (t.size >= 8) {
        out.begin = eight(t.p);
        out.end = eight(t.p + t.size - 8);
    } else if (t.size >= 4) {
        out.begin = four(t.p);
        out.end = four(t.p + t.size - 4);
    } else if (t.size > 0) {
        out.begin = (uint64_t)t.p[0] | (uint64_t)t.p[t.size / 2] << 8;
        out.end = t.p[t.size - 1];
    }
    return out;
}

static inline int same(const struct listed *a, const struct listed *b)
{
    if (a->text.size != b->text.size || a->begin != b->begin || a->end != b->end)
        return 0;
    return a->text.size <= 16 || !memcmp(a->text.p, b->text.p, a->text.size);
}

/* Where a text stands, or the free slot where it would: there are more slots than
 * values, so one is free. */
static inline uint8_t *slot_of(struct list *list, const struct listed *text)
{
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15); /* spreads the bits upwards */
    uint64_t mixed = (text->begin * odd ^ text->end) * odd;
    for (uint64_t at = mixed >> (64 - SLOT_BITS);; at++) {
        uint8_t *slot = &list->slots[at % SLOTS];
        if (!*slot || same(&list->values[*slot - 1], text))
            return slot;
    }
}

static inline int holds(struct list *list, struct text t)
{
    struct listed text = with_ends(t);
    return *slot_of(list, &text) != 0;
}

static int fill(struct list *list, const struct fep_texts *values)
{
    if (values->rows > MOST)
        return FEP_LARGE;
    memset(list->slots, 0, sizeof list->slots);
    for (int64_t i = 0; i < values->rows; i++) {
        struct text t;
        if (is_null(values, i) || !text_of(values, i, &t))
            return FEP_MALFORMED;
        list->values[i] = with_ends(t);
        *slot_of(list, &list->values[i]) = (uint8_t)(i + 1);
    }
    return FEP_OK;
}

/* Marks what is none of the values. FEP_LARGE: those are too many; FEP_MALFORMED: one
 * is null. The table is made for each page: it is small, and nobody has to keep it. */
int64_t fep_unlisted(const struct fep_texts *texts, const struct fep_texts *values,
                     uint8_t *restrict marks)
{
    struct list list;
    int status = fill(&list, values);
    if (status != FEP_OK)
        return status;
    int64_t found = 0;
    for (int64_t i = 0; i < texts->rows; i++) {
        struct text t;
        marks[i] = !is_null(texts, i) && !(text_of(texts, i, &t) && holds(&list, t));
        found += marks[i];
    }
    return found;
}
