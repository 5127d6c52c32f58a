// SPDX-License-Identifier: Apache-2.0
// A library for another runtime, or for none.
#ifdef REGISTER
__attribute__((visibility("default"))) void* RegisterCustomOps(void* options, const void* api) {
  (void)api;
  return options;
}
#endif
