/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the values of a column of bytes are texts in UTF-8.
 *
 * All of the column's bytes are walked at once, for most texts of a register are short;
 * then no value may begin within a character. Together that is each value's validity.
 * The walk has no branches, so that the compiler makes it one of many bytes at a time.
 * Source: RFC 3629, section 4: no overlong form, no surrogate, nothing above 10FFFF.
 */
#include "columns.h"

enum { WORDS = 16 };

static const uint8_t *behind_ascii(const uint8_t *p, const uint8_t *end)
{
    while (end - p >= WORDS) {
        uint64_t word[2];
        memcpy(word, p, WORDS);
        if ((word[0] | word[1]) & UINT64_C(0x8080808080808080))
            break;
        p += WORDS;
    }
    while (p < end && *p < 0x80)
        p++;
    return p;
}

static inline uint8_t follows(uint8_t c) { return (c & 0xC0) == 0x80; }

/* 1 if byte d may not stand behind c, which stands behind b, and that behind a. */
static inline uint8_t wrong(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    uint8_t should = (a >= 0xF0) | (b >= 0xE0) | (c >= 0xC0);
    uint8_t overlong = ((c == 0xE0) & (d < 0xA0)) | ((c == 0xF0) & (d < 0x90));
    uint8_t beyond = ((c == 0xED) & (d >= 0xA0)) | ((c == 0xF4) & (d >= 0x90));
    uint8_t never = ((d & 0xFE) == 0xC0) | (d >= 0xF5);
    return (should ^ follows(d)) | overlong | beyond | never;
}

/* Where the processor has wider registers than every x86-64, it uses them; under the
 * address sanitizer never, so that tests run both. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define AS_WIDE_AS_IT_GETS __attribute__((target_clones("default", "avx2")))
#else
#define AS_WIDE_AS_IT_GETS
#endif

/* Whether bytes are UTF-8; what stands before them is. */
AS_WIDE_AS_IT_GETS static int whole(const uint8_t *p, size_t size)
{
    uint8_t bad = 0, last[3] = {0, 0, 0};
    for (size_t i = 0; i < size && i < 3; i++) {
        bad |= wrong(last[0], last[1], last[2], p[i]);
        memmove(last, last + 1, 2);
        last[2] = p[i];
    }
    for (size_t i = 3; i < size; i++)
        bad |= wrong(p[i - 3], p[i - 2], p[i - 1], p[i]);
    if (size >= 3)
        memcpy(last, p + size - 3, 3);
    return !bad && last[0] < 0xF0 && last[1] < 0xE0 && last[2] < 0xC0;
}

/* 1 if each value is valid; `offsets` has one more than there are rows. */
int fep_utf8(const int32_t *offsets, int64_t rows, const uint8_t *data)
{
    const uint8_t *end = data + offsets[rows];
    const uint8_t *p = behind_ascii(data + offsets[0], end);
    if (p == end)
        return 1;
    if (!whole(p, (size_t)(end - p)))
        return 0;
    while (rows > 0 && data + offsets[rows - 1] == end) /* nothing begins there */
        rows--;
    uint8_t within = 0;
    for (int64_t i = 0; i < rows; i++)
        within |= follows(data[offsets[i]]);
    return !within;
}

/* The same of offsets that come from somebody else, into `size` bytes. */
int fep_sound_utf8(const int32_t *offsets, int64_t rows, const uint8_t *data, int64_t size)
{
    int falls = offsets[0] < 0 || offsets[rows] > size;
    for (int64_t i = 0; i < rows; i++)
        falls |= offsets[i + 1] < offsets[i];
    return !falls && fep_utf8(offsets, rows, data);
}
