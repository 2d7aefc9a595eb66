/* Character classes as Hugging Face `tokenizers` sees them (generated; see
 * tests/reference/unicode.py).  Ranges are sorted and disjoint. */
#ifndef SIREN_TEXT_UNICODE_TABLES_H
#define SIREN_TEXT_UNICODE_TABLES_H

#include <stdint.h>

struct unicode_range {
    uint32_t first, last;
};
/* lower case: first … last map to `to`, to + 1, …; stand-ins: all map to `to`. */
struct unicode_map_range {
    uint32_t first, last, to;
};

extern const struct unicode_range unicode_punctuation_ranges[], unicode_numeric_ranges[],
    unicode_word_ranges[], unicode_control_ranges[], unicode_nonspacing_ranges[],
    unicode_mark_ranges[], unicode_frozen_ranges[];
extern const int unicode_punctuation_count, unicode_numeric_count, unicode_word_count,
    unicode_control_count, unicode_nonspacing_count, unicode_mark_count, unicode_frozen_count;
extern const struct unicode_map_range unicode_lower_ranges[], unicode_stand_in_ranges[];
extern const int unicode_lower_count, unicode_stand_in_count;

#endif
