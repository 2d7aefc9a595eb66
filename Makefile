# SIREN.  `make` builds build/siren and build/libsiren.{a,so}, after installing
# what it needs (scripts/setup.sh).  `make help` lists the rest.

VERSION = 0.1.0
SOVERSION = 0

BUILD ?= build
CC ?= cc
SANITIZE ?=
FUZZ_SECONDS ?= 600
FUZZ_CC ?= $(shell command -v clang || command -v clang-14 || echo clang)
PREFIX ?= /usr/local
comma := ,
# Everything is made in $(OUT): one folder for each set of sanitizers.
OUT := $(BUILD)$(if $(SANITIZE),/san-$(subst $(comma),-,$(SANITIZE)))

PUBLIC_GOALS = all lib tests check check-slow fuzz bench soak demo install uninstall
# Until the distribution's packages are there (checked again when setup.sh
# changes), these goals start with scripts/setup.sh and then call make anew, which
# then sees pkg-config's answers.
STAMP := $(BUILD)/.setup
GOALS := $(if $(MAKECMDGOALS),$(filter-out clean help format fetch setup,$(MAKECMDGOALS)),all)
ifeq ($(shell test $(STAMP) -nt scripts/setup.sh && echo ready),)
  ifneq ($(GOALS),)
    NEEDS_SETUP = 1
  endif
endif

ifdef NEEDS_SETUP
.PHONY: $(GOALS) after-setup
$(GOALS): after-setup ; @:
after-setup:
	@scripts/setup.sh build
	@mkdir -p $(BUILD) && touch $(STAMP)
	@$(MAKE) --no-print-directory $(GOALS)
else

PKGS = sqlite3 zlib libzstd jansson libpcre2-8 libutf8proc libcurl libxxhash
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LIBS = $(PKG_LIBS) -llbfgs -lm -pthread

CSTD = -std=c17 -D_GNU_SOURCE
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
       -Wvla -Wformat=2 -Wno-format-nonliteral -Wno-unused-parameter
# -ffp-contract=off: the numeric contract (docs/numerics.md) says which products are fused.
FLOAT = -ffp-contract=off -fno-math-errno
CFLAGS ?= -O2 -g
ALL_CFLAGS = $(CSTD) $(WARN) $(FLOAT) $(CFLAGS) -fPIC -pthread -Iinclude -Isrc \
             -DSIREN_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
ALL_LDFLAGS = $(LDFLAGS)
ifneq ($(SANITIZE),)
  ALL_CFLAGS += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
  ALL_LDFLAGS += -fsanitize=$(SANITIZE)
endif

# A line a file; V=1: whole commands; make -s: nothing.
silent := $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
say = $(if $(V)$(silent),,@printf '  %-4s %s\n' '$1' '$@';)

