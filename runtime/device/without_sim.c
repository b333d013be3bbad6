/* Linked in place of sim/ into a library that launches on GPUs alone. */
#include "device.h"

device_opener *const device_software = NULL;
