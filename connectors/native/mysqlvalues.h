/* SPDX-License-Identifier: Apache-2.0 */
/* Texts as MariaDB and MySQL print values, parsed to what the columns hold.
 *
 * Nothing is rounded or guessed: each function gives 0 for a text that is not exactly
 * such a value, and 1 after it has written the value to `out`.
 */
#ifndef FEP_MYSQLVALUES_H
#define FEP_MYSQLVALUES_H

#include <stddef.h>
#include <stdint.h>

static int is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

/* Exactly `count` digits; -1 if one is none. */
static int32_t digits(const uint8_t *p, int count)
{
    int32_t found = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(p[i]))
            return -1;
        found = found * 10 + (p[i] - '0');
    }
    return found;
}

static int parse_integer(const uint8_t *p, size_t size, int64_t *out)
{
    const uint8_t *end = p + size;
    int negative = size > 0 && *p == '-';
    p += negative;
    if (p == end)
        return 0;
    while (end - p > 1 && *p == '0') /* zerofill */
        p++;
    if (end - p > 19)
        return 0;
    uint64_t value = 0; /* 19 digits fit */
    for (; p < end; p++) {
        if (!is_digit(*p))
            return 0;
        value = value * 10 + (uint64_t)(*p - '0');
    }
    if (value > (uint64_t)INT64_MAX + (uint64_t)negative)
        return 0;
    *out = (int64_t)(negative ? 0 - value : value);
    return 1;
}

struct number {
    unsigned __int128 value;
    int digits; /* without zeros in front */
};

/* One digit more, unless there would be more than `most`, which is at most 38. */
static int add_digit(struct number *n, uint8_t c, int most)
{
    if (!is_digit(c))
        return 0;
    if (n->digits == 0 && c == '0')
        return 1;
    if (++n->digits > most)
        return 0;
    n->value = n->value * 10 + (unsigned)(c - '0');
    return 1;
}

/* At most `most` digits, 38 or fewer, of which `scale` stand after the point. */
static int parse_decimal(const uint8_t *p, size_t size, int32_t most, int32_t scale,
                         __int128 *out)
{
    const uint8_t *end = p + size;
    int negative = size > 0 && *p == '-';
    struct number n = {0, 0};
    p += negative;
    const uint8_t *begin = p;
    for (; p < end && *p != '.'; p++)
        if (!add_digit(&n, *p, most))
            return 0;
    if (p == begin || (p < end && p + 1 == end)) /* ".5" and "5." are no numbers */
        return 0;
    p += p < end;
    for (; p < end && scale > 0; p++, scale--)
        if (!add_digit(&n, *p, most))
            return 0;
    for (; p < end; p++) /* what the item has no place for is nothing */
        if (*p != '0')
            return 0;
    for (; scale > 0; scale--)
        if (!add_digit(&n, '0', most))
            return 0;
    *out = negative ? -(__int128)n.value : (__int128)n.value;
    return 1;
}

/* Days since 1970-01-01 of a date in the Gregorian calendar, also before 1582.
 * Algorithm: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static int32_t days_of(int32_t year, int32_t month, int32_t day)
{
    int32_t y = year - (month <= 2) + 400; /* from March on, and never negative */
    int32_t era = y / 400, of_era = y % 400;
    int32_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year
           - 719468 - 146097;
}

/* YYYY-MM-DD: ten bytes. */
static int parse_date(const uint8_t *p, int32_t *out)
{
    static const uint8_t longest[13] = {0,  31, 29, 31, 30, 31, 30,
                                        31, 31, 30, 31, 30, 31};
    int32_t year = digits(p, 4), month = digits(p + 5, 2), day = digits(p + 8, 2);
    if (p[4] != '-' || p[7] != '-' || year < 0 || month < 1 || month > 12 || day < 1
        || day > longest[month])
        return 0;
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (month == 2 && day == 29 && !leap)
        return 0;
    *out = days_of(year, month, day);
    return 1;
}

/* Up to six digits of a second's fraction. */
static int parse_fraction(const uint8_t *p, size_t size, int64_t *out)
{
    if (size < 1 || size > 6)
        return 0;
    int32_t found = digits(p, (int)size);
    if (found < 0)
        return 0;
    for (; size < 6; size++)
        found *= 10;
    *out += found;
    return 1;
}

/* YYYY-MM-DD HH:MM:SS, then a point and up to six digits. */
static int parse_moment(const uint8_t *p, size_t size, int64_t *out)
{
    int32_t day;
    if (size < 19 || !parse_date(p, &day))
        return 0;
    int32_t hour = digits(p + 11, 2), minute = digits(p + 14, 2);
    int32_t second = digits(p + 17, 2);
    if (p[10] != ' ' || p[13] != ':' || p[16] != ':')
        return 0;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59)
        return 0;
    int64_t seconds = (int64_t)day * 86400 + hour * 3600 + minute * 60 + second;
    *out = seconds * 1000000;
    return size == 19 || (p[19] == '.' && parse_fraction(p + 20, size - 20, out));
}

#endif
