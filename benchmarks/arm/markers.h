// Where trace.c begins and ends; hints that no processor knows, which do nothing.
#pragma once

static inline void begin_trace() { asm volatile("hint #0x46" ::: "memory"); }
static inline void end_trace() { asm volatile("hint #0x47" ::: "memory"); }
