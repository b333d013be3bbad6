# The libraries that other projects link, and `make install`. Included by the Makefile.
#
# Only the public functions (tests/abi.txt) leave the libraries: in the shared one by visibility, in the
# static one by turning every other symbol local, Lua's too. The static one holds Lua; the shared one needs
# liblua5.4.so, for distributions build their static Lua in a way that only programs can link.

LIBDIR  ?= $(PREFIX)/lib
VERSION := $(shell awk '/define XQ_VERSION_M|define XQ_VERSION_P/ { printf "%s%s", dot, $$3; dot = "." }' include/xq/xq.h)
SONAME  := libxq.so.$(firstword $(subst ., ,$(VERSION)))
LIBRARIES := $(BUILD)/libxq.a $(BUILD)/libxq.so.$(VERSION)

# The compiler knows where the static Lua is; it answers with the bare name when there is none.
LUA_ARCHIVE := $(filter /%,$(shell $(CC) -print-file-name=liblua5.4.a))
SHARED_LIBS := -llua5.4 -lcjson -lxxhash -lpthread -ldl -lm
STATIC_LIBS := $(if $(LUA_ARCHIVE),$(filter-out -llua5.4,$(SHARED_LIBS)),$(SHARED_LIBS))

$(BUILD)/libxq.so.$(VERSION): $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -shared -Wl,-soname,$(SONAME) $^ $(SHARED_LIBS) -o $@
	$(Q)ln -sf $(@F) $(BUILD)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(BUILD)/libxq.so

$(BUILD)/libxq.a: $(LIB_OBJ) tests/abi.txt
	$(call say,AR,$@)
	$(Q)$(CC) -r -nostdlib $(LIB_OBJ) $(LUA_ARCHIVE) -o $(BUILD)/libxq.o
	$(Q)objcopy --keep-global-symbols=tests/abi.txt $(BUILD)/libxq.o
	$(Q)rm -f $@ && ar rcsD $@ $(BUILD)/libxq.o

.PHONY: libraries
libraries: $(LIBRARIES)

install: all libraries
	@DESTDIR='$(DESTDIR)' STATIC_LIBS='$(STATIC_LIBS)' sh scripts/install.sh '$(BUILD)' '$(PREFIX)' '$(LIBDIR)'