LIB_SRC := $(sort $(wildcard src/base/*.c src/weights/*.c src/tensor/*.c src/text/*.c src/model/*.c src/recs/*.c \
                  src/train/*.c src/store/*.c src/app/*.c))
CLI_SRC := $(sort $(wildcard src/cli/*.c))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
BENCH_SRC := $(sort $(wildcard bench/*.c))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(OUT)/obj/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(OUT)/obj/%.o)
TESTS := $(TEST_SRC:tests/%.c=$(OUT)/tests/%)
BENCHES := $(BENCH_SRC:bench/%.c=$(OUT)/bench/%)
SONAME = libsiren.so.$(SOVERSION)
SO = $(OUT)/libsiren.so.$(VERSION)

.DEFAULT_GOAL := all
.PHONY: all lib tests check check-slow demo bench install uninstall fuzz FORCE

## all          build/siren, build/libsiren.a, build/libsiren.so (default)
all: lib $(OUT)/siren
lib: $(OUT)/libsiren.a $(if $(SANITIZE),,$(OUT)/libsiren.so)

# One kernel source, one object for each instruction set (src/tensor/isa_*.c).
ISA_OPTIMISE ?= -O3
$(OUT)/obj/src/tensor/isa_avx2.o: ISA_CFLAGS = $(ISA_OPTIMISE) -mavx2 -mfma -mf16c
$(OUT)/obj/src/tensor/isa_avx512.o: ISA_CFLAGS = $(ISA_OPTIMISE) -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq

# Long loops over vectors, outside the kernels.
$(OUT)/obj/src/train/theorem_solve.o: ISA_CFLAGS = -O3
$(OUT)/obj/src/tensor/pack.o: ISA_CFLAGS = -O3

# Objects are made anew when the compiler or its flags change.
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))' >$@.new
	@cmp -s $@ $@.new && rm $@.new || mv $@.new $@

$(OUT)/obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) $(ISA_CFLAGS) -MMD -MP -c $< -o $@

# The archive is made anew when the list of its sources changes, too.
$(OUT)/lib-sources: FORCE
	@mkdir -p $(@D)
	@echo '$(LIB_SRC)' | cmp -s $@ - || echo '$(LIB_SRC)' >$@

$(OUT)/libsiren.a: $(LIB_OBJ) $(OUT)/lib-sources
	@rm -f $@
	$(call say,AR)ar rcs $@ $(LIB_OBJ)

$(OUT)/libsiren.so: $(SO)
	@ln -sf $(<F) $(OUT)/$(SONAME)
	@ln -sf $(SONAME) $@
$(SO): $(LIB_OBJ) $(OUT)/lib-sources src/libsiren.map
	$(call say,LINK)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=src/libsiren.map -Wl,-z,defs \
	    $(ALL_LDFLAGS) -o $@ $(LIB_OBJ) $(LIBS)

$(OUT)/siren: $(CLI_OBJ) $(OUT)/libsiren.a
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# ---- Tests ----

# The frame of the command line is tested from inside: without its main().
$(OUT)/tests/test_cli_frame: INSIDE = $(filter-out %/main.o,$(CLI_OBJ))
$(OUT)/tests/test_cli_frame: $(CLI_OBJ)
$(OUT)/tests/test_cli $(OUT)/tests/test_cmd_tokenize: $(OUT)/siren

tests: $(TESTS)
$(OUT)/tests/%: tests/%.c $(OUT)/libsiren.a $(OUT)/flags
	@mkdir -p $(@D)
	$(call say,TEST)$(CC) $(ALL_CFLAGS) -Itests -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(INSIDE) $(OUT)/libsiren.a $(LIBS) -lcmocka

## check        all tests; SANITIZE=address,undefined or thread; ONLY="pool file" for some
check: all $(if $(ONLY),$(ONLY:%=$(OUT)/tests/test_%),tests)
	@$(if $(SANITIZE),SIREN_SANITIZED=1) CC="$(CC)" CXX="$(CXX)" scripts/check.sh $(OUT) $(ONLY)
## check-slow   all tests, with those on real data that take minutes
check-slow: all $(if $(ONLY),$(ONLY:%=$(OUT)/tests/test_%),tests)
	@SIREN_SLOW=1 CC="$(CC)" CXX="$(CXX)" scripts/check.sh $(OUT) $(ONLY)

## check-reference  our adapters and exported models, read by transformers and PEFT (a download of 6 GB)
check-reference: all $(OUT)/tests/test_adapter
	@scripts/setup.sh fetch bench
	@scripts/check_reference.sh $(OUT)

# ---- Fuzzing: the library and the targets, compiled by clang with libFuzzer ----
# The kernels meet no foreign bytes; with sanitizers at -O3 clang takes minutes for them.

## fuzz         run every parser's target FUZZ_SECONDS (600) each; ONLY="gguf" for some
FUZZ_NAMES := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
fuzz:
	@FUZZ_CC="$(FUZZ_CC)" scripts/setup.sh fuzz
	@$(MAKE) --no-print-directory fuzz-targets CC="$(FUZZ_CC)" BUILD=$(BUILD)/fuzz \
	    SANITIZE=address,undefined CFLAGS="-O1 -g -fsanitize=fuzzer-no-link" \
	    ISA_OPTIMISE="-O1 -fno-sanitize=all"
	@scripts/fuzz.sh $(BUILD)/fuzz $(FUZZ_SECONDS) $(or $(ONLY),$(FUZZ_NAMES))

.PHONY: fuzz-targets
fuzz-targets: $(patsubst %,$(BUILD)/targets/%,$(or $(ONLY),$(FUZZ_NAMES)))
$(BUILD)/targets/%: tests/fuzz/fuzz_%.c $(OUT)/libsiren.a
	@mkdir -p $(@D)
	$(call say,FUZZ)$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -Itests -fsanitize=fuzzer,address,undefined -o $@ $< $(OUT)/libsiren.a $(LIBS)

# ---- Benchmarks, demonstration, installation ----

## bench        speed and memory (bench/README.md)
# Benchmarks stand beside OpenBLAS; nothing else links it.
$(OUT)/bench/%: bench/%.c $(OUT)/libsiren.a $(OUT)/flags
	@mkdir -p $(@D)
	$(call say,BENCH)$(CC) $(ALL_CFLAGS) $(shell pkg-config --cflags openblas 2>/dev/null) -MMD -MP $(ALL_LDFLAGS) \
	    -o $@ $< $(OUT)/libsiren.a $(LIBS) $(shell pkg-config --libs openblas 2>/dev/null)
bench: all
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory bench-programs
	@scripts/bench.sh $(OUT)
.PHONY: bench-programs soak
bench-programs: $(BENCHES)

## soak         a million prompts on a tiny model: memory stays flat
soak: $(OUT)/bench/soak
	$(OUT)/bench/soak

## demo         from nothing to predictions on MovieLens 100K, with explanations
demo: all
	@scripts/demo.sh $(OUT)/siren

## install      into DESTDIR/PREFIX (/usr/local); uninstall takes it away
BINDIR = $(DESTDIR)$(PREFIX)/bin
LIBDIR = $(DESTDIR)$(PREFIX)/lib
INCLUDEDIR = $(DESTDIR)$(PREFIX)/include
MANDIR = $(DESTDIR)$(PREFIX)/share/man/man1
BASHDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
install: all
	install -d $(BINDIR) $(LIBDIR)/pkgconfig $(INCLUDEDIR)/siren $(MANDIR) $(BASHDIR)
	install -m 755 $(OUT)/siren $(BINDIR)/siren
	install -m 644 $(OUT)/libsiren.a $(LIBDIR)/libsiren.a
	install -m 755 $(SO) $(LIBDIR)/$(notdir $(SO))
	ln -sf $(notdir $(SO)) $(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(LIBDIR)/libsiren.so
	install -m 644 include/siren/*.h $(INCLUDEDIR)/siren
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' siren.pc.in >$(LIBDIR)/pkgconfig/siren.pc
	$(OUT)/siren man --directory $(MANDIR)
	$(OUT)/siren completion bash >$(BASHDIR)/siren
uninstall:
	rm -f $(BINDIR)/siren $(LIBDIR)/libsiren.a $(LIBDIR)/libsiren.so* \
	    $(LIBDIR)/pkgconfig/siren.pc $(MANDIR)/siren.1 $(MANDIR)/siren-*.1 $(BASHDIR)/siren
	rm -rf $(INCLUDEDIR)/siren

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d) $(BENCHES:=.d)
endif

.PHONY: setup fetch format clean help
## fetch        models/ and data/: SmolLM2, MiniLM, MovieLens 100K (180 MB)
fetch:
	@scripts/fetch.sh
## setup        install the packages that the build needs (apt)
setup:
	@scripts/setup.sh build fetch
## format       clang-format over all sources
format:
	clang-format -i $$(git ls-files '*.c' '*.h')
## clean        remove build/
clean:
	rm -rf $(BUILD)
## help         this list
help:
	@sed -n 's/^## /  make /p' Makefile
