# The libraries that other projects link, and `make install`. The Makefile includes this file.
#
# libxq goes from a spec to a launch. libxqrt only launches plan images; it needs nothing but the C library.
#
# The libraries export only the public functions (tests/include/abi.txt, tests/include/abi-xqrt.txt). Shared libraries
# hide other symbols by visibility. In static libraries every other symbol is made local, also those of Lua. The static
# libxq contains Lua. The shared libxq needs liblua5.4.so, because distributions build their static Lua in a way that
# only programs can link.

LIBDIR  ?= $(PREFIX)/lib
VERSION := $(shell sh scripts/version.sh)
MAJOR   := $(firstword $(subst ., ,$(VERSION)))
LIBRARIES := $(foreach name,libxq libxqrt,$(BUILD)/$(name).a $(BUILD)/$(name).so.$(VERSION))

# The compiler knows the path of the static Lua. It prints the bare name if there is none.
LUA_ARCHIVE := $(filter /%,$(shell $(CC) -print-file-name=liblua5.4.a))
SHARED_LIBS := -llua5.4 -lcjson -lxxhash -lpthread -ldl -lm
STATIC_LIBS := $(if $(LUA_ARCHIVE),$(filter-out -llua5.4,$(SHARED_LIBS)),$(SHARED_LIBS))

# The compiler's own objcopy and ar, which also work if it compiles for another machine.
tool = $(shell $(CC) -print-prog-name=$(1))

XQRT_LIBS   := -lpthread -ldl -lm

# $(call link_shared,NAME,LIBS): links the library, and makes the names that the loader and the linker look for.
define link_shared
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -shared -Wl,-soname,$(1).so.$(MAJOR) $^ $(2) -o $@
	$(Q)ln -sf $(@F) $(BUILD)/$(1).so.$(MAJOR)
	$(Q)ln -sf $(1).so.$(MAJOR) $(BUILD)/$(1).so
endef
# $(call link_static,NAME,ABI): makes a library of one object, in which only the functions listed in the file ABI are
# global.
define link_static
	$(call say,AR,$@)
	$(Q)$(CC) -r -nostdlib $(filter %.o %.a,$^) -o $(BUILD)/$(1).o
	$(Q)$(call tool,objcopy) --keep-global-symbols=$(2) $(BUILD)/$(1).o
	$(Q)rm -f $@ && $(call tool,ar) rcsD $@ $(BUILD)/$(1).o
endef

$(BUILD)/libxq.so.$(VERSION): $(LIB_OBJ)
	$(call link_shared,libxq,$(SHARED_LIBS))
$(BUILD)/libxqrt.so.$(VERSION): $(XQRT_OBJ)
	$(call link_shared,libxqrt,$(XQRT_LIBS))
$(BUILD)/libxq.a: $(LIB_OBJ) $(LUA_ARCHIVE) tests/include/abi.txt
	$(call link_static,libxq,tests/include/abi.txt)
$(BUILD)/libxqrt.a: $(XQRT_OBJ) tests/include/abi-xqrt.txt
	$(call link_static,libxqrt,tests/include/abi-xqrt.txt)

.PHONY: libraries
libraries: $(LIBRARIES)

