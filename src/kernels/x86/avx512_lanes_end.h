/* avx512_lanes_end.h: takes the words of avx512_lanes_words.h back. */
#undef L
#undef ROWS
#undef LI
#undef LF
#undef LV
#undef LV_LOAD
#undef LV_ZERO
