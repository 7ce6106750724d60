// A plugin of qemu-user (7.2 or newer) that counts the instructions a program executes between two markers, and writes
// them down: `hint #0x46` begins, `hint #0x47` ends. The plugin interface is declared here, for Debian has no header.
//
// gcc -O2 -shared -fPIC -o libtrace.so trace.c
// qemu-aarch64 -plugin ./libtrace.so,count=FILE[,trace=FILE] PROGRAM
// count: one number. trace: each executed instruction as llvm-mc -disassemble reads it.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
extern struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
extern const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb*));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, void (*)(unsigned, void*),
                                                   enum qemu_plugin_cb_flags, void*);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void*), void*);

EXPORT int qemu_plugin_version = 1;

static const uint32_t kBegin = 0xd50328df, kEnd = 0xd50328ff;
static bool active;
static uint64_t count;
static FILE *counts, *trace;

static void executed(unsigned cpu, void* data) {
  (void)cpu;
  const uint32_t code = (uint32_t)(uintptr_t)data;
  if (code == kBegin || code == kEnd) {
    active = code == kBegin;
  } else if (active) {
    ++count;
    if (trace) {
      fprintf(trace, "0x%02x 0x%02x 0x%02x 0x%02x\n", code & 255, code >> 8 & 255, code >> 16 & 255, code >> 24);
    }
  }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
    struct qemu_plugin_insn* in = qemu_plugin_tb_get_insn(tb, i);
    uint32_t code;
    memcpy(&code, qemu_plugin_insn_data(in), 4);
    qemu_plugin_register_vcpu_insn_exec_cb(in, executed, QEMU_PLUGIN_CB_NO_REGS, (void*)(uintptr_t)code);
  }
}

static void ended(qemu_plugin_id_t id, void* data) {
  (void)id, (void)data;
  fprintf(counts, "%llu\n", (unsigned long long)count);
  fclose(counts);
  if (trace) fclose(trace);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc, char** argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (!strncmp(argv[i], "count=", 6)) counts = fopen(argv[i] + 6, "w");
    if (!strncmp(argv[i], "trace=", 6)) trace = fopen(argv[i] + 6, "w");
  }
  if (!counts) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