# Man pages and completion are made from `xq --help` and the header. HELPER is an xq that runs on this machine.
HELPER ?= $(BUILD)/xq
.PHONY: pages
pages: $(BUILD)/share/options ; @:
$(BUILD)/share/options: $(HELPER) include/xq/xq.h $(wildcard scripts/pages/*) scripts/pages.sh
	$(call say,PAGES,$(@D))
	$(Q)sh scripts/pages.sh '$(HELPER)' '$(@D)'

# $(call setting,NAME): the value of a setting. A `$` that does not begin $( or ${ is an error, because make would
# already have changed what the user wrote: it reads $HOME as $(H)OME.
open_parenthesis := (
setting = $(if $(findstring $$,$(subst $$$(open_parenthesis),,$(subst $${,,$(value $(1))))),$(error $(1): '$(value \
    $(1))' has a '$$'; let the shell replace it, or write $$(HOME)))$($(1))

# Settings of the user go through the environment. A quote in a setting that is pasted into a command would end the
# shell's quotes.
.PHONY: uninstall
install uninstall: export INSTALL_DESTDIR = $(call setting,DESTDIR)
install uninstall: export INSTALL_PREFIX = $(call setting,PREFIX)
install uninstall: export INSTALL_LIBDIR = $(call setting,LIBDIR)
install: all libraries pages
	@DESTDIR="$$INSTALL_DESTDIR" STATIC_LIBS='$(STATIC_LIBS)' \
	    sh scripts/install.sh '$(BUILD)' "$$INSTALL_PREFIX" "$$INSTALL_LIBDIR"
	$(call say,INSTALL,"$$INSTALL_DESTDIR$$INSTALL_PREFIX"'; `make uninstall` with the same settings removes it')
uninstall:
	@DESTDIR="$$INSTALL_DESTDIR" sh scripts/uninstall.sh "$$INSTALL_PREFIX" "$$INSTALL_LIBDIR"

# ---------------------------------------------------------------- packages
TRIPLET = $(shell $(CC) -dumpmachine)
.PHONY: dist deb test-packages
# The source archive, dist/xq-VERSION.tar.gz.
dist:
	$(Q)sh scripts/dist.sh dist

# Debian packages for this machine's architecture, in dist.
deb: all libraries pages
	@CC='$(CC)' sh scripts/deps.sh deb
	$(Q)rm -rf '$(BUILD)/deb'
	$(SUBMAKE) install DESTDIR='$(abspath $(BUILD))/deb/tree' PREFIX=/usr LIBDIR='/usr/lib/$(TRIPLET)'
	$(Q)sh scripts/deb.sh '$(BUILD)/deb/tree' '/usr/lib/$(TRIPLET)' '$(BUILD)/deb/work' dist

# Checks the packages and the archive, and builds xq from the archive.
test-packages: deb dist
	$(Q)env -u MAKEFLAGS CC='$(CC)' sh scripts/test-packages.sh '$(BUILD)'

# ---------------------------------------------------------------- another machine
# Builds the libraries and the command line for aarch64 in $(BUILD)/aarch64, against Debian's packages, which are
# unpacked into a folder of their own.
AARCH64_ROOT  = $(abspath $(BUILD))/aarch64-root
AARCH64_CC    = aarch64-linux-gnu-gcc --sysroot=$(AARCH64_ROOT)
AARCH64_MAKE  = +@$(MAKE) --no-print-directory BUILD='$(BUILD)/aarch64' CC='$(AARCH64_CC)' \
    LUA_INCLUDE='$(AARCH64_ROOT)/usr/include/lua5.4' TSAN=1
AARCH64_TESTS = $(addprefix $(BUILD)/aarch64/tests/,test_half test_rounding test_simulate test_publish test_sim_instructions)
.PHONY: aarch64 test-aarch64
aarch64:
	@sh scripts/deps.sh aarch64
	$(Q)sh scripts/sysroot.sh arm64 aarch64-linux-gnu '$(AARCH64_ROOT)'
	$(AARCH64_MAKE) all libraries

# Runs the aarch64 build under qemu, and tests of code that has a special form on x86. TSAN=1 selects the stand-in for
# Criterion.
test-aarch64: aarch64 all libraries
	$(AARCH64_MAKE) $(AARCH64_TESTS) $(BUILD)/aarch64/tests/libxqrt_sim.so
	$(Q)$(RUN_ENV) XQ_CACHE_DIR='$(TEST_CACHE)' HOSTCC='$(CC)' sh scripts/test-aarch64.sh '$(BUILD)' '$(AARCH64_ROOT)' \
	    '$(AARCH64_CC)' $(AARCH64_TESTS)
